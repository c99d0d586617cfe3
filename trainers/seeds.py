"""Random numbers fixed by the seed and the place alone, so that a resumed epoch repeats."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

WEIGHTS, ORDER, DROPOUT = range(3)


def stream_seed(seed: int, stream: int, epoch: int = 0, *place: int) -> int:
    """A 64-bit seed for one stream of one place in a run.

    Args:
        seed: the run's seed.
        stream: WEIGHTS, ORDER or DROPOUT.
        epoch: counted from 1; 0 before training.
        place: in the epoch, such as a step.

    Returns:
        A seed that is statistically independent of every other place's.
    """
    words = np.random.SeedSequence([seed, stream, epoch, *place]).generate_state(1, np.uint64)
    return int(words[0])


def generator(seed: int, stream: int, epoch: int = 0) -> torch.Generator:
    """A CPU generator for one stream of one epoch."""
    return torch.Generator().manual_seed(stream_seed(seed, stream, epoch))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within it torch's default generators begin at `seed`; afterwards they are as before.

    Args:
        seed: of the CPU's generator, and of the device's.
        device: whose generator it is, beside the CPU's.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def repeat_bits() -> None:
    """Have torch take only algorithms that give the same bits again, from now on.

    An operation that has none is a RuntimeError that names it.
    """
    # cuBLAS asks for a workspace of its own, and reads this when it is first called.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # It would fill fresh memory with NaN to show who reads it: that changes no result of ours.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
