"""A stream whose end is not the end of the work: `| head`, a closed terminal, a full disk."""

import contextlib
import os
from typing import Any, TextIO, cast

from sweep.orchestration.log import say


class LastingStream:
    """Passes on what is written until that fails once, and says so in the study's log.

    What the stream wrote to is the null device from then on: nothing else stumbles over it.

    Args:
        stream: where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes, or not."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._leave(error)
            return len(text)

    def flush(self) -> None:
        """Writes what has waited, or not."""
        try:
            self._stream.flush()
        except OSError as error:
            self._leave(error)

    def _leave(self, error: OSError) -> None:
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        say(f"nothing is shown any more ({error.strerror or error}), and the work goes on")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lasting(stream: TextIO) -> TextIO:
    """Makes a stream one that outlives what it writes to."""
    return cast(TextIO, LastingStream(stream))
