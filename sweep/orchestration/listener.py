"""Who listens to a study's run: the protocol that the views have."""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from sweep.results.types import RatePosterior, StudySummary, TrialRow
from trainers.report import Progress, Report


class View(Protocol):
    """Shows a run of the orchestrator. A context manager: leaving it gives the terminal back."""

    def note(self, text: str) -> None:
        """Shows one line of information ("profile cpu: no CUDA device found")."""
        ...

    def warn(self, text: str) -> None:
        """Shows one line that the user should not miss."""
        ...

    def started(self, summary: StudySummary) -> None:
        """Shows, before the first trial, what is searched and on what."""
        ...

    def trial_started(self, row: TrialRow) -> None:
        """A trial begins, or goes on after `row.step`."""
        ...

    def progressed(self, number: int, progress: Progress) -> None:
        """A running trial gave a sign of life."""
        ...

    def reported(self, number: int, report: Report, row: TrialRow) -> None:
        """A running trial reported; `row` is the trial with that report in it."""
        ...

    def trial_ended(self, row: TrialRow) -> None:
        """A trial ended, or was paused; `row.reason` says how."""
        ...

    def posterior_updated(self, known: RatePosterior | None) -> None:
        """A trial's end moved what is known of the best rate; None while that is nothing."""
        ...

    def finished(self, summary: StudySummary, commands: Sequence[str]) -> None:
        """Shows the answer, and the commands that inspect and export it."""
        ...

    def paused(self, summary: StudySummary, command: str) -> None:
        """Shows what an interrupted sweep keeps, and the command that goes on."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Forwarding:
    """A `View` that passes everything on to another; what adds something overrides its part.

    Args:
        view: entered and left with this one.
    """

    def __init__(self, view: View) -> None:
        self._view = view

    def note(self, text: str) -> None:
        """Passed on."""
        self._view.note(text)

    def warn(self, text: str) -> None:
        """Passed on."""
        self._view.warn(text)

    def started(self, summary: StudySummary) -> None:
        """Passed on."""
        self._view.started(summary)

    def trial_started(self, row: TrialRow) -> None:
        """Passed on."""
        self._view.trial_started(row)

    def progressed(self, number: int, progress: Progress) -> None:
        """Passed on."""
        self._view.progressed(number, progress)

    def reported(self, number: int, report: Report, row: TrialRow) -> None:
        """Passed on."""
        self._view.reported(number, report, row)

    def trial_ended(self, row: TrialRow) -> None:
        """Passed on."""
        self._view.trial_ended(row)

    def posterior_updated(self, known: RatePosterior | None) -> None:
        """Passed on."""
        self._view.posterior_updated(known)

    def finished(self, summary: StudySummary, commands: Sequence[str]) -> None:
        """Passed on."""
        self._view.finished(summary, commands)

    def paused(self, summary: StudySummary, command: str) -> None:
        """Passed on."""
        self._view.paused(summary, command)

    def __enter__(self) -> Self:
        self._view.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._view.__exit__(kind, error, trace)
