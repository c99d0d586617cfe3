"""The log of a study: `sweep.log` in its folder, by the standard `logging`."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from sweep.orchestration.listener import Forwarding
from sweep.results.types import StudySummary, TrialRow

FILE = "sweep.log"
LOGGED = ("sweep", "trainers")
log = logging.getLogger("sweep.study")
_open: list[logging.Handler] = []
_said_before: list[str] = []  # for the next study's log


class _StudyLog(logging.Handler):
    """Opens its file for each line: one that cannot be written ends nothing, and may be later."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        with (
            contextlib.suppress(OSError),
            self._file.open("a", encoding="utf-8", errors="replace") as file,
        ):
            file.write(self.format(record) + "\n")


def say(text: str) -> None:
    """Warns in the study's log, once there is one, and nowhere else."""
    if _open:
        log.warning("%s", text)
    else:
        _said_before.append(text)


@contextlib.contextmanager
def logged_to(directory: Path) -> Iterator[None]:
    """Writes what this process logs into a study's folder, until the block is left."""
    directory.mkdir(parents=True, exist_ok=True)
    handler = _StudyLog(directory / FILE)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(process)d %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGED]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    _open.append(handler)
    while _said_before:
        log.warning("%s", _said_before.pop(0))
    try:
        yield
    finally:
        _open.remove(handler)
        for logger, level in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
        handler.close()


class Logged(Forwarding):
    """A `View` that also logs what happens to a study and its trials."""

    def note(self, text: str) -> None:
        """Logged."""
        log.info("%s", text)
        super().note(text)

    def warn(self, text: str) -> None:
        """Logged."""
        log.warning("%s", text)
        super().warn(text)

    def started(self, summary: StudySummary) -> None:
        """Logged."""
        log.info("study %s: %d trials of %d", summary.name, len(summary.trials), summary.total)
        super().started(summary)

    def trial_started(self, row: TrialRow) -> None:
        """Logged."""
        done = f", going on after {row.unit} {row.step}" if row.step else ""
        log.info("trial %d begins at rate %.4g%s", row.number, row.learning_rate, done)
        super().trial_started(row)

    def trial_ended(self, row: TrialRow) -> None:
        """Logged."""
        log.info(
            "trial %d %s at %s %d, value %s: %s",
            row.number,
            row.state,
            row.unit,
            row.step,
            row.value,
            row.reason,
        )
        super().trial_ended(row)
