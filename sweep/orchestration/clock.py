"""How long a study has been running, all its runs together."""

import shlex
import time

from optuna.study import Study

from sweep.results.record import read_study, write_study


class Clock:
    """Runs from its making; the study keeps what all its runs took, also those beside each other.

    Args:
        study: opened for writing.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._stored = read_study(study).spent_s
        self._since = time.monotonic()

    @property
    def spent_s(self) -> float:
        """Seconds, this run's included."""
        return self._stored + time.monotonic() - self._since

    def store(self, every_s: float = 0.0) -> None:
        """Adds this run's to the study's: what was not stored is lost with a crash.

        Args:
            every_s: seconds since the last time before which it is not worth it.
        """
        now = time.monotonic()
        if now - self._since < every_s:
            return
        self._stored = read_study(self._study).spent_s + now - self._since
        write_study(self._study, spent_s=self._stored)
        self._since = now


def go_on_with(command: str, spent_s: float, timeout_s: float) -> str:
    """The command that goes on with a study: with twice its time, where that is spent.

    Args:
        command: the one that was given.
        spent_s: what it has taken, and the others that share its time.
        timeout_s: that time; 0 for any.
    """
    if not timeout_s or spent_s < timeout_s:
        return command
    words, flag = shlex.split(command), "--timeout"
    if flag in words:
        at = words.index(flag)
        words[at : at + 2] = []
    kept = [word for word in words if not word.startswith(f"{flag}=")]
    return shlex.join([*kept, flag, f"{2 * timeout_s:g}"])
