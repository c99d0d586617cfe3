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

    Args:
        running: rows at each position, never growing.
    """

    running: tuple[int, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, running: Sequence[int]) -> "Positions":
        """From the rows at each position."""
        return cls(tuple(running), (0, *accumulate(running)))

    def __len__(self) -> int:
        return len(self.running)

    def all(self, position: int) -> slice:
        """A position's rows among N."""
        return slice(self.starts[position], self.starts[position + 1])

    def later(self, position: int) -> slice:
        """A later position's rows among M."""
        first = self.starts[1]
        return slice(self.starts[position] - first, self.starts[position + 1] - first)

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
        keep_KRTLH: what dropout keeps for each row of the batch, position and layer; its K may be
            1 where the members share it; None drops nothing.
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
            ctx.save_for_backward(*_fields(kept), *weights.flat())
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


def _fields(kept: Kept) -> tuple[Tensor, ...]:
    return (*kept.hidden, kept.gates_KMG, kept.mixed_KMC, kept.context_KMC)


def _forward(x_KNH: Tensor, at: Positions, keep_KRTLH: Tensor | None, weights: Weights) -> Kept:
    members, positions, hidden = x_KNH.shape
    context = weights.norm_KC.shape[1]
    later = positions - at.running[0]
    layers = len(weights.mlp) + 1
    # The context is an FP32 island: it carries rounding errors from position to position.
    island = torch.promote_types(x_KNH.dtype, torch.float32)
    kept = Kept(
        tuple(x_KNH.new_empty(members, positions, hidden) for _ in range(layers)),
        *(
            x_KNH.new_empty(members, later, width, dtype=island)
            for width in (3 * context, context, context)
        ),
    )
    for t in range(len(at)):
        here = at.all(t)
        before_KRH = x_KNH[:, here]
        if t:
            context_KRC = kept.context_KMC[:, at.later(t)].to(x_KNH.dtype)
            weight_KCH = weights.from_context_KHC.mT
            before_KRH = torch.baddbmm(before_KRH, context_KRC, weight_KCH)
        _mlp(before_KRH, here, keep_KRTLH, t, kept.hidden, weights)
        if t + 1 < len(at):
            _renew(t, at, kept, weights)
    return kept


def _mlp(
    before_KRH: Tensor,
    here: slice,
    keep_KRTLH: Tensor | None,
    t: int,
    hidden: Sequence[Tensor],
    weights: Weights,
) -> None:
    """ReLU and dropout of each layer, Linear between."""
    for layer, hidden_KNH in enumerate(hidden):
        if layer:
            weight_KHH, bias_KH = weights.mlp[layer - 1]
            below_KRH = hidden[layer - 1][:, here]
            before_KRH = torch.baddbmm(bias_KH[:, None], below_KRH, weight_KHH.mT)
        if keep_KRTLH is None:
            torch.clamp_min(before_KRH, 0, out=hidden_KNH[:, here])
        else:
            keep_KRH = keep_KRTLH[:, : before_KRH.shape[1], t, layer]
            torch.mul(before_KRH.relu(), keep_KRH, out=hidden_KNH[:, here])


def _renew(t: int, at: Positions, kept: Kept, weights: Weights) -> None:
    """From position t's hidden values and context to the next one's context."""
    there, rows = at.later(t + 1), at.running[t + 1]
    hidden_KRH = kept.hidden[-1][:, at.all(t)][:, :rows]
    bias_K1G = weights.gates_bias_KG[:, None]
    gates_KRG = kept.gates_KMG[:, there]
    gates_KRG.copy_(torch.baddbmm(bias_K1G, hidden_KRH, weights.gates_KGH.mT))
    forget_KRC, input_KRC, delta_KRC = _gates(gates_KRG, sigmoid=True)
    mixed_KRC = torch.mul(input_KRC, delta_KRC, out=kept.mixed_KMC[:, there])
    if t:  # the first context is zero
        mixed_KRC.addcmul_(forget_KRC, kept.context_KMC[:, at.later(t)][:, :rows])
    normed_KRC, _, _ = _normed(mixed_KRC)
    moved_KRC = torch.addcmul(weights.norm_bias_KC[:, None], normed_KRC, weights.norm_KC[:, None])
    torch.clamp(moved_KRC, -CONTEXT_LIMIT, CONTEXT_LIMIT, out=kept.context_KMC[:, there])


