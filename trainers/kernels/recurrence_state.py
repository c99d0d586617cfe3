"""The recurrence's weights, positions, and what its forward pass keeps for backward.

Shape suffixes as in `_recurrence.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from trainers.precision.products import rounded

CONTEXT_LIMIT = 10.0
EPSILON = 1e-5
GRADIENT_POSITIONS = {"cpu": 2048, "cuda": 16384}
"""Packed positions whose gradients wait for one product: enough to be fast, few enough to fit."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The recurrence's weights, or their gradients, of K members.

    Attributes:
        mlp: (weight_KHH, bias_KH) of each layer but the first.
    """

    from_context_KHC: Tensor
    gates_KGH: Tensor
    gates_bias_KG: Tensor
    norm_KC: Tensor
    norm_bias_KC: Tensor
    mlp: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def of(cls, flat: Sequence[Tensor]) -> "Weights":
        """The inverse of `flat`."""
        from_context, gates, gates_bias, norm, norm_bias, *mlp = flat
        layers = tuple(zip(mlp[::2], mlp[1::2], strict=True))
        return cls(from_context, gates, gates_bias, norm, norm_bias, layers)

    def flat(self) -> list[Tensor]:
        """All of them in a fixed order."""
        gates = [self.from_context_KHC, self.gates_KGH, self.gates_bias_KG]
        return [*gates, self.norm_KC, self.norm_bias_KC, *(t for layer in self.mlp for t in layer)]

    def cast(self, type_: torch.dtype, factor: float) -> "Weights":
        """The weights in the products' type, those behind a dropout times its factor."""

        def scaled(weight: Tensor) -> Tensor:
            return rounded(weight if factor == 1 else weight * factor, type_)

        return Weights(
            rounded(self.from_context_KHC, type_),
            scaled(self.gates_KGH),
            rounded(self.gates_bias_KG, type_),
            self.norm_KC,
            self.norm_bias_KC,
            tuple(
                (scaled(weight_KHH), rounded(bias_KH, type_)) for weight_KHH, bias_KH in self.mlp
            ),
        )

    def multiply(self, factor: float) -> None:
        """Gradients of `cast` weights become those of the weights."""
        if factor != 1:
            for weight in (self.gates_KGH, *(weight_KHH for weight_KHH, _ in self.mlp)):
                weight.mul_(factor)


@dataclass(frozen=True, slots=True)
class Positions:
    """Where each position's rows lie.

    Attributes:
        running: rows at each position, never growing.
        starts: the first of them among N.
    """

    running: list[int]
    starts: list[int]

    @classmethod
    def of(cls, running: Sequence[int]) -> "Positions":
        """From the rows at each position."""
        return cls(list(running), [0, *accumulate(running)])

    def __len__(self) -> int:
        return len(self.running)

    def blocks_backwards(self, least: int) -> Iterator[range]:
        """Runs of positions, each of so many rows or more, from the end."""
        end = len(self)
        for position in reversed(range(end)):
            if position == 0 or self.starts[end] - self.starts[position] >= least:
                yield range(position, end)
                end = position


@dataclass(frozen=True, slots=True)
class Kept:
    """What backward reads.

    Attributes:
        hidden: each layer's output, KNH, before dropout's factor.
        gates_KMG: after the sigmoids.
        mixed_KMC: what LayerNorm reads.
        context_KMC: the context that enters each later position.
    """

    hidden: tuple[Tensor, ...]
    gates_KMG: Tensor
    mixed_KMC: Tensor
    context_KMC: Tensor

    @classmethod
    def empty(cls, x_KNH: Tensor, at: Positions, weights: Weights) -> "Kept":
        """Room for a forward pass."""
        members, positions, _ = x_KNH.shape
        later, context = positions - at.running[0], weights.norm_KC.shape[1]
        # The context is an FP32 island: it carries rounding errors from position to position.
        island = torch.promote_types(x_KNH.dtype, torch.float32)
        hidden = (torch.empty_like(x_KNH) for _ in range(len(weights.mlp) + 1))
        widths = (3 * context, context, context)
        return cls(
            tuple(hidden), *(x_KNH.new_empty(members, later, w, dtype=island) for w in widths)
        )

    def flat(self) -> tuple[Tensor, ...]:
        """All of it."""
        return (*self.hidden, self.gates_KMG, self.mixed_KMC, self.context_KMC)


class Views:
    """Each position's rows of what is kept, cut all at once: a slice takes as long as a kernel.

    `hidden[t]` has a view for each layer; the others' t is the position that the renewed context
    enters, and nothing enters the first.
    """

    def __init__(self, kept: Kept, at: Positions) -> None:
        context = kept.context_KMC.shape[2]
        first, *later = at.running

        def cut(x_KMW: Tensor) -> list[Tensor]:
            return [x_KMW[:, :0], *x_KMW.split(later, 1)]

        by_layer = [hidden_KNH.split([first, *later], 1) for hidden_KNH in kept.hidden]
        self.hidden = list(zip(*by_layer, strict=True))
        self.gates = cut(kept.gates_KMG)
        self.open = cut(kept.gates_KMG[:, :, : 2 * context])  # forget and input
        self.forget, self.input, self.delta = map(cut, kept.gates_KMG.split(context, 2))
        self.mixed, self.context = cut(kept.mixed_KMC), cut(kept.context_KMC)


def first_rows(x_KR: Tensor, rows: int) -> Tensor:
    """The first rows: those that go on."""
    return x_KR if x_KR.shape[1] == rows else x_KR[:, :rows]


def normed(mixed_KMC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """LayerNorm without weights: values, means, reciprocal standard deviations."""
    normed: tuple[Tensor, Tensor, Tensor] = torch.native_layer_norm(
        mixed_KMC, mixed_KMC.shape[2:], None, None, EPSILON
    )
    return normed
