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


def ending_of(error: Exception) -> Ending:
    """Out of memory is told apart from a failure.

    Args:
        error: what the trainer's generator raised.

    Returns:
        OUT_OF_MEMORY or FAILED, with the error's first line.
    """
    text = str(error).strip().splitlines()
    line = text[0] if text else type(error).__name__
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        known in line for known in _OUT_OF_MEMORY
    ):
        return Ending(Outcome.OUT_OF_MEMORY, f"ran out of memory: {line}")
    if isinstance(error, TrainerError):  # written for the user
        return Ending(Outcome.FAILED, f"failed: {line}")
    return Ending(Outcome.FAILED, f"failed: {type(error).__name__}: {line}")
