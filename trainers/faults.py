"""Turns what a trainer raised into an ending, so that no exception crosses a process."""

import errno

import torch

from trainers.errors import TrainerError
from trainers.report import Ending, Outcome

# Not every allocator raises OutOfMemoryError: torch's on the CPU and CUDA's libraries raise a
# plain RuntimeError with one of these texts.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


SMALLER = "take a smaller model, window, batch or cohort"
"""What to do where a whole command ran out of memory."""

_NO_DEVICE = (
    "No CUDA GPUs are available",
    "no CUDA-capable device is detected",
    "CUDA-capable device(s) is/are busy or unavailable",
    "uncorrectable ECC error",
    "GPU is lost",
)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class EndedError(RuntimeError):
    """How a training ended, as another of its processes says."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocator, of the host or of CUDA, had no room."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(known in _line(error) for known in _OUT_OF_MEMORY)


def ending_of(error: Exception) -> Ending:
    """Out of memory is told apart from a failure.

    Args:
        error: what the trainer's generator raised.

    Returns:
        OUT_OF_MEMORY, NO_SPACE, LOST where the device is gone, or FAILED, with the error's first
        line.
    """
    if isinstance(error, EndedError):
        return error.ending
    line = _line(error)
    if out_of_memory(error):
        return Ending(Outcome.OUT_OF_MEMORY, f"ran out of memory: {line}")
    if _no_space(error):
        return Ending(Outcome.NO_SPACE, f"found no room on the disk: {line}")
    if any(known in line for known in _NO_DEVICE):
        return Ending(Outcome.LOST, f"lost: its device is gone: {line}")
    if isinstance(error, TrainerError):  # written for the user
        return Ending(Outcome.FAILED, f"failed: {line}")
    return Ending(Outcome.FAILED, f"failed: {type(error).__name__}: {line}")


def _no_space(error: BaseException) -> bool:
    """A full disk, a quota or a limit of a file's size, also where it is another error's cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _NO_SPACE:
            return True
        cause = cause.__cause__
    return False


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
