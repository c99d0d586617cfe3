"""Runs one trial at a time in this process: for tests and debugging."""

from collections.abc import Callable, Generator
from types import TracebackType
from typing import Self

from sweep.execution.protocol import Ended, Event, Reported, Resources, TrialSpec
from sweep.execution.worker import consume
from trainers.report import Outcome, Verdict
from trainers.train import Training


class InlineExecutor:
    """An executor without processes: `events` drives the trainer by one event.

    Args:
        device: where trials train.
        trainer: a generator with `trainers.train.train`'s signature; None takes each trial's own.
    """

    capacity = 1

    def __init__(self, device: str, trainer: Callable[..., Training] | None = None) -> None:
        self._device, self._trainer = device, trainer
        self._number = -1
        self._trial: Generator[Event, Verdict | None, None] | None = None
        self._verdict: Verdict | None = None
        self._started = self._waits = self._killed = False

    def submit(self, spec: TrialSpec) -> None:
        """Starts a trial."""
        if self._trial is not None:
            raise RuntimeError("the inline executor runs one trial at a time")
        self._number, self._trial = spec.number, consume(spec, self._device, self._trainer)
        self._verdict, self._started, self._waits, self._killed = None, False, False, False

    def reply(self, number: int, verdict: Verdict) -> None:
        """Keeps the verdict for the trial's next step."""
        if number == self._number:
            self._verdict, self._waits = verdict, False

    def sharing_worker(self, number: int) -> frozenset[int]:
        """The trial alone."""
        return frozenset({number} if self._trial is not None and number == self._number else ())

    def kill(self, number: int) -> None:
        """Ends the trial between two of its events; there is no process to end."""
        if self.sharing_worker(number) and self._trial is not None:
            self._trial.close()
            self._killed = True

    def events(self, timeout_s: float) -> list[Event]:
        """Drives the trial to its next event; nothing while a report waits for its verdict."""
        if self._trial is not None and self._killed:
            self._trial = None
            return [Ended(self._number, Outcome.LOST, "lost: it was stopped")]
        if self._trial is None or self._waits:
            return []
        if self._started:
            verdict, self._verdict = self._verdict, None
        else:  # a generator's first step takes none: what was said before waits for the second
            verdict, self._started = None, True
        event = self._trial.send(verdict)
        self._waits = isinstance(event, Reported)
        if isinstance(event, Ended):
            self._trial = None
        return [event]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._trial is not None:
            self._trial.close()
            self._trial = None


def create(resources: Resources) -> InlineExecutor:
    """Makes the executor: one trial at a time on the first device, whatever else there is."""
    return InlineExecutor(resources.devices[0])
