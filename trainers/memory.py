"""Peak memory of a run."""

import resource
import sys

import torch


def reset_peak_memory(device: torch.device) -> None:
    """Forgets the peak of an earlier run in this process, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int:
    """CUDA's peak allocation, or this process's peak resident set elsewhere, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
