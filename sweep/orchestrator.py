"""The event loop between the ledger, the executor and the view."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sweep.errors import SweepError
from sweep.ledger import Ledger
from sweep.protocol import Ended, Event, Executor, Progressed, Reported, TrialSpec
from sweep.signals import StopSignals
from sweep.view import View
from trainers.report import EpochReport, Outcome, Verdict

EVENT_WAIT_S = 0.25
FAILURES_TO_GIVE_UP = 2


@dataclass(slots=True)
class _Running:
    spec: TrialSpec
    stored: int  # epochs that the study has already: a resumed trainer says them again
    reported: bool = False


class Orchestrator:
    """Runs trials until the study has its total, or until it is asked to stop.

    Args:
        ledger: the study.
        executor: entered already.
        view: entered already.
        stop: set by signals.
        timeout_s: seconds until every trial is paused; 0 for none.
        retries: fresh workers for a trial whose worker was lost.
    """

    def __init__(
        self,
        ledger: Ledger,
        executor: Executor,
        view: View,
        *,
        stop: StopSignals,
        timeout_s: float = 0.0,
        retries: int = 2,
    ) -> None:
        self._ledger, self._executor, self._view = ledger, executor, view
        self._stop, self._retries = stop, retries
        self._deadline = time.monotonic() + timeout_s if timeout_s else float("inf")
        self._running: dict[int, _Running] = {}
        self._left: list[TrialSpec] = []
        self._pausing = False
        self._failed_unheard = 0

    def run(self) -> bool:
        """Runs the study.

        Returns:
            True where every trial is done, False where it was paused.

        Raises:
            SweepError: the trainer itself does not work: trials fail before their first report.
        """
        self._left = self._ledger.unfinished()
        while True:
            self._pause_if_asked()
            if not self._pausing:
                self._fill()
            if not self._running:
                return not self._pausing
            self._handle(self._executor.events(EVENT_WAIT_S))
            self._ledger.keep_alive()

    def _pause_if_asked(self) -> None:
        if self._pausing or not (self._stop.received or time.monotonic() >= self._deadline):
            return
        self._pausing = True
        why = "asked to stop" if self._stop.received else "out of time"
        self._view.note(f"{why}: waiting for the running trial's next sign of life")
        for number in self._running:
            self._executor.reply(number, Verdict.PAUSE)

    def _fill(self) -> None:
        while len(self._running) < self._executor.capacity:
            spec = self._left.pop(0) if self._left else self._ask()
            if spec is None:
                return
            self._submit(spec)

    def _ask(self) -> TrialSpec | None:
        before = self._ledger.working_range
        spec = self._ledger.ask()
        if self._ledger.working_range != before:
            low, high = self._ledger.working_range
            self._view.note(
                f"the best rate may lie beyond the range: it is now {low:.3g} to {high:.3g}"
            )
        return spec

    def _submit(self, spec: TrialSpec) -> None:
        row = self._ledger.row(spec.number)
        self._running[spec.number] = _Running(spec, row.epochs)
        self._view.trial_started(row, spec.config.epochs, row.epochs)
        self._executor.submit(spec)

    def _handle(self, events: list[Event]) -> None:
        """Stores all reports that arrived together before any is judged."""
        reports = {event.number: event.report for event in events if isinstance(event, Reported)}
        for event in events:
            if isinstance(event, Progressed):
                self._view.progressed(event.number, event.progress)
        self._answer(reports)
        for event in events:
            if isinstance(event, Ended):
                self._end(event)

    def _answer(self, reports: Mapping[int, EpochReport]) -> None:
        for number, verdict in self._ledger.report(reports).items():
            running, report = self._running[number], reports[number]
            running.reported = True
            if report.epoch > running.stored:
                self._view.reported(number, report, self._ledger.row(number))
            pauses = self._pausing and verdict is Verdict.CONTINUE
            self._executor.reply(number, Verdict.PAUSE if pauses else verdict)

    def _end(self, event: Ended) -> None:
        running = self._running.pop(event.number)
        if event.outcome is Outcome.LOST and running.spec.attempt <= self._retries:
            self._view.warn(f"trial {event.number}: {event.message}; a fresh worker goes on")
            self._left.insert(0, replace(running.spec, attempt=running.spec.attempt + 1))
            return
        self._ledger.tell(event.number, event.outcome, event.message)
        self._view.trial_ended(self._ledger.row(event.number))
        self._give_up_if_nothing_works(event, running)

    def _give_up_if_nothing_works(self, event: Ended, running: _Running) -> None:
        """Twelve trials that fail alike teach nothing: the second one in a row ends the sweep."""
        if event.outcome is not Outcome.FAILED or running.reported:
            self._failed_unheard = 0
            return
        self._failed_unheard += 1
        if self._failed_unheard >= FAILURES_TO_GIVE_UP:
            raise SweepError(
                f"the sweep stops: {self._failed_unheard} trials in a row ended before their "
                f"first report. Trial {event.number} {event.message}"
            )
