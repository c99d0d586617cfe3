"""Which values a training step drops, from a stream of its own: the same however rows are cut.

Masks are drawn in blocks of rows, so that a batch trained in parts drops what the whole one would.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

BLOCK = 256
"""Rows whose masks are drawn together: parts of a batch begin at its multiples."""

LANES = 2**16
"""A probability is a multiple of 1/65,536: one random number of 64 bits serves four values."""


class Dropout:
    """Draws masks for K members from the default generator.

    Args:
        streams: a context manager a member, within which the default generator is that member's;
            one for all where they share their masks.
        window: positions to draw for, whatever a batch's longest row; 0 takes those asked for.
        first, of: the rows asked for begin at `first` of so many that are drawn; 0 takes them all.
    """

    def __init__(
        self,
        streams: Sequence[AbstractContextManager[object]] = (),
        *,
        window: int = 0,
        first: int = 0,
        of: int = 0,
    ) -> None:
        self._streams = streams or (nullcontext(),)
        self._window, self._first, self._of = window, first, of

    def keep(self, p: float, size: Sequence[int], device: torch.device) -> Tensor:
        """Draw what is kept.

        Args:
            p: probability of a drop.
            size: rows, positions, and the values of a position.
            device: where the mask is to lie.

        Returns:
            uint8, 1 where kept, 0 where dropped: (K, *size); (1, *size) where the members share it.
        """
        drawn = [self._drawn(stream, p, size, device) for stream in self._streams]
        # As numbers: multiplying by a boolean takes three times as long.
        return (drawn[0][None] if len(drawn) == 1 else torch.stack(drawn)).view(torch.uint8)

    def _drawn(
        self,
        stream: AbstractContextManager[object],
        p: float,
        size: Sequence[int],
        device: torch.device,
    ) -> Tensor:
        asked, positions, *values = size
        rows = self._of or asked
        window = self._window or positions
        row = window * math.prod(values)
        lowest = -LANES // 2 + round(p * LANES)
        kept = torch.empty(rows, row, dtype=torch.bool, device=device)
        with stream:
            for block in kept.split(BLOCK):
                torch.ge(_lanes(block.numel(), device).view_as(block), lowest, out=block)
        kept = kept.view(rows, window, *values)
        return kept[self._first : self._first + asked, :positions]


def _lanes(count: int, device: torch.device) -> Tensor:
    """Uniform 16-bit integers; drawing them one by one takes four times as long."""
    words = torch.empty(math.ceil(count / 4), dtype=torch.int64, device=device)
    return words.random_(-(2**63), None).view(torch.int16)[:count]
