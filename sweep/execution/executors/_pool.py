"""Several executors as one: workers that know nothing of each other."""

from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Protocol, Self

from sweep.execution.protocol import Ended, Event, Executor, TrialSpec
from trainers.report import Verdict


class Waitable(Executor, Protocol):
    """An executor that can be waited for together with others."""

    @property
    def handles(self) -> Sequence[Connection | int]:
        """What becomes ready when there may be events; nothing where no trial runs."""
        ...


class Pool:
    """A trial stays with the worker that took it; what happens to one worker is no other's matter.

    Args:
        workers: not entered yet; they may have room for several trials each.
    """

    def __init__(self, workers: Sequence[Waitable]) -> None:
        self.capacity = sum(worker.capacity for worker in workers)
        self._trials: dict[Waitable, set[int]] = {worker: set() for worker in workers}
        self._entered = ExitStack()

    def submit(self, spec: TrialSpec) -> None:
        """Gives the trial to the worker with the most room."""
        worker = max(self._trials, key=lambda each: each.capacity - len(self._trials[each]))
        worker.submit(spec)
        self._trials[worker].add(spec.number)

    def reply(self, number: int, verdict: Verdict) -> None:
        """Passes a verdict on to the trial's worker."""
        for worker, trials in self._trials.items():
            if number in trials:
                worker.reply(number, verdict)

    def sharing_worker(self, number: int) -> frozenset[int]:
        """The trials of this one's worker."""
        return next(
            (frozenset(each) for each in self._trials.values() if number in each), frozenset()
        )

    def kill(self, number: int) -> None:
        """Ends the trial's worker."""
        for worker in self._trials:
            worker.kill(number)

    def events(self, timeout_s: float) -> list[Event]:
        """Waits for what any worker says."""
        received = self._receive()
        handles = [handle for worker in self._trials for handle in worker.handles]
        if not received and handles:
            wait(handles, timeout_s)
            received = self._receive()
        return received

    def _receive(self) -> list[Event]:
        received: list[Event] = []
        for worker, trials in self._trials.items():
            events = worker.events(0)
            trials -= {event.number for event in events if isinstance(event, Ended)}
            received += events
        return received

    def __enter__(self) -> Self:
        for worker in self._trials:
            self._entered.enter_context(worker)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entered.__exit__(kind, error, trace)
