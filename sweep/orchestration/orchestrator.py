"""The event loop between the ledger, the executor and the view."""

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from sweep.errors import NothingTrainedError, SweepError
from sweep.execution.protocol import Ended, Event, Executor, Progressed, Reported, TrialSpec
from sweep.execution.signals import StopSignals
from sweep.orchestration.endings import OUTSIDE
from sweep.orchestration.ledger import Ledger
from sweep.orchestration.listener import View
from sweep.orchestration.recovery import Recovery
from sweep.results.types import TrialRow, counted
from sweep.storage.lease import StoppedWaiting
from trainers.report import Outcome, Report, Verdict

EVENT_WAIT_S = 0.25
ROOM_WAIT_S = 0.5
FAILURES_TO_GIVE_UP = 2


@dataclass(slots=True)
class _Running:
    spec: TrialSpec
    before: TrialRow  # as it began here: a resumed trainer says again what is stored
    reported: bool = False


class Orchestrator:
    """Runs trials until the study has its total, or until it is asked to stop.

    Args:
        ledger: the study.
        executor: entered already.
        view: entered already.
        stop: set by signals.
        timeout_s: seconds that all runs of the study may take together; 0 for any.
        recovery: decides on trials that were lost, and stops those that hang.
    """

    def __init__(
        self,
        ledger: Ledger,
        executor: Executor,
        view: View,
        *,
        stop: StopSignals,
        timeout_s: float = 0.0,
        recovery: Recovery | None = None,
    ) -> None:
        self._ledger, self._executor, self._view = ledger, executor, view
        self._stop, self._timeout_s = stop, timeout_s or math.inf
        self._recovery = recovery or Recovery(executor, retries=0)
        self._running: dict[int, _Running] = {}
        self._left: list[TrialSpec] = []
        self._pausing = self._waited = self._crowded = False
        self._failed_unheard = 0
        self._trained = False
        self._failure = ""

    def run(self) -> bool:
        """Runs the study.

        Returns:
            True where every trial is done, False where it was paused.

        Raises:
            SweepError: the trainer itself does not work: trials fail before their first report.
            NothingTrainedError: every trial failed, none of them with a report of this run.
        """
        with suppress(StoppedWaiting):
            self._take_up()
        while True:
            self._pause_if_asked()
            done = False
            with suppress(StoppedWaiting):  # the next round pauses
                nothing_left = not self._pausing and self._fill()
                done = nothing_left and not self._running and not self._waits_for_others()
            if self._running:
                self._handle(self._executor.events(EVENT_WAIT_S))
                self._recovery.stop_overdue()
            elif self._pausing:
                return False
            elif done:
                if self._failure and not self._trained:
                    raise NothingTrainedError(f"nothing was trained: {self._failure}")
                return True
            else:  # there is no room, or others run the last ones
                time.sleep(ROOM_WAIT_S)
            self._ledger.keep_alive()

    def _take_up(self) -> None:
        """Takes up what others left; its own trials, which wait for room, are none of these."""
        self._left += [self._recovery.taken_up(spec) for spec in self._ledger.unfinished()]

    def _waits_for_others(self) -> bool:
        """Waits for trials of other orchestrators: one that they lose is taken over."""
        self._take_up()
        elsewhere = self._ledger.elsewhere()
        if elsewhere and not self._waited:
            self._view.note(f"nothing left to start: {elsewhere} trials still run elsewhere")
        self._waited = bool(elsewhere)
        return bool(elsewhere or self._left)

    def _pause_if_asked(self) -> None:
        spent = self._ledger.spent_s >= self._timeout_s
        if self._pausing or not (self._stop.received or spent):
            return
        self._pausing = True
        why = "asked to stop" if self._stop.received else _out_of_time(self._timeout_s)
        waits = ": waiting for the running trial's next sign of life" if self._running else ""
        self._view.note(f"{why}{waits}")
        for number in self._running:
            self._executor.reply(number, Verdict.PAUSE)

    def _fill(self) -> bool:
        """Starts as many trials as there is room for.

        Returns:
            Whether none is left to start. Where there is no room one is asked for all the same, to
            know that, and waits.
        """
        while len(self._running) < self._room():
            if any(running.spec.only_trial for running in self._running.values()):
                return False
            if self._left and self._left[0].only_trial and self._running:
                return False
            spec = self._left.pop(0) if self._left else self._ask()
            if spec is None:
                return True
            self._submit(spec)
        if not self._running and not self._left and (spec := self._ask()):
            self._left.append(spec)
        return not self._running and not self._left

    def _room(self) -> int:
        """How many trials may run at once; that none may is said once, and that it is over."""
        room = self._executor.capacity
        if self._crowded != (room < 1):
            self._crowded = not self._crowded
            said = "no room for a trial: waiting until there is"
            self._view.note(said if self._crowded else "there is room for a trial again")
        return room

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
        self._running[spec.number] = _Running(spec, row)
        self._view.trial_started(row)
        self._executor.submit(spec)
        self._recovery.began(spec)

    def _handle(self, events: list[Event]) -> None:
        """Stores all reports that arrived together before any is judged."""
        self._recovery.saw_life(event.number for event in events if _lives(event))
        reports = {event.number: event.report for event in events if isinstance(event, Reported)}
        for event in events:
            if isinstance(event, Progressed):
                self._recovery.progressed(event)
                self._view.progressed(event.number, event.progress)
        self._answer(reports)
        for event in events:
            if isinstance(event, Ended):
                self._end(event)

    def _answer(self, reports: Mapping[int, Report]) -> None:
        for number, verdict in self._ledger.report(reports).items():
            running, report = self._running[number], reports[number]
            running.reported = True
            if counted(report, running.before.unit) > running.before.step:
                self._trained = True
                self._view.reported(number, report, self._ledger.row(number))
            pauses = self._pausing and verdict is Verdict.CONTINUE
            self._executor.reply(number, Verdict.PAUSE if pauses else verdict)

    def _end(self, event: Ended) -> None:
        running = self._running.pop(event.number)
        outcome = Outcome.LOST if self._recovery.stopped(event) else event.outcome
        message, again = self._recovery.ended(running.spec, event)
        if again is not None:
            self._view.warn(f"trial {event.number}: {message}; {_how(running.spec, again)}")
            self._ledger.record_setback(again, message)
            self._left.insert(0, again)
            return
        if event.outcome is Outcome.NO_SPACE:  # no trial's fault: it stays as it is, to go on
            raise SweepError(
                f"trial {event.number} {message}: make room, then the same command goes on"
            )
        if not self._ledger.tell(event.number, outcome, message):
            self._view.warn(f"trial {event.number} was ended by another program, so it stopped")
        row = self._ledger.row(event.number)
        self._view.trial_ended(row)
        if row.state == "failed":
            goes_on = ": put that right, then the same command goes on"
            outside = outcome in OUTSIDE
            self._failure = f"trial {row.number} {row.reason}{goes_on if outside else ''}"
        else:
            self._trained = True
        self._view.posterior_updated(self._ledger.belief())
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


def _lives(event: Event) -> bool:
    return not isinstance(event, Progressed) or event.progress.alive


def _how(before: TrialSpec, again: TrialSpec) -> str:
    rows = again.config.micro_batch
    fewer = f" with {rows:,} rows at once" if rows != before.config.micro_batch else ""
    return f"a fresh worker goes on{fewer}{', alone' if again.only_trial else ''}"


def _out_of_time(seconds: float) -> str:
    return f"out of time: the study's {seconds:g} s are spent, a larger --timeout goes on"
