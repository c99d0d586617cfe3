"""How long a study has been running, all its runs together."""

import shlex
import time

from optuna.study import Study

KEY = "spent_s"


class Clock:
    """Runs from its making; the study keeps what earlier runs took.

    Args:
        study: opened for writing.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._before = float(study.user_attrs.get(KEY, 0.0))
        self._began = time.monotonic()

    @property
    def spent_s(self) -> float:
        """Seconds, this run's included."""
        return self._before + time.monotonic() - self._began

    def store(self) -> None:
        """Keeps them in the study: what was not stored is lost with a crash."""
        self._study.set_user_attr(KEY, self.spent_s)


def go_on_with(command: str, study: Study | None, timeout_s: float) -> str:
    """The command that goes on with a study: with twice its time, where that is spent.

    Args:
        command: the one that was given.
        study: as it was stopped.
        timeout_s: the study's time; 0 for any.
    """
    if study is None or not timeout_s or study.user_attrs.get(KEY, 0.0) < timeout_s:
        return command
    words, flag = shlex.split(command), "--timeout"
    if flag in words:
        at = words.index(flag)
        words[at : at + 2] = []
    kept = [word for word in words if not word.startswith(f"{flag}=")]
    return shlex.join([*kept, flag, f"{2 * timeout_s:g}"])
