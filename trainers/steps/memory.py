"""Memory: a run's peak, and how many rows of a batch fit."""

import ctypes
import functools
import gc
import os
import resource
import sys
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from trainers.faults import out_of_memory
from trainers.kernels.graphs import recordings
from trainers.limits import memory_limit
from trainers.models import StackedModel, has_features
from trainers.models._stacked import stack
from trainers.steps.loss import sequence_loss

# What one row keeps for backward is measured; gradients and masks on their way come on top.
OVERHEAD = 2.0
SHARE = {"cuda": 0.8, "cpu": 0.4}
"""Of all memory: the device's own, or the machine's, which others need too."""
ENOUGH_BYTES = {"cuda": 2**63, "cpu": 2**31}
"""More rows at once are no faster: a CPU's products reach their peak at a few hundred."""
PROBE_ROWS = 4

# <malloc.h>: the options of mallopt, and the largest threshold that glibc takes.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGEST_MMAP_THRESHOLD = 2**25


@functools.cache
def keep_freed_memory() -> None:
    """Let a step's memory serve the next step, in large pages where there are such.

    Otherwise glibc gives large blocks back to the system, which clears every page of them anew:
    a tenth of a step on the CPU. Without glibc nothing happens.
    """
    # Read by torch when it first allocates a large block; a user's own setting stays.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 2**26)


def release_memory(device: torch.device) -> None:
    """Give back what a step that had no room still holds."""
    recordings.clear()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


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


_measured: WeakKeyDictionary[nn.Module, dict[int, int]] = WeakKeyDictionary()


def rows_that_fit(model: nn.Module, window: int, members: int = 1) -> int:
    """Rows of each member's batch that may be computed at once, in training or in evaluation.

    It depends on how much memory there is, not on how much is free: the same run computes the same
    bits again.

    Args:
        model: of one member, on its device.
        window: tokens of a row.
        members: that are computed side by side.
    """
    device = next(model.parameters()).device
    known = _measured.setdefault(model, {})
    if window not in known:
        known[window] = bytes_of_a_row(model, window, device)
    budget = min(SHARE[device.type] * total_memory_bytes(device), ENOUGH_BYTES[device.type])
    # An evaluation keeps nothing for backward: it takes less.
    return max(1, int(budget / (OVERHEAD * members * known[window])))


@torch.inference_mode(False)
@torch.enable_grad()
def bytes_of_a_row(model: nn.Module, window: int, device: torch.device) -> int:
    """Measure what backward needs of one row in FP32, by a forward pass of a few.

    Args:
        model: on the device.
        window: tokens of a row.
        device: where to measure.

    Returns:
        All of the device's memory where it has no room for these.
    """
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    training = model.training
    model.eval()  # a user's own may count its batches in training
    try:
        noting = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
        with recordings.off(), noting:
            _probe(model, window, device)
    except Exception as error:
        if not out_of_memory(error):
            raise
        return total_memory_bytes(device)
    finally:
        model.train(training)
    activations = sum(count for pointer, count in kept.items() if pointer not in parameters)
    return max(1, activations // PROBE_ROWS)


def _probe(model: nn.Module, window: int, device: torch.device) -> None:
    tokens_BT = torch.ones(PROBE_ROWS, window, dtype=torch.int64, device=device)
    lengths_B = torch.full((PROBE_ROWS,), window)
    inputs_BT, counts_B = tokens_BT[:, 1:], lengths_B - 1
    # Of a head that is applied apart, so many logits exist at once whatever the rows.
    if isinstance(model, StackedModel):
        model.stacked_features(stack([model]), inputs_BT[None], counts_B, None)
    elif has_features(model):
        model.features(inputs_BT, counts_B)
    else:
        sequence_loss(model, tokens_BT, lengths_B)


def total_memory_bytes(device: torch.device) -> int:
    """CUDA's memory; elsewhere the machine's, or the least that limits this process."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min(machine, memory_limit()))
