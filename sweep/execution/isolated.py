"""Calls a function in a process of its own: its memory and its threads are that call's alone."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from sweep.errors import SweepError
from sweep.execution.signals import interrupts_held
from sweep.execution.threads import bound
from trainers.errors import TrainerError
from trainers.faults import SMALLER, ending_of
from trainers.report import Outcome

T = TypeVar("T")


def call_in_process(function: Callable[..., T], *arguments: Any, what: str) -> T:
    """Calls a function that trains on this machine.

    Args:
        function: found by its import path, as its arguments' classes are.
        arguments: its own.
        what: is measured, for errors: "batch 32, fp16".

    Raises:
        TrainerError: it raised one.
        SweepError: it raised something else, or its process died, and why.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, arguments), daemon=True)
    with bound(), interrupts_held():
        process.start()
    sender.close()
    try:
        result, error, failure = receiver.recv()
    except EOFError:
        raise SweepError(
            f"{what}: the measuring process died, for want of memory perhaps: {SMALLER}"
        ) from None
    finally:
        process.kill()
        process.join()
    if error is not None:
        raise error(failure if error is TrainerError else f"{what}: {failure}")
    found: T = result
    return found


def _call(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        sender.send((function(*arguments), None, ""))
    except TrainerError as error:  # written for the user
        sender.send((None, TrainerError, str(error)))
    except Exception as error:
        ending = ending_of(error)
        hint = f": {SMALLER}" if ending.outcome is Outcome.OUT_OF_MEMORY else ""
        sender.send((None, SweepError, f"{ending.message}{hint}"))
