"""Calls a function in a process of its own: its memory and its threads are that call's alone."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from sweep.errors import SweepError
from sweep.execution.death import killed_for_want_of_memory, words
from sweep.execution.paths import as_the_user_set_it, installed_first
from sweep.execution.signals import signals_held
from sweep.execution.threads import bound
from trainers.errors import TrainerError
from trainers.faults import SMALLER, ending_of
from trainers.limits import killed_for_memory
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
    killed_before = killed_for_memory()
    with bound(), installed_first(), signals_held():
        process.start()
    sender.close()
    try:
        result, error, failure = receiver.recv()
    except EOFError:
        process.join()
        if killed_for_want_of_memory(process.exitcode, killed_before):
            raise SweepError(
                f"{what}: the system killed the measuring process, to free memory: {SMALLER}"
            ) from None
        raise SweepError(
            f"{what}: the measuring process died ({words(process.exitcode)})"
        ) from None
    finally:
        process.kill()
        process.join()
    if error is not None:
        raise error(failure if error is TrainerError else f"{what}: {failure}")
    found: T = result
    return found


def _call(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    as_the_user_set_it()
    try:
        sender.send((function(*arguments), None, ""))
    except TrainerError as error:  # written for the user
        sender.send((None, TrainerError, str(error)))
    except Exception as error:
        ending = ending_of(error)
        hint = f": {SMALLER}" if ending.outcome is Outcome.OUT_OF_MEMORY else ""
        sender.send((None, SweepError, f"{ending.message}{hint}"))
