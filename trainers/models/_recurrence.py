"""The recurrence of `context_vector`, K members at once, with a backward of its own.

Autograd would multiply for the weights' gradients at every position, by matrices too small to be
fast. These are sums over positions, whose order does not matter: here they are one product for
many positions. And of what a position computes only what backward reads is kept.

Shape suffixes: K members, N packed position (every real one of a batch, position by position),
M packed position but the first of each row, R rows at one position, H hidden, C context,
G = 3 C gates (forget, input, delta), L layers, T position.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainers.products import autocast_off, product_in_fp32, product_type

CONTEXT_LIMIT = 10.0
EPSILON = 1e-5
GRADIENT_POSITIONS = 2048
"""Packed positions whose gradients wait for one product: enough to be fast, few enough to fit."""

aten = torch.ops.aten


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
            return (weight if factor == 1 else weight * factor).to(type_)

        return Weights(
            self.from_context_KHC.to(type_),
            scaled(self.gates_KGH),
            self.gates_bias_KG.to(type_),
            self.norm_KC,
            self.norm_bias_KC,
            tuple((scaled(weight_KHH), bias_KH.to(type_)) for weight_KHH, bias_KH in self.mlp),
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

    def blocks_backwards(self) -> Iterator[range]:
        """Runs of positions, each of GRADIENT_POSITIONS rows or more, from the end."""
        end = len(self)
        for position in reversed(range(end)):
            if position == 0 or self.starts[end] - self.starts[position] >= GRADIENT_POSITIONS:
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


def recur(
    x_KNH: Tensor,
    running: Sequence[int],
    keep_KRTLH: Tensor | None,
    p: float,
    weights: Weights,
) -> Tensor:
    """Run the recurrence over every position of a batch.

    Args:
        x_KNH: the token's part of the first layer, its bias included.
        running: rows at each position, never growing; N is their sum.
        keep_KRTLH: what dropout keeps for each row of the batch, position and layer, 1 or 0; its
            K may be 1 where the members share it; None drops nothing.
        p: probability of a drop.
        weights: of K members.

    Returns:
        hidden_KNH, in autocast's type where that is enabled.
    """
    hidden_KNH: Tensor = _Recurrence.apply(  # type: ignore[no-untyped-call]
        x_KNH, Positions.of(running), keep_KRTLH, p, *weights.flat()
    )
    return hidden_KNH


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_KNH: Tensor,
        at: Positions,
        keep_KRTLH: Tensor | None,
        p: float,
        *flat: Tensor,
    ) -> Tensor:
        ctx.at, ctx.factor = at, 1.0 if keep_KRTLH is None else 1 / (1 - p)
        ctx.types = [x_KNH.dtype, *(tensor.dtype for tensor in flat)]
        type_ = product_type(x_KNH)
        with autocast_off(x_KNH.device):
            weights = Weights.of(flat).cast(type_, ctx.factor)
            kept = _forward(x_KNH.to(type_), at, keep_KRTLH, weights)
            ctx.save_for_backward(*kept.flat(), *weights.flat())
            hidden_KNH: Tensor = kept.hidden[-1] * ctx.factor
            return hidden_KNH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_KNH: Tensor) -> tuple[Tensor | None, ...]:
        layers = 1 + (len(ctx.types) - 6) // 2
        kept = Kept(ctx.saved_tensors[:layers], *ctx.saved_tensors[layers : layers + 3])
        weights = Weights.of(ctx.saved_tensors[layers + 3 :])
        with autocast_off(grad_KNH.device):
            grad_x_KNH, grads = _Backward(ctx.at, kept, weights, grad_KNH * ctx.factor).run()
            grads.multiply(ctx.factor)
        found = [grad_x_KNH, *grads.flat()]
        cast = [grad.to(type_) for grad, type_ in zip(found, ctx.types, strict=True)]
        return cast[0], None, None, None, *cast[1:]


def _forward(x_KNH: Tensor, at: Positions, keep_KRTLH: Tensor | None, weights: Weights) -> Kept:
    kept = Kept.empty(x_KNH, at, weights)
    views, step = Views(kept, at), _Forward(weights)
    keep = [None] * len(at) if keep_KRTLH is None else keep_KRTLH.unbind(2)
    for t, (before_KRH, keep_KRLH) in enumerate(zip(x_KNH.split(at.running, 1), keep, strict=True)):
        if t:
            context_KRC = views.context[t].to(x_KNH.dtype)
            before_KRH = torch.baddbmm(before_KRH, context_KRC, step.from_context_KCH)
        step.mlp(before_KRH, views.hidden[t], keep_KRLH)
        if t + 1 < len(at):
            step.renew(views, t, at.running[t + 1])
    return kept


class _Forward:
    """One position's computation, with the weights turned once for all positions."""

    def __init__(self, weights: Weights) -> None:
        self.from_context_KCH = weights.from_context_KHC.mT
        self.layers = [(weight_KHH.mT, bias_KH[:, None]) for weight_KHH, bias_KH in weights.mlp]
        self.gates_KHG, self.gates_bias_K1G = weights.gates_KGH.mT, weights.gates_bias_KG[:, None]
        self.norm_K1C, self.norm_bias_K1C = weights.norm_KC[:, None], weights.norm_bias_KC[:, None]

    def mlp(self, before_KRH: Tensor, hidden: Sequence[Tensor], keep_KRLH: Tensor | None) -> None:
        """ReLU and dropout of each layer, Linear between."""
        keep = (
            [None] * len(hidden)
            if keep_KRLH is None
            else _rows(keep_KRLH, before_KRH.shape[1]).unbind(2)
        )
        for layer, (hidden_KRH, keep_KRH) in enumerate(zip(hidden, keep, strict=True)):
            if layer:
                weight_KHH, bias_K1H = self.layers[layer - 1]
                before_KRH = torch.baddbmm(bias_K1H, hidden[layer - 1], weight_KHH)
            torch.clamp_min(before_KRH, 0, out=hidden_KRH)
            if keep_KRH is not None:
                hidden_KRH.mul_(keep_KRH)

    def renew(self, views: Views, t: int, rows: int) -> None:
        """From position t's hidden values and context to the next one's context."""
        hidden_KRH, there = _rows(views.hidden[t][-1], rows), t + 1
        gates_KRG = torch.baddbmm(self.gates_bias_K1G, hidden_KRH, self.gates_KHG)
        views.gates[there].copy_(gates_KRG)
        views.open[there].sigmoid_()
        mixed_KRC = torch.mul(views.input[there], views.delta[there], out=views.mixed[there])
        if t:  # the first context is zero
            mixed_KRC.addcmul_(views.forget[there], _rows(views.context[t], rows))
        normed_KRC, _, _ = _normed(mixed_KRC)
        moved_KRC = torch.addcmul(self.norm_bias_K1C, normed_KRC, self.norm_K1C)
        torch.clamp(moved_KRC, -CONTEXT_LIMIT, CONTEXT_LIMIT, out=views.context[there])