def _gates(gates_KRG: Tensor, *, sigmoid: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    context = gates_KRG.shape[2] // 3
    if sigmoid:
        gates_KRG[:, :, : 2 * context].sigmoid_()
    forget_KRC, input_KRC, delta_KRC = gates_KRG.split(context, dim=2)
    return forget_KRC, input_KRC, delta_KRC


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
        self.at, self.kept, self.weights, self.grad_KNH = at, kept, weights, grad_KNH
        self.grad_x_KNH = torch.empty_like(grad_KNH)
        island = kept.mixed_KMC.dtype
        self.grads = Weights.of([torch.zeros_like(w, dtype=island) for w in weights.flat()])
        self.normed_KMC, self.mean_KM1, self.scale_KM1 = _normed(kept.mixed_KMC)
        self.grad_normed_KMC = torch.empty_like(self.normed_KMC)
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
        for t in reversed(block):
            here = slice(self.at.starts[t] - rows.start, self.at.starts[t + 1] - rows.start)
            self._position(t, [layer_KNH[:, here] for layer_KNH in before], gates_KNG[:, here])
        self._weights(block, rows, before, gates_KNG)

    def _position(self, t: int, before: Sequence[Tensor], gates_KRG: Tensor) -> None:
        """Fills one position's part of the gradients."""
        here, weights = self.at.all(t), self.weights
        grad_KRH, onward_KRC = self.grad_KNH[:, here], None
        if t + 1 < len(self.at):
            rows = self.at.running[t + 1]
            onward_KRC = self._gates(t, gates_KRG[:, :rows])
            going_KRH = torch.baddbmm(grad_KRH[:, :rows], gates_KRG[:, :rows], weights.gates_KGH)
            ending_KRH = grad_KRH[:, rows:]
            grad_KRH = torch.cat((going_KRH, ending_KRH), 1) if ending_KRH.numel() else going_KRH
        for layer in reversed(range(len(before))):
            hidden_KRH = self.kept.hidden[layer][:, here]
            # Zero is what ReLU cut off and what dropout dropped: both stop the gradient.
            aten.threshold_backward.grad_input(grad_KRH, hidden_KRH, 0, grad_input=before[layer])
            if layer:
                grad_KRH = torch.bmm(before[layer], weights.mlp[layer - 1][0])
        if t:
            grad_context_KRC = torch.bmm(before[0], weights.from_context_KHC)
            self.grad_context_KRC = grad_context_KRC.to(self.normed_KMC.dtype)
            if onward_KRC is not None:
                self.grad_context_KRC[:, : onward_KRC.shape[1]] += onward_KRC

    def _gates(self, t: int, gates_KRG: Tensor) -> Tensor:
        """Fills the gates' gradients; returns what reaches position t's context through them."""
        there, kept = self.at.later(t + 1), self.kept
        grad_normed_KRC = self.grad_normed_KMC[:, there]
        aten.hardtanh_backward.grad_input(
            self.grad_context_KRC,
            kept.context_KMC[:, there],
            -CONTEXT_LIMIT,
            CONTEXT_LIMIT,
            grad_input=grad_normed_KRC,
        )
        mixed_KRC, _, _ = aten.native_layer_norm_backward(
            grad_normed_KRC * self.weights.norm_KC[:, None],
            kept.mixed_KMC[:, there],
            kept.mixed_KMC.shape[2:],
            # This kernel reads them as if they were contiguous.
            self.mean_KM1[:, there].contiguous(),
            self.scale_KM1[:, there].contiguous(),
            None,
            None,
            (True, False, False),
        )
        forget_KRC, input_KRC, delta_KRC = _gates(kept.gates_KMG[:, there])
        grad_KRG = torch.empty_like(kept.gates_KMG[:, there])
        grad_forget_KRC, grad_input_KRC, grad_delta_KRC = _gates(grad_KRG)
        if t:
            context_KRC = kept.context_KMC[:, self.at.later(t)][:, : mixed_KRC.shape[1]]
            torch.mul(mixed_KRC, context_KRC, out=grad_forget_KRC)
        else:
            grad_forget_KRC.zero_()
        torch.mul(mixed_KRC, delta_KRC, out=grad_input_KRC)
        torch.mul(mixed_KRC, input_KRC, out=grad_delta_KRC)
        both = slice(0, 2 * mixed_KRC.shape[2])
        open_KRG, grad_open_KRG = kept.gates_KMG[:, there, both], grad_KRG[:, :, both]
        aten.sigmoid_backward.grad_input(grad_open_KRG, open_KRG, grad_input=grad_open_KRG)
        gates_KRG.copy_(grad_KRG)
        onward_KRC: Tensor = mixed_KRC.mul_(forget_KRC)
        return onward_KRC

    def _weights(
        self, block: range, rows: slice, before: Sequence[Tensor], gates_KNG: Tensor
    ) -> None:
        """Adds a block's part to the weights' gradients."""
        grads, hidden = self.grads, [layer_KNH[:, rows] for layer_KNH in self.kept.hidden]
        grads.gates_KGH.add_(product_in_fp32(gates_KNG.mT, hidden[-1]))
        grads.gates_bias_KG.add_(gates_KNG.sum(1, dtype=grads.gates_bias_KG.dtype))
        for (weight_KHH, bias_KH), layer_KNH, below_KNH in zip(
            grads.mlp, before[1:], hidden, strict=False
        ):
            weight_KHH.add_(product_in_fp32(layer_KNH.mT, below_KNH))
            bias_KH.add_(layer_KNH.sum(1, dtype=bias_KH.dtype))
        first = self.at.starts[max(block.start, 1)]  # the first position's context is zero
        entered_KNH = before[0][:, first - rows.start :]
        context_KNC = self.kept.context_KMC[:, first - self.at.starts[1] :][
            :, : entered_KNH.shape[1]
        ]
        grads.from_context_KHC.add_(
            product_in_fp32(entered_KNH.mT, context_KNC.to(entered_KNH.dtype))
        )
