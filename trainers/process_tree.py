"""Ends a trial's processes: all that it started, in sessions of their own too.

Two things tell them. Each has the trial's directory in its environment. And this process adopts
those whose parents have died (Linux), so that they are still its children's children, or its own.

A guard, this file as a program, ends them where this process is killed and cannot.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Set
from pathlib import Path

import psutil

DIRECTORY = "SWEEP_DIRECTORY"
"""In the environment of every process of a trial: what has it belongs to the trial."""

DONE = b"d"
LOOK_S = 0.02
KILL_S = 10.0  # how long what was killed may take to go, as a process in a call of the kernel
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes this process the parent of whatever its children leave behind; Linux alone can."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Guard:
    """A process that ends a trial's processes should this one die; a context manager.

    Args:
        directory: the trial's.
        grace_s: seconds from SIGTERM to SIGKILL.
    """

    def __init__(self, directory: Path, grace_s: float) -> None:
        self._command = (sys.executable, "-P", "-m", __name__, str(directory.absolute()))
        self._grace_s = grace_s

    def __enter__(self) -> "Guard":
        # It notices this process's end by that of the pipe, which nobody else holds.
        self._process = subprocess.Popen(
            (*self._command, str(self._grace_s)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(DONE)
            self._process.stdin.close()
        self._process.wait()


def _guard(directory: str, grace_s: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read(1) != DONE:
        end(Path(directory), grace_s=float(grace_s))


def children() -> frozenset[int]:
    """The process ids of this process's own children."""
    return frozenset(each.pid for each in psutil.Process().children())


def members(
    directory: Path, root: int | None = None, strangers: Set[int] | None = None
) -> list[psutil.Process]:
    """The processes of a trial, this one excepted.

    Args:
        directory: the trial's.
        root: the process id of its program.
        strangers: this process's children that are not of the trial; None where it runs others
            beside it, so that nobody knows whose a child is that it has adopted.
    """
    mark, found = str(directory.absolute()), {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(DIRECTORY) == mark:
                found[process.pid] = process
    roots = [] if root is None else [root]
    roots += [] if strangers is None else _adopted(strangers | {root or 0})
    for pid in roots:
        with contextlib.suppress(psutil.Error):
            program = psutil.Process(pid)
            found |= {each.pid: each for each in (program, *program.children(recursive=True))}
    found.pop(os.getpid(), None)
    return [process for process in found.values() if _lives(process)]


def _adopted(strangers: Set[int]) -> list[int]:
    """Children that this process did not start: they have left its session; the dead are buried."""
    found = []
    for pid in children() - strangers:
        with contextlib.suppress(OSError):
            if os.getsid(pid) != os.getsid(0) and os.waitpid(pid, os.WNOHANG) == (0, 0):
                found.append(pid)
    return found


def end(
    directory: Path,
    root: int | None = None,
    strangers: Set[int] | None = None,
    *,
    grace_s: float,
    tick: Callable[[], object] = lambda: None,
) -> bool:
    """Asks a trial's processes to end, and kills what has not after a while.

    Args:
        directory, root, strangers: as of `members`.
        grace_s: seconds from SIGTERM to SIGKILL.
        tick: called while it waits, such as to reap children.

    Returns:
        Whether all are gone.
    """
    asked: set[int] = set()

    def those() -> list[psutil.Process]:
        return members(directory, root, strangers)

    for left in _until_gone(those, grace_s, tick):
        # Those that were started meanwhile are asked too.
        for process in left:
            if process.pid not in asked:
                asked.add(process.pid)
                _signal(process, signal.SIGTERM)
    for left in _until_gone(those, KILL_S, tick):
        for process in left:
            _signal(process, signal.SIGKILL)
    return not those()


def _until_gone(
    those: Callable[[], list[psutil.Process]], seconds: float, tick: Callable[[], object]
) -> Iterator[list[psutil.Process]]:
    deadline = time.monotonic() + seconds
    known: dict[int, psutil.Process] = {}
    while True:
        # Who has lost its parent meanwhile is still known.
        known |= {process.pid: process for process in those()}
        known = {pid: process for pid, process in known.items() if _lives(process)}
        if not known:
            return
        yield list(known.values())
        tick()
        if time.monotonic() >= deadline:
            return
        time.sleep(LOOK_S)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)


if __name__ == "__main__":
    _guard(*sys.argv[1:])
