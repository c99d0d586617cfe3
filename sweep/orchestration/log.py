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


@contextlib.contextmanager
def logged_to(directory: Path) -> Iterator[None]:
    """Writes what this process logs into a study's folder, until the block is left."""
    directory.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(directory / FILE, encoding="utf-8", errors="replace", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(process)d %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGED]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
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

    def trial_started(self, row: TrialRow, epochs: int, epochs_done: int) -> None:
        """Logged."""
        done = f", going on after epoch {epochs_done}" if epochs_done else ""
        log.info("trial %d begins at rate %.4g%s", row.number, row.learning_rate, done)
        super().trial_started(row, epochs, epochs_done)

    def trial_ended(self, row: TrialRow) -> None:
        """Logged."""
        log.info(
            "trial %d %s after %d epochs, perplexity %s: %s",
            row.number,
            row.state,
            row.epochs,
            row.perplexity,
            row.reason,
        )
        super().trial_ended(row)
