"""The signals that ask a sweep to stop: it pauses. Only a second Ctrl-C stops it at once.

A batch system warns with SIGUSR1, SIGUSR2 or SIGTERM, a terminal that goes with SIGHUP, and each
may send several of them, to the whole group or to every process there is. So nothing but the
command itself heeds them, and how often they come makes no difference.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

PAUSED, INTERRUPTED = 3, 130
PAUSING = tuple(  # Windows, which is refused in a line, has only the first
    signal.Signals[name]
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
STOPPING = (signal.SIGINT, *PAUSING)


@contextlib.contextmanager
def handled(numbers: tuple[signal.Signals, ...], handler: Callable[..., Any]) -> Iterator[None]:
    """Sets a handler inside; SIGHUP stays ignored where `nohup` has seen to that."""
    before: dict[signal.Signals, Any] = {}
    try:
        for number in numbers:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def end_early(number: int, frame: FrameType | None) -> None:
    """A handler for when no trial runs yet: there is nothing to wait for.

    Raises:
        KeyboardInterrupt: it is a Ctrl-C.
        SystemExit: it is another signal; the code is that of a pause.
    """
    interrupted = number == signal.SIGINT
    line = b"stopped at once" if interrupted else b"stopped before a trial ran"
    # Raised in the midst of an import, such as torch's, an exception may end in an abort of C++.
    importing = _imports(frame)
    if importing or not interrupted:  # what Ctrl-C raises is put into words by the command line
        with contextlib.suppress(OSError):
            os.write(2, b"sweep: " + line + b"; the same command goes on\n")
    if importing:
        os._exit(INTERRUPTED if interrupted else PAUSED)
    raise KeyboardInterrupt if interrupted else SystemExit(PAUSED)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


class StopSignals:
    """A context manager inside which the signals set `received` instead of ending the process."""

    def __init__(self) -> None:
        self.received = False
        self._handled = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._handled.enter_context(handled(STOPPING, self._handle))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handled.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Processes started inside begin with the signals blocked: they are of the command's group."""
    from multiprocessing import resource_tracker

    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        # It ignores what it knows of; started with the first worker, it would lift the mask.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_the_command() -> None:
    """Lets a worker, which was started with the signals held, outlive them; Ctrl-C is ignored.

    The others do nothing here, but end what a trainer starts, as is their use: a handler is not
    handed down by exec, and a forked process gives it up.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in PAUSING:
        signal.signal(number, lambda *_: None)
        signal.siginterrupt(number, False)
    os.register_at_fork(after_in_child=_heed)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _heed() -> None:
    for number in PAUSING:
        signal.signal(number, signal.SIG_DFL)
