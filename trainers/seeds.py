"""Random streams fixed by the seed and the epoch alone, so that a resumed epoch repeats."""

import numpy as np
import torch

WEIGHTS, ORDER, DROPOUT = range(3)


def stream_seed(seed: int, stream: int, epoch: int = 0) -> int:
    """A 64-bit seed for one stream of one epoch.

    Args:
        seed: the run's seed.
        stream: WEIGHTS, ORDER or DROPOUT.
        epoch: counted from 1; 0 before training.

    Returns:
        A seed that is statistically independent of every other (seed, stream, epoch)'s.
    """
    return int(np.random.SeedSequence([seed, stream, epoch]).generate_state(1, np.uint64)[0])


def generator(seed: int, stream: int, epoch: int = 0) -> torch.Generator:
    """A CPU generator for one stream of one epoch."""
    return torch.Generator().manual_seed(stream_seed(seed, stream, epoch))
