"""Random streams fixed by the seed and the epoch alone, so that a resumed epoch repeats."""

from typing import Self

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


Mark = tuple[tuple[torch.Tensor, ...], tuple[int, int]]


class RandomStream:
    """Torch's default generators, a member's own while entered: what others draw changes nothing.

    Args:
        device: whose generator it is, beside the CPU's.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None
        self._state = self._outside = self._current()
        self._place = (0, 0)  # the seed, and how often it was entered since

    def seed(self, seed: int) -> None:
        """Start anew."""
        with self:
            torch.manual_seed(seed)
        self._place = (seed, 0)

    def agrees_with(self, other: "RandomStream") -> bool:
        """Whether both would draw the same, as long as they draw alike."""
        return self._place == other._place

    def follow(self, other: "RandomStream") -> None:
        """Go on from where `other` is."""
        self._state, self._place = other._state, other._place

    def mark(self) -> Mark:
        """Where the stream is now, for `back_to`."""
        return self._state, self._place

    def back_to(self, mark: Mark) -> None:
        """Draw once more what was drawn since."""
        self._state, self._place = mark

    def __enter__(self) -> Self:
        self._outside = self._current()
        self._take(self._state)
        return self

    def __exit__(self, *_: object) -> None:
        self._state = self._current()
        self._take(self._outside)
        self._place = (self._place[0], self._place[1] + 1)

    def _current(self) -> tuple[torch.Tensor, ...]:
        cpu = torch.get_rng_state()
        return (cpu, torch.cuda.get_rng_state(self._device)) if self._device else (cpu,)

    def _take(self, states: tuple[torch.Tensor, ...]) -> None:
        torch.set_rng_state(states[0])
        if self._device:
            torch.cuda.set_rng_state(states[1], self._device)
