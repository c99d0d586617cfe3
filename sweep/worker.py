"""A trial's consumer: drives the trainer's generator, in a child process or in this one."""

import os
import queue
import signal
import threading
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sweep.protocol import Ended, Event, Progressed, Reported, TrialSpec
from trainers.faults import ending_of
from trainers.importing import import_object
from trainers.report import Ending, EpochReport, Outcome, Progress, Verdict

LOG_NAME = "output.log"

# Takes whether to wait for an answer; gives the verdict, None where there is none yet.
Listen = Callable[[bool], Verdict | None]


def consume(spec: TrialSpec, device: str) -> Generator[Event, Verdict | None, None]:
    """Runs one trial to its end.

    Args:
        spec: the trial.
        device: "cpu", "cuda:0".

    Yields:
        Its progress and reports, to be answered with a verdict, and one Ended as the last event;
        whatever the trainer raised is part of that.
    """
    try:
        trainer = import_object(spec.trainer, what="trainer")
        training = trainer(spec.config, device=device, directory=spec.directory)
        verdict: Verdict | None = None
        while True:
            verdict = yield _event(spec.number, training.send(verdict))
    except StopIteration as stop:
        ending = stop.value if isinstance(stop.value, Ending) else Ending(Outcome.COMPLETED)
    except Exception as error:
        ending = ending_of(error)
    yield Ended(spec.number, ending.outcome, ending.message)


def _event(number: int, said: object) -> Event:
    if isinstance(said, EpochReport):
        return Reported(number, said)
    if isinstance(said, Progress):
        return Progressed(number, said)
    raise TypeError(f"a trainer yields Progress and EpochReport, not {said!r}")


def serve(connection: Connection, device: str) -> None:
    """A worker process: trains the trials that come through the pipe until it closes."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # it was started with it blocked
    messages: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_receive, args=(connection, messages), daemon=True).start()
    while True:
        message = messages.get()
        if message is None:
            return
        if isinstance(message, TrialSpec):
            _log_to(message.directory)
            listen = _listener(message.number, messages)
            _run(message, device, connection.send, listen)


def _run(spec: TrialSpec, device: str, say: Callable[[Event], None], listen: Listen) -> None:
    events = consume(spec, device)
    event = next(events)
    say(event)
    while not isinstance(event, Ended):
        event = events.send(listen(isinstance(event, Reported)))
        say(event)


def _receive(connection: Connection, messages: "queue.Queue[Any]") -> None:
    """Passes messages on; when the orchestrator is gone, so is this process: no orphan."""
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        messages.put(message)


def _listener(number: int, messages: "queue.Queue[Any]") -> Listen:
    def listen(wait: bool) -> Verdict | None:
        while True:
            try:
                to, verdict = messages.get(block=wait)
            except queue.Empty:
                return None
            if to == number and isinstance(verdict, Verdict):
                return verdict

    return listen


def _log_to(directory: Path) -> None:
    """Sends what trainers print to the trial's own log, away from the live view."""
    directory.mkdir(parents=True, exist_ok=True)
    log = os.open(directory / LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
