"""Which values a training step drops: the same however its rows are cut.

Each block of rows has a generator of its own, so that a batch trained in parts, alone or in a
cohort, drops what the whole one would, in a model of any number of layers.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trainers.seeds import DROPOUT, stream_seed

LANES = 2**16
"""A probability is a multiple of 1/65,536: one random number of 64 bits serves four values."""
MOST_ROWS, POSITIONS = 256, 2**14
"""Of a block: a part of one draws all of it, so that the masks of long rows must be few."""

Place = tuple[int, int, int]
"""What fixes the masks of a step: the run's seed, the epoch, the step in it."""


def block_rows(window: int) -> int:
    """Rows whose masks are drawn together; parts of a batch had best begin at its multiples."""
    return max(1, min(MOST_ROWS, POSITIONS // window))


class Dropout:
    """Draws masks for K members; to be made anew for each part of a batch.

    Args:
        places: of each member; one for all where they share their masks. Without any, masks come
            from the default generator.
        window: positions to draw for, whatever a batch's longest row; 0 takes those asked for.
        first: of the batch's rows, at which those asked for begin.
        of: the batch's rows; 0 takes those asked for.
    """

    def __init__(
        self, places: Sequence[Place] = (), *, window: int = 0, first: int = 0, of: int = 0
    ) -> None:
        self._places: Sequence[Place | None] = places or (None,)
        self._window, self._first, self._of = window, first, of
        self._generators: dict[tuple[Place, int], torch.Generator] = {}

    def keep(self, p: float, size: Sequence[int], device: torch.device) -> Tensor:
        """Draw what is kept.

        Args:
            p: probability of a drop.
            size: rows, positions, and the values of a position.
            device: where the mask is to lie.

        Returns:
            uint8, 1 where kept, 0 where dropped: (K, *size); (1, *size) where the members share it.
        """
        drawn = [self._drawn(place, p, size, device) for place in self._places]
        # As numbers: multiplying by a boolean takes three times as long.
        return (drawn[0][None] if len(drawn) == 1 else torch.stack(drawn)).view(torch.uint8)

    def _drawn(
        self, place: Place | None, p: float, size: Sequence[int], device: torch.device
    ) -> Tensor:
        asked, positions, *values = size
        window, rows = self._window or positions, self._of or asked
        block = block_rows(window)
        blocks = range(self._first // block, math.ceil((self._first + asked) / block))
        begin, end = blocks.start * block, min(blocks.stop * block, rows)
        kept = torch.empty(end - begin, window * math.prod(values), dtype=torch.bool, device=device)
        lowest = -LANES // 2 + round(p * LANES)
        for number, part in zip(blocks, kept.split(block), strict=True):
            lanes = _lanes(part.numel(), device, self._generator(place, number, device))
            torch.ge(lanes.view_as(part), lowest, out=part)
        first = self._first - begin
        return kept.view(-1, window, *values)[first : first + asked, :positions]

    def _generator(
        self, place: Place | None, block: int, device: torch.device
    ) -> torch.Generator | None:
        if place is None:
            return None
        if (place, block) not in self._generators:
            seed, epoch, step = place
            fresh = torch.Generator(device)
            fresh.manual_seed(stream_seed(seed, DROPOUT, epoch, step, block))
            self._generators[place, block] = fresh
        return self._generators[place, block]


def _lanes(count: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Uniform 16-bit integers; drawing them one by one takes four times as long."""
    words = torch.empty(math.ceil(count / 4), dtype=torch.int64, device=device)
    return words.random_(-(2**63), None, generator=generator).view(torch.int16)[:count]
