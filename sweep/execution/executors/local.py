"""Worker processes on this machine, alive across trials with their data already tokenised.

Each has a device, and trains as many trials side by side as its capacity.
"""

import contextlib
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self

import torch

from sweep.execution.death import killed_for_want_of_memory, words
from sweep.execution.executors._pool import Pool
from sweep.execution.paths import installed_first
from sweep.execution.protocol import (
    GO,
    SHARED_TRAINER,
    Ended,
    Event,
    Executor,
    Progressed,
    Resources,
    TrialSpec,
)
from sweep.execution.signals import signals_held
from sweep.execution.threads import bound
from sweep.execution.worker import serve
from trainers.limits import killed_for_memory
from trainers.report import Outcome, Verdict

STOP_GRACE_S = 3.0


class LocalWorker:
    """An executor that trains in one child process; a crash takes its trials, not the sweep.

    Args:
        device: where trials train.
        capacity: trials trained side by side.
        threads: CPU threads that it may use; 0 for torch's own choice.
    """

    def __init__(self, device: str, capacity: int = 1, threads: int = 0) -> None:
        self.capacity = capacity
        self._arguments = device, threads
        self._context = multiprocessing.get_context("spawn")
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._running: set[int] = set()
        self._unheard: list[Event] = []  # of a worker that was dead when the next one was needed
        self._killed_before = 0
        self._waits = True  # for a GO: the worker does nothing before it

    def submit(self, spec: TrialSpec) -> None:
        """Starts a trial, and the worker where none is alive."""
        alive = self._process is not None and self._process.is_alive()
        if not alive:
            self._unheard += [*self._said(), *self._lost()]
        taken = len(self._running) + sum(isinstance(event, Ended) for event in self._unheard)
        if taken >= self.capacity:
            raise RuntimeError(f"{taken} trials still run, which is the capacity")
        if not alive:
            try:
                self._start(bind=spec.trainer == SHARED_TRAINER)
            except OSError as error:  # no memory or no process left for it
                self._stop()
                message = f"lost: no worker process could be started: {error.strerror or error}"
                self._unheard.append(Ended(spec.number, Outcome.LOST, message))
                return
        self._running.add(spec.number)
        self._send(spec)

    def reply(self, number: int, verdict: Verdict) -> None:
        """Passes a verdict on; a worker that died meanwhile is noticed by `events`."""
        if number in self._running:
            self._send((number, verdict))

    def sharing_worker(self, number: int) -> frozenset[int]:
        """All that run, where it is one of them: there is one worker."""
        return frozenset(self._running if number in self._running else ())

    def kill(self, number: int) -> None:
        """Ends the worker and all that it started; `events` then says what was lost."""
        if number in self._running:
            self._kill()

    def events(self, timeout_s: float) -> list[Event]:
        """Waits for what the worker says, or for its death."""
        if self._unheard:
            unheard, self._unheard = self._unheard, []
            return unheard
        if self._process is None or self._pipe is None or not self._running:
            return []
        if self._waits:
            self._waits = False
            self._send(GO)
        wait([self._pipe, self._process.sentinel], timeout_s)
        alive = self._process.is_alive()  # what it said before it died is in the pipe
        received = self._said()
        if not alive and not received:
            return self._lost()
        return received

    def _said(self) -> list[Event]:
        """What the worker has said since it was last asked."""
        received: list[Event] = []
        with contextlib.suppress(EOFError, OSError):
            while self._pipe is not None and self._pipe.poll():
                received += self._pipe.recv()
        self._waits |= not all(isinstance(event, Progressed) for event in received)
        ended = [event for event in received if isinstance(event, Ended)]
        self._running -= {event.number for event in ended}
        if self._process and any(event.outcome is Outcome.LOST for event in ended):
            self._kill()  # its device is gone, and would stay so for this process
            self._process.join()
        return received

    @property
    def handles(self) -> list[Connection | int]:
        """What becomes ready when there may be events."""
        if self._process is None or self._pipe is None or not self._running:
            return []
        return [self._pipe, self._process.sentinel]

    def _start(self, *, bind: bool) -> None:
        """Starts the worker.

        Args:
            bind: whether its first trial is the shared trainer's: another one may start processes
                of its own, which would all inherit the one core.
        """
        self._stop()
        self._pipe, theirs = self._context.Pipe()
        self._killed_before = killed_for_memory()
        self._process = self._context.Process(
            target=serve, args=(theirs, *self._arguments), name="sweep-worker", daemon=True
        )
        device, threads = self._arguments
        alone = device == "cpu" and not threads
        with contextlib.ExitStack() as around:
            if bind and alone:
                around.enter_context(bound())
            around.enter_context(installed_first())
            around.enter_context(signals_held())
            self._process.start()
        theirs.close()
        self._waits = True

    def _send(self, message: object) -> None:
        assert self._pipe is not None
        with contextlib.suppress(OSError):
            self._pipe.send(message)

    def _lost(self) -> list[Event]:
        """The ends of the trials that ran when the worker died."""
        if self._process is None:
            return []
        code = self._process.exitcode
        outcome, message = Outcome.LOST, f"lost: its worker process died ({words(code)})"
        if killed_for_want_of_memory(code, self._killed_before):
            outcome, message = Outcome.KILLED, Outcome.KILLED.sentence
        lost = [Ended(number, outcome, message) for number in sorted(self._running)]
        self._running.clear()
        return [*lost]

    def _stop(self) -> None:
        if self._pipe is not None:
            self._send(None)
            self._pipe.close()
        if self._process is not None and self._process.pid is not None:
            self._process.join(0 if self._running else STOP_GRACE_S)
            if self._process.is_alive():
                self._kill()
            self._process.join()
        self._process = self._pipe = None
        self._running.clear()

    def _kill(self) -> None:
        assert self._process is not None
        assert self._process.pid is not None
        # The worker leads its own session: whatever it started ends with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        self._unheard.clear()


def create(resources: Resources) -> Executor:
    """Makes a worker for each device; they divide the threads that one alone would have."""
    devices, cohort = resources.devices, resources.cohort
    if len(devices) == 1:
        return LocalWorker(devices[0], cohort)
    threads = max(1, torch.get_num_threads() // len(devices))
    return Pool([LocalWorker(device, cohort, threads) for device in devices])
