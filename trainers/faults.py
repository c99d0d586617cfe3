"""Turns what a trainer raised into an ending, so that no exception crosses a process."""

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
        OUT_OF_MEMORY or FAILED, with the error's first line.
    """
    line = _line(error)
    if out_of_memory(error):
        return Ending(Outcome.OUT_OF_MEMORY, f"ran out of memory: {line}")
    if isinstance(error, TrainerError):  # written for the user
        return Ending(Outcome.FAILED, f"failed: {line}")
    return Ending(Outcome.FAILED, f"failed: {type(error).__name__}: {line}")


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
