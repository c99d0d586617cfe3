"""How a process died, and whether for want of memory: that is said only where it is known."""

import signal

from trainers.limits import killed_for_memory


def words(code: int | None) -> str:
    """Puts an exit code of `multiprocessing` into words: "killed by SIGKILL", "exit code 9"."""
    if code is None or code >= 0:
        return f"exit code {code or 0}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"killed by signal {-code}"


def killed_for_want_of_memory(code: int | None, killed_before: int) -> bool:
    """Whether the system killed it to free memory.

    Args:
        code: its exit code.
        killed_before: what `killed_for_memory` said as it was started.
    """
    return code == -signal.SIGKILL and killed_for_memory() > killed_before
