"""Which process on which machine this is, and whether another one has certainly ended."""

import contextlib
import functools
import os
import socket
from pathlib import Path

PROC = Path("/proc")


@functools.cache
def machine() -> str:
    """The boot of the kernel that this runs on, shared by its containers; else the host's name."""
    with contextlib.suppress(OSError):
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return socket.gethostname()


def this_process() -> str:
    """Names this process among all of its machine's; "" where the system does not tell."""
    with contextlib.suppress(OSError):
        # Another namespace's /proc may be mounted here: its numbers are those of other processes.
        if (PROC / "self").readlink() == Path(str(os.getpid())):
            return f"{_namespaces()} {os.getpid()} {_started(os.getpid())}"
    return ""


def has_ended(where: str, process: str) -> bool:
    """Whether a process is gone for certain; False wherever this one cannot know.

    Args:
        where: what `machine` gave it.
        process: what `this_process` gave it.
    """
    mine = this_process()
    if not mine or not process or where != machine():
        return False
    namespaces, number, started = process.rsplit(maxsplit=2)
    if namespaces != _namespaces():
        return False
    try:
        os.kill(int(number), 0)
        return _started(int(number)) != started
    except ProcessLookupError:
        return True
    except OSError:  # it is there, and another user's
        return False


def _namespaces() -> str:
    """Those that a process's number and its start are counted in."""
    return " ".join(str((PROC / "self/ns" / name).readlink()) for name in ("pid", "time"))


def _started(number: int) -> str:
    """When a process began, in the kernel's ticks; "ended" for one that is only not collected."""
    fields = (PROC / str(number) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return "ended" if fields[0] in ("Z", "X") else fields[19]
