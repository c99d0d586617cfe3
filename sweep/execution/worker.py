"""Trials' consumer: drives the trainer's generators, in a child process or in this one."""

import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Generator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from sweep.execution.paths import as_the_user_set_it
from sweep.execution.protocol import GO, Ended, Event, Progressed, Reported, TrialSpec
from sweep.execution.signals import leave_to_the_command
from trainers.importing import import_object
from trainers.lockstep import CohortMember, Lockstep
from trainers.naming import OUTPUT_FILE
from trainers.report import Ending, Report, Verdict
from trainers.train import Message, Training, train, train_stepwise

GUARD = """
import os, select, signal, sys, time
os.setsid()
orchestrator, worker = map(int, sys.argv[1:])

def live():
    try:
        os.kill(orchestrator, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return os.getppid() == worker

try:
    try:
        watched = [os.pidfd_open(orchestrator), os.pidfd_open(worker)]
    except ProcessLookupError:
        pass
    except (AttributeError, OSError):
        while live():
            time.sleep(0.5)
    else:
        select.select(watched, [], [])
finally:
    os.killpg(worker, signal.SIGKILL)
"""


def consume(
    spec: TrialSpec, device: str, trainer: Callable[..., Training] | None = None
) -> Generator[Event, Verdict | None, None]:
    """Runs one trial to its end.

    Args:
        spec: the trial.
        device: "cpu", "cuda:0".
        trainer: None takes the trial's own, by its import path.

    Yields:
        Its progress and reports, to be answered with a verdict, and one Ended as the last event;
        whatever the trainer raised is part of that.
    """
    lockstep = Lockstep()
    lockstep.add(spec.number, partial(_begin, spec, device, trainer))
    while messages := lockstep.advance():
        verdict = yield _event(spec.number, messages[spec.number])
        lockstep.answer(spec.number, verdict)


def _begin(
    spec: TrialSpec, device: str, trainer: Callable[..., Training] | None = None
) -> CohortMember:
    trainer = trainer or import_object(spec.trainer, what="trainer")
    # The shared trainer's loop as such: trials that run together then share its work.
    loop = partial(train_stepwise, trunks=spec.trunks) if trainer is train else trainer
    run: CohortMember = loop(spec.config, device=device, directory=spec.directory)
    return run


def _event(number: int, message: Message | Ending) -> Event:
    if isinstance(message, Report):
        return Reported(number, message)
    if isinstance(message, Ending):
        return Ended(number, message.outcome, message.message)
    return Progressed(number, message)


def serve(connection: Connection, device: str, threads: int = 0) -> None:
    """A worker process: trains the trials that come through the pipe until it closes.

    Args:
        connection: to the executor.
        device: where it trains.
        threads: CPU threads that it may use; 0 for torch's own choice.
    """
    os.setsid()
    as_the_user_set_it()
    _set_guard()
    if threads:
        torch.set_num_threads(threads)
    leave_to_the_command()
    messages: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_receive, args=(connection, messages), daemon=True).start()
    worker = _Worker(device, connection, messages)
    while worker.wait_for_go():
        worker.run()


class _Worker:
    """Trials in lockstep, and the messages about them."""

    def __init__(self, device: str, connection: Connection, messages: "queue.Queue[Any]") -> None:
        self._device, self._connection, self._messages = device, connection, messages
        self._lockstep = Lockstep()
        self._unanswered: set[int] = set()

    def wait_for_go(self) -> bool:
        """Takes trials and verdicts until all reports are answered and it may go on.

        Returns:
            False where the worker is to end.
        """
        may_go = False
        while self._unanswered or not may_go:
            message = self._messages.get()
            if message is None:
                return False
            may_go = message == GO or may_go
            self._take(message)
        return True

    def run(self) -> None:
        """Trains until a report or an end, which the orchestrator may answer with other trials."""
        while messages := self._lockstep.advance():
            events = [_event(number, message) for number, message in sorted(messages.items())]
            self._unanswered = {event.number for event in events if isinstance(event, Reported)}
            self._connection.send(events)
            if not all(isinstance(event, Progressed) for event in events):
                return
            while not self._messages.empty():
                self._take(self._messages.get())

    def _take(self, message: object) -> None:
        if isinstance(message, TrialSpec):
            log_to(message.directory)
            self._lockstep.add(message.number, partial(_begin, message, self._device))
        elif isinstance(message, tuple):
            number, verdict = message
            self._unanswered.discard(number)
            self._lockstep.answer(number, verdict)


def _receive(connection: Connection, messages: "queue.Queue[Any]") -> None:
    """Passes messages on; when the orchestrator is gone, so is this process: no orphan."""
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)  # with all that a trainer started
        messages.put(message)


def _set_guard() -> None:
    """Starts a process that outlives this one, to end what a trainer started, and this one too.

    It is needed where this process hangs in a call, or was killed. The signals held here remain so
    there. Where the system has no `pidfd_open`, or a container forbids it, it looks twice a second.
    """
    arguments = [sys.executable, "-I", "-S", "-c", GUARD, str(os.getppid()), str(os.getpid())]
    nothing = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    os.posix_spawn(sys.executable, arguments, os.environ, file_actions=nothing)


def log_to(directory: Path) -> None:
    """Sends what trainers print to the trial's own log, away from the live view."""
    with contextlib.suppress(OSError):  # where nothing can be written, the trainer will say so
        directory.mkdir(parents=True, exist_ok=True)
        log = os.open(directory / OUTPUT_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
