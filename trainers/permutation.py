"""A random order of very many things, of which any part is had without the rest."""

import numpy as np
import numpy.typing as npt

ROUNDS = 8

Integers = npt.NDArray[np.int64]


class Permutation:
    """A random order of 0 to count - 1, in constant time and memory for each part of it.

    A Feistel network permutes the next power of four, and what falls outside is permuted again
    (cycle walking; Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains"). Its rounds mix
    as SplitMix64 does (Steele et al. 2014).

    Args:
        count: of things, at least 1.
        seed: the same one gives the same order.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._half = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))
        self._mask = np.uint64((1 << int(self._half)) - 1)
        self._keys = np.random.SeedSequence(seed).generate_state(ROUNDS, np.uint64)

    def __len__(self) -> int:
        return self._count

    def part(self, start: int, stop: int) -> Integers:
        """What stands at the places from `start` on, up to `stop` or the end."""
        values = self._permuted(np.arange(start, min(stop, self._count), dtype=np.uint64))
        while len(outside := np.flatnonzero(values >= self._count)):
            values[outside] = self._permuted(values[outside])
        return values.astype(np.int64)

    def _permuted(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right ^ key) & self._mask)
        return (left << self._half) | right


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