def _rows(x_KR: Tensor, rows: int) -> Tensor:
    """The first rows: those that go on."""
    return x_KR if x_KR.shape[1] == rows else x_KR[:, :rows]


def _normed(mixed_KMC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """LayerNorm without weights: values, means, reciprocal standard deviations."""
    normed: tuple[Tensor, Tensor, Tensor] = torch.native_layer_norm(
        mixed_KMC, mixed_KMC.shape[2:], None, None, EPSILON
    )
    return normed


class _Backward:
    """Back through every position, from the last to the first.

    Args:
        at: the positions.
        kept: of the forward pass.
        weights: as the forward pass multiplied by them.
        grad_KNH: of the last layer's output before dropout's factor.
    """

    def __init__(self, at: Positions, kept: Kept, weights: Weights, grad_KNH: Tensor) -> None:
        self.at, self.kept, self.weights = at, kept, weights
        self.views, self.grad = Views(kept, at), grad_KNH.split(at.running, 1)
        self.grad_x_KNH = torch.empty_like(grad_KNH)
        self.grads = Weights.of(
            [torch.zeros_like(weight, dtype=kept.mixed_KMC.dtype) for weight in weights.flat()]
        )
        self.norm_K1C = weights.norm_KC[:, None]
        self.normed_KMC, mean_KM1, scale_KM1 = _normed(kept.mixed_KMC)
        self.grad_normed_KMC = torch.empty_like(self.normed_KMC)
        later = at.running[1:]
        # The kernel reads the moments as if they were contiguous.
        self.mean = [part.contiguous() for part in mean_KM1.split(later, 1)]
        self.scale = [part.contiguous() for part in scale_KM1.split(later, 1)]
        self.grad_normed = self.grad_normed_KMC.split(later, 1)
        # What reaches the context that entered the position done last.
        self.grad_context_KRC = grad_KNH.new_empty(0)

    def run(self) -> tuple[Tensor, Weights]:
        """Return the gradients of x_KNH and of the weights."""
        for block in self.at.blocks_backwards():
            self._block(block)
        self.grads.norm_KC.copy_((self.grad_normed_KMC * self.normed_KMC).sum(1))
        self.grads.norm_bias_KC.copy_(self.grad_normed_KMC.sum(1))
        return self.grad_x_KNH, self.grads

    def _block(self, block: range) -> None:
        """Some positions' gradients one after another, then the weights' from all of them."""
        rows = slice(self.at.starts[block.start], self.at.starts[block.stop])
        first_KNH = self.grad_x_KNH[:, rows]
        # Of each layer before its ReLU; of the gates before their sigmoids, zero where a row ends.
        before = [first_KNH, *(torch.empty_like(first_KNH) for _ in self.weights.mlp)]
        gates_KNG = first_KNH.new_zeros(*first_KNH.shape[:2], self.kept.gates_KMG.shape[2])
        running = self.at.running[block.start : block.stop]
        by_position = zip(*(layer_KNH.split(running, 1) for layer_KNH in before), strict=True)
        parts = list(zip(block, by_position, gates_KNG.split(running, 1), strict=True))
        for t, before_t, gates_KRG in reversed(parts):
            self._position(t, before_t, gates_KRG)
        self._weights(block, rows, before, gates_KNG)

    def _position(self, t: int, before: Sequence[Tensor], gates_KRG: Tensor) -> None:
        """Fills one position's part of the gradients."""
        weights, hidden = self.weights, self.views.hidden[t]
        grad_KRH, onward_KRC = self.grad[t], None
        if t + 1 < len(self.at):
            rows = self.at.running[t + 1]
            gates_KRG = _rows(gates_KRG, rows)
            onward_KRC = self._gates(t, gates_KRG)
            going_KRH = torch.baddbmm(_rows(grad_KRH, rows), gates_KRG, weights.gates_KGH)
            ends = rows < grad_KRH.shape[1]
            grad_KRH = torch.cat((going_KRH, grad_KRH[:, rows:]), 1) if ends else going_KRH
        for layer in reversed(range(len(before))):
            # Zero is what ReLU cut off and what dropout dropped: both stop the gradient.
            aten.threshold_backward.grad_input(grad_KRH, hidden[layer], 0, grad_input=before[layer])
            if layer:
                grad_KRH = torch.bmm(before[layer], weights.mlp[layer - 1][0])
        if t:
            grad_context_KRC = torch.bmm(before[0], weights.from_context_KHC)
            self.grad_context_KRC = grad_context_KRC.to(self.normed_KMC.dtype)
            if onward_KRC is not None:
                _rows(self.grad_context_KRC, onward_KRC.shape[1]).add_(onward_KRC)

    def _gates(self, t: int, gates_KRG: Tensor) -> Tensor:
        """Fills the gates' gradients; returns what reaches position t's context through them."""
        views, there = self.views, t + 1
        grad_normed_KRC = self.grad_normed[t]
        aten.hardtanh_backward.grad_input(
            self.grad_context_KRC,
            views.context[there],
            -CONTEXT_LIMIT,
            CONTEXT_LIMIT,
            grad_input=grad_normed_KRC,
        )
        mixed_KRC, _, _ = aten.native_layer_norm_backward(
            grad_normed_KRC * self.norm_K1C,
            views.mixed[there],
            self.kept.mixed_KMC.shape[2:],
            self.mean[t],
            self.scale[t],
            None,
            None,
            (True, False, False),
        )
        grad_KRG = torch.empty_like(views.gates[there])
        forget_KRC, input_KRC, delta_KRC = grad_KRG.chunk(3, 2)
        if t:
            context_KRC = _rows(views.context[t], mixed_KRC.shape[1])
            torch.mul(mixed_KRC, context_KRC, out=forget_KRC)
        else:
            forget_KRC.zero_()
        torch.mul(mixed_KRC, views.delta[there], out=input_KRC)
        torch.mul(mixed_KRC, views.input[there], out=delta_KRC)
        open_KRG = grad_KRG[:, :, : 2 * mixed_KRC.shape[2]]
        aten.sigmoid_backward.grad_input(open_KRG, views.open[there], grad_input=open_KRG)
        gates_KRG.copy_(grad_KRG)
        onward_KRC: Tensor = mixed_KRC.mul_(views.forget[there])
        return onward_KRC

    def _weights(
        self, block: range, rows: slice, before: Sequence[Tensor], gates_KNG: Tensor
    ) -> None:
        """Adds a block's part to the weights' gradients."""
        grads, hidden = self.grads, [layer_KNH[:, rows] for layer_KNH in self.kept.hidden]
        grads.gates_KGH.add_(product_in_fp32(gates_KNG.mT, hidden[-1]))
        grads.gates_bias_KG.add_(gates_KNG.sum(1, dtype=grads.gates_bias_KG.dtype))
        layers = zip(grads.mlp, before[1:], hidden[:-1], strict=True)
        for (weight_KHH, bias_KH), layer_KNH, below_KNH in layers:
            weight_KHH.add_(product_in_fp32(layer_KNH.mT, below_KNH))
            bias_KH.add_(layer_KNH.sum(1, dtype=bias_KH.dtype))
        later = self.at.running[0]  # the first position's context is zero
        start = max(rows.start, later)
        entered_KNH = before[0][:, start - rows.start :]
        context_KNC = self.kept.context_KMC[:, start - later : rows.stop - later]
        product_KHC = product_in_fp32(entered_KNH.mT, context_KNC.to(entered_KNH.dtype))
        grads.from_context_KHC.add_(product_KHC)
