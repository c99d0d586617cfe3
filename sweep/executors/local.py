"""One worker process on this machine, alive across trials with its data already tokenised."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self

from sweep.protocol import Ended, Event, TrialSpec
from sweep.worker import serve
from trainers.report import Outcome, Verdict

STOP_GRACE_S = 3.0


class LocalExecutor:
    """Trains in a child process; a crash takes the trial, not the sweep.

    Args:
        device: where trials train.
    """

    capacity = 1

    def __init__(self, device: str) -> None:
        self._device = device
        self._context = multiprocessing.get_context("spawn")
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._running: int | None = None

    def submit(self, spec: TrialSpec) -> None:
        """Starts a trial, and the worker where none is alive."""
        if self._running is not None:
            raise RuntimeError(f"trial {self._running} still runs: capacity is {self.capacity}")
        if self._process is None or not self._process.is_alive():
            self._start()
        self._running = spec.number
        self._send(spec)

    def reply(self, number: int, verdict: Verdict) -> None:
        """Passes a verdict on; a worker that died meanwhile is noticed by `events`."""
        if number == self._running:
            self._send((number, verdict))

    def events(self, timeout_s: float) -> list[Event]:
        """Waits for what the worker says, or for its death."""
        if self._process is None or self._pipe is None or self._running is None:
            return []
        wait([self._pipe, self._process.sentinel], timeout_s)
        received: list[Event] = []
        with contextlib.suppress(EOFError, OSError):
            while self._pipe.poll():
                received.append(self._pipe.recv())
        if any(isinstance(event, Ended) for event in received):
            self._running = None
        elif not self._process.is_alive() and not received:
            received.append(self._lost())
        return received

    def _start(self) -> None:
        self._stop()
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=serve, args=(theirs, self._device), name="sweep-worker", daemon=True
        )
        with _interrupts_held():
            self._process.start()
        theirs.close()

    def _send(self, message: object) -> None:
        assert self._pipe is not None
        with contextlib.suppress(OSError):
            self._pipe.send(message)

    def _lost(self) -> Ended:
        assert self._process is not None
        assert self._running is not None
        number, self._running = self._running, None
        code = self._process.exitcode or 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Ended(number, Outcome.LOST, f"lost: its worker process died ({how})")

    def _stop(self) -> None:
        if self._pipe is not None:
            self._send(None)
            self._pipe.close()
        if self._process is not None and self._process.pid is not None:
            self._process.join(STOP_GRACE_S if self._running is None else 0)
            if self._process.is_alive():
                # The worker leads its own session: whatever it started ends with it.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.kill()
            self._process.join()
        self._process = self._pipe = self._running = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """A new worker is of the terminal's group until it runs: it starts with Ctrl-C blocked."""
    resource_tracker.ensure_running()  # started with the first worker, it would lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def create(device: str) -> LocalExecutor:
    """Makes the executor."""
    return LocalExecutor(device)
