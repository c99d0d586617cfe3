"""Trials whose worker died, hangs or ran out of memory: who is stopped, and who is tried again."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from sweep.execution.protocol import Ended, Executor, Progressed, TrialSpec
from trainers.report import Outcome, Verdict

PATIENCE_S = 30.0
"""Beyond its grace, for a program that is ended together with all that it started."""

MEMORY_STEP = 4
"""A trial that ran out of memory computes a quarter of the rows that it did, when tried again."""


class Recovery:
    """Watches the running trials, and decides on those that were lost.

    Trials that share a worker go down together, and it is not known through which of them. So each
    is tried again beside the others, but for the last time only_trial: that one is its own fault.

    Args:
        executor: runs the trials.
        retries: how often a trial is tried again.
        hang_s: seconds without a sign of life after which a trial is stopped; 0 for never.
        trial_s: seconds that an attempt may take from its start on; 0 for any.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        retries: int,
        hang_s: float = 0.0,
        trial_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor, self._retries, self._clock = executor, retries, clock
        self._hang_s, self._trial_s = hang_s or math.inf, trial_s or math.inf
        self._began: dict[int, float] = {}
        self._alive: dict[int, float] = {}
        self._company: dict[int, frozenset[int]] = {}
        self._stopped: dict[int, str] = {}
        self._kill_at: dict[int, float] = {}
        self._graces: dict[int, float] = {}
        self._rows: dict[int, int] = {}

    def began(self, spec: TrialSpec) -> None:
        """Watches a trial that was submitted."""
        self._began[spec.number] = self._alive[spec.number] = self._clock()
        self._stopped.pop(spec.number, None)
        program = spec.config.program
        # Its trainer never hangs: it ends the program's whole tree when it is asked to.
        self._graces[spec.number] = program.grace + PATIENCE_S if program.command else 0.0
        self._look()

    def taken_up(self, spec: TrialSpec) -> TrialSpec:
        """A trial of an earlier run, whose setbacks there count."""
        return replace(spec, only_trial=1 < spec.attempt > self._retries)

    def saw_life(self, numbers: Iterable[int]) -> None:
        """Trials gave a sign of life; whoever shares their worker waits for them and lives too."""
        for number in numbers:
            for other in self._company.get(number, frozenset()):
                self._alive[other] = self._clock()

    def progressed(self, event: Progressed) -> None:
        """A trial said how many rows it computes at once: fewer than its config where it must.

        What waits in a queue has not begun, or begins anew.
        """
        self._rows[event.number] = event.progress.rows
        if event.queued:
            self._began[event.number] = self._clock()

    def stop_overdue(self) -> None:
        """Stops trials that hang or are over their time, with all that they started."""
        self._look()
        for number, began in self._began.items():
            reason = self._overdue(self._alive[number], began)
            if reason and number not in self._stopped:
                self._stopped[number] = reason
                self._kill_at[number] = self._clock() + self._graces[number]
            if number in self._kill_at and self._graces[number]:
                # Again and again: the answer to a report on its way would take its place.
                self._executor.reply(number, Verdict.PAUSE)
            if self._clock() >= self._kill_at.get(number, math.inf):
                del self._kill_at[number]
                self._executor.kill(number)

    def stopped(self, event: Ended) -> bool:
        """Whether a trial paused because it was overdue: it is lost as one that was killed."""
        return event.outcome is Outcome.PAUSED and event.number in self._stopped

    def ended(self, spec: TrialSpec, event: Ended) -> tuple[str, TrialSpec | None]:
        """Decides on a trial that ended.

        Returns:
            Why it ended, and the trial to run in its place; None where this end is final.
        """
        number, stopped = event.number, self.stopped(event)
        del self._began[number], self._alive[number], self._graces[number]
        self._kill_at.pop(number, None)
        rows = self._rows.pop(number, 0)
        company = self._company.pop(number, frozenset()) - {number}
        if event.outcome is Outcome.LOST or stopped:
            if number not in self._stopped and company & set(self._stopped):
                return event.message, spec  # another one was stopped: no fault of this one
            message = self._stopped.get(number, event.message)
            return message, self._again(spec, in_company=bool(company))
        if event.outcome in (Outcome.OUT_OF_MEMORY, Outcome.KILLED) and _takes_fewer_rows(spec):
            fewer = self._again(_with_fewer_rows(spec, rows), in_company=False)
            return event.message, fewer and replace(fewer, only_trial=bool(company))
        return event.message, None

    def _look(self) -> None:
        """Who shares a worker: to be known before it dies, and kept until it is said to have."""
        for number in self._began:
            if sharing := self._executor.sharing_worker(number):
                self._company[number] = sharing

    def _again(self, spec: TrialSpec, *, in_company: bool) -> TrialSpec | None:
        attempt = spec.attempt + 1
        if attempt > self._retries + 1:
            return None
        return replace(spec, attempt=attempt, only_trial=in_company and attempt > self._retries)

    def _overdue(self, alive: float, began: float) -> str:
        now = self._clock()
        if now - alive >= self._hang_s:
            return f"hung: no sign of life for {self._hang_s:g} s, so its worker was stopped"
        if now - began >= self._trial_s:
            return f"over its time: {self._trial_s:g} s for a trial, so its worker was stopped"
        return ""


def _takes_fewer_rows(spec: TrialSpec) -> bool:
    """Whether the trainer computes fewer rows at once where it is told so."""
    command = spec.config.program.command
    return not command or any("{micro_batch" in argument for argument in command)


def _with_fewer_rows(spec: TrialSpec, in_use: int) -> TrialSpec:
    rows = in_use or spec.config.micro_batch or spec.config.batch_size
    fewer = max(1, rows // MEMORY_STEP)
    return replace(spec, config=replace(spec.config, micro_batch=fewer))
