"""JSON lines, one object an event, for other programs.

Every object has `event` and `time` (UTC, ISO 8601). A number that is not finite is null: JSON has
no infinity. Beside such a value stands `"diverged": true`.

    {"event": "note", "text": ...}                  and "warning", with the same field
    {"event": "study_started", "study": STUDY}
    {"event": "trial_started", "trial": TRIAL}
    {"event": "trial_progressed", "number": 3, "progress": PROGRESS}
    {"event": "trial_reported", "number": 3, "report": REPORT, "trial": TRIAL}
    {"event": "trial_ended", "trial": TRIAL}
    {"event": "study_finished", "study": STUDY, "commands": [...]}
    {"event": "study_paused", "study": STUDY, "command": ...}

    TRIAL     the fields of `results.types.TrialRow` but for the objective, and diverged
    STUDY     the fields of `results.types.StudySummary`, its objective as metric and direction:
              `trials` a list of TRIAL, `best` and `recommended` a TRIAL or null,
              `rules` a list of RuleRow's fields, its `trial` the trial's number or null
    PROGRESS  the fields of `trainers.report.Progress`
    REPORT    the fields of `trainers.report.Report`, perplexity, value (of the study's metric), and
              diverged

A trial whose state at "trial_ended" is "running" was stopped with the sweep and goes on later; one
that is "paused" was left after a look, and goes on should its rate be asked for again.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TextIO

from sweep.results.objective import reported
from sweep.results.types import RatePosterior, StudySummary, TrialRow
from sweep.view.json_objects import finite, is_infinite, study_object, trial_object
from trainers.report import Progress, Report


class JsonView:
    """A `View` for programs.

    Args:
        stream: where to write; flushed after each line.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def note(self, text: str) -> None:
        """Writes "note"."""
        self._write("note", text=text)

    def warn(self, text: str) -> None:
        """Writes "warning"."""
        self._write("warning", text=text)

    def started(self, summary: StudySummary) -> None:
        """Writes "study_started"."""
        self._write("study_started", study=study_object(summary))

    def trial_started(self, row: TrialRow) -> None:
        """Writes "trial_started"."""
        self._write("trial_started", trial=trial_object(row))

    def progressed(self, number: int, progress: Progress) -> None:
        """Writes "trial_progressed"."""
        self._write("trial_progressed", number=number, progress=asdict(progress))

    def reported(self, number: int, report: Report, row: TrialRow) -> None:
        """Writes "trial_reported"."""
        value = reported(row.objective, report)
        added = {"perplexity": report.perplexity, "value": value, "diverged": is_infinite(value)}
        whole = asdict(report) | added
        self._write("trial_reported", number=number, report=whole, trial=trial_object(row))

    def trial_ended(self, row: TrialRow) -> None:
        """Writes "trial_ended"."""
        self._write("trial_ended", trial=trial_object(row))

    def posterior_updated(self, known: RatePosterior | None) -> None:
        """Writes nothing: `sweep report --json` says it."""

    def finished(self, summary: StudySummary, commands: Sequence[str]) -> None:
        """Writes "study_finished"."""
        self._write("study_finished", study=study_object(summary), commands=list(commands))

    def paused(self, summary: StudySummary, command: str) -> None:
        """Writes "study_paused"."""
        self._write("study_paused", study=study_object(summary), command=command)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.flush()

    def _write(self, event: str, **fields: Any) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"event": event, "time": time, **finite(fields)}
        self._stream.write(json.dumps(line, allow_nan=False) + "\n")
        self._stream.flush()
