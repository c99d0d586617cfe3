"""What trials have reported in this run, counted as their study counts."""

import math
from typing import Any

from optuna.trial import FrozenTrial

from sweep.errors import SweepError
from sweep.orchestration.endings import measured, why_not_repeated
from sweep.results.objective import stored_value
from sweep.results.record import StudyRecord
from sweep.results.rows import trial_row
from sweep.results.summary import with_length
from sweep.results.types import TrialRow, counted
from trainers.report import Report


class Reports:
    """The reports of this run's trials, and where a study stores each.

    Args:
        record: the study's.
    """

    def __init__(self, record: StudyRecord) -> None:
        self._record = record
        # What a trainer has said that counts nothing but epochs; a program's are not ours.
        program = record.config.get("program", {}).get("command")
        self._epochs = 0 if program else int(record.identity.get("epochs") or 0)
        self._known: dict[int, dict[int, Report]] = {}

    def keep(self, number: int, report: Report) -> None:
        """Keeps a report: a resumed trial says its stored ones again, so these are all of them."""
        self._known.setdefault(number, {})[self.place(report)] = report

    def measured(self, number: int) -> dict[str, Any]:
        """What a trial's attributes say of how it was trained."""
        return measured(list(self._known.get(number, {}).values()))

    def row(self, trial: FrozenTrial) -> TrialRow:
        """A trial as the view shows it."""
        return with_length(trial_row(trial, self._record.objective), self._record)

    def forget(self, number: int) -> None:
        """Drops the reports of a trial that has ended."""
        self._known.pop(number, None)

    def place(self, report: Report) -> int:
        """What a report is stored at."""
        return counted(report, self._record.unit)

    def said_length(self, report: Report) -> int | None:
        """The steps of the whole run where only the trainer knows them, 0 where it has not said.

        None where the study knows them itself.
        """
        if self._record.length is not None:
            return None
        by_epochs = self._record.epochs if report.step == report.epoch > 0 else 0
        return report.steps or by_epochs

    def is_last(self, report: Report) -> bool:
        """Whether a run has come to its end with this report."""
        length = self._record.length or self.said_length(report) or math.inf
        return self.place(report) >= length

    def value(self, number: int, report: Report) -> float:
        """What is stored of a trial's report.

        Raises:
            SweepError: it is impossible, or the trainer does not report it.
        """
        try:
            return stored_value(self._record.objective, report)
        except SweepError as error:
            raise SweepError(f"trial {number}, {self._named(report)}: {error}") from None

    def why_not_repeated(self, report: Report, now: float, before: float) -> str:
        """Why a repeated report is not the stored one; "" where it is."""
        return why_not_repeated(self._named(report), now, before, self._record.objective)

    def _named(self, report: Report) -> str:
        return f"{self._record.unit} {self.place(report)}"
