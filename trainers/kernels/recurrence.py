"""The recurrence of `context_vector`, K members at once, with a backward of its own.

Autograd would multiply for the weights' gradients at every position, by matrices too small to be
fast. These are sums over positions, whose order does not matter: here they are one product for
many positions. And of what a position computes only what backward reads is kept.

Shape suffixes: K members, N packed position (every real one of a batch, position by position),
M packed position but the first of each row, R rows at one position, H hidden, C context,
G = 3 C gates (forget, input, delta), L layers, T position.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainers.kernels.graphs import Run, recordings
from trainers.kernels.recurrence_backward import Backward
from trainers.kernels.recurrence_state import (
    CONTEXT_LIMIT,
    Kept,
    Positions,
    Views,
    Weights,
    first_rows,
    normed,
)
from trainers.precision.products import add_bmm_, autocast_off, product_type, round_, rounded


def recur(
    x_KNH: Tensor,
    running: Sequence[int],
    keep_KNLH: Tensor | None,
    p: float,
    weights: Weights,
) -> Tensor:
    """Run the recurrence over every position of a batch.

    Args:
        x_KNH: the token's part of the first layer, its bias included.
        running: rows at each position, never growing; N is their sum.
        keep_KNLH: what dropout keeps of each layer, 1 or 0; its K may be 1 where the members share
            it; None drops nothing.
        p: probability of a drop.
        weights: of K members.

    Returns:
        hidden_KNH, in autocast's type where that is enabled.
    """
    recorded = recordings.serve(x_KNH.device)
    hidden_KNH: Tensor = _Recurrence.apply(  # type: ignore[no-untyped-call]
        x_KNH, Positions.of(running), keep_KNLH, p, recorded, *weights.flat()
    )
    return hidden_KNH


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_KNH: Tensor,
        at: Positions,
        keep_KNLH: Tensor | None,
        p: float,
        recorded: bool,
        *flat: Tensor,
    ) -> Tensor:
        ctx.types = [x_KNH.dtype, *(tensor.dtype for tensor in flat)]
        factor = 1.0 if keep_KNLH is None else 1 / (1 - p)
        ctx.passes = passes = _Passes(at, factor, product_type(x_KNH))
        with autocast_off(x_KNH.device):
            outputs, ctx.run = passes.run(x_KNH, keep_KNLH, flat, recorded)
            ctx.save_for_backward(*outputs)
            return passes.hidden(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_KNH: Tensor) -> tuple[Tensor | None, ...]:
        with autocast_off(grad_KNH.device):
            grad_KNH = rounded(grad_KNH * ctx.passes.factor, ctx.passes.type)
            outputs = ctx.saved_tensors
            if ctx.run is None:
                found = ctx.passes.backward(grad_KNH, outputs)
            else:
                found = ctx.run.backward(grad_KNH)
        grad_x_KNH, *grads = (g.to(type_) for g, type_ in zip(found, ctx.types, strict=True))
        return grad_x_KNH, None, None, None, None, *grads


@dataclass(frozen=True, slots=True)
class _Passes:
    """Forward and backward, from tensors to tensors.

    Attributes:
        at: the positions.
        factor: of what dropout keeps.
        type: of the products.
    """

    at: Positions
    factor: float
    type: torch.dtype

    def run(
        self, x_KNH: Tensor, keep_KNLH: Tensor | None, flat: Sequence[Tensor], recorded: bool
    ) -> tuple[tuple[Tensor, ...], Run | None]:
        """Return what `forward` does, and the recording's run where there is one."""
        if not recorded:
            return self.forward(x_KNH, keep_KNLH, *flat), None
        inputs, depends_on = (x_KNH, keep_KNLH, *flat), (*self.at.running, self.factor, self.type)
        return recordings.run(self.forward, self.backward, inputs, depends_on)

    def forward(self, x_KNH: Tensor, keep_KNLH: Tensor | None, *flat: Tensor) -> tuple[Tensor, ...]:
        """Return what backward reads: what is kept of each position, and the cast weights."""
        weights = Weights.of(flat).cast(self.type, self.factor)
        x_KNH = rounded(x_KNH, self.type)
        kept = _Forward(x_KNH, self.at, keep_KNLH, weights, self.type).run()
        return (*kept.flat(), *weights.flat())

    def hidden(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the last layer's output."""
        hidden_KNH: Tensor = self._kept(outputs)[0].hidden[-1] * self.factor
        return hidden_KNH.to(self.type)

    def backward(self, grad_KNH: Tensor, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the gradients of x_KNH and of the flat weights; grad_KNH is overwritten."""
        kept, weights = self._kept(outputs)
        grad_x_KNH, grads = Backward(self.at, kept, weights, grad_KNH, self.type).run()
        grads.multiply(self.factor)
        return grad_x_KNH, *grads.flat()

    @staticmethod
    def _kept(outputs: Sequence[Tensor]) -> tuple[Kept, Weights]:
        # Each layer has a hidden output; each but the first has a weight and a bias.
        layers = (len(outputs) - 6) // 3
        kept = Kept(tuple(outputs[:layers]), *outputs[layers : layers + 3])
        return kept, Weights.of(outputs[layers + 3 :])


class _Forward:
    """The forward pass, with the weights turned once for all positions.

    A product is added to what lies where its result belongs: the bias, or the token's part of the
    first layer. Where dropout drops, -inf lies there, and ReLU does the rest.
    """

    def __init__(
        self,
        x_KNH: Tensor,
        at: Positions,
        keep_KNLH: Tensor | None,
        weights: Weights,
        type_: torch.dtype,
    ) -> None:
        self.at, self.type = at, type_
        self.kept = Kept.empty(x_KNH, at, weights)
        self.views = Views(self.kept, at)
        biases = [bias_KH[:, None] for _, bias_KH in weights.mlp]
        for layer, add in enumerate([x_KNH, *biases]):
            _fill(
                self.kept.hidden[layer], add, None if keep_KNLH is None else keep_KNLH[:, :, layer]
            )
        self.from_context_KCH = weights.from_context_KHC.mT
        self.layers = [weight_KHH.mT for weight_KHH, _ in weights.mlp]
        self.gates_KHG, self.gates_bias_K1G = weights.gates_KGH.mT, weights.gates_bias_KG[:, None]
        self.kept.gates_KMG.copy_(self.gates_bias_K1G)
        self.norm_K1C, self.norm_bias_K1C = weights.norm_KC[:, None], weights.norm_bias_KC[:, None]

    def run(self) -> Kept:
        """Return what backward reads, each position's hidden values among it."""
        for t in range(len(self.at)):
            self._mlp(t)
            if t + 1 < len(self.at):
                self._renew(t, self.at.running[t + 1])
        return self.kept

    def _mlp(self, t: int) -> None:
        """ReLU and dropout of each layer, Linear between."""
        first_KRH, *others = self.views.hidden[t]
        if t:  # the first context is zero
            context_KRC = rounded(self.views.context[t], self.type)
            round_(add_bmm_(first_KRH, context_KRC, self.from_context_KCH), self.type)
        below_KRH = first_KRH.clamp_min_(0)
        for hidden_KRH, weight_KHH in zip(others, self.layers, strict=True):
            add_bmm_(hidden_KRH, below_KRH, weight_KHH).clamp_min_(0)
            below_KRH = round_(hidden_KRH, self.type)

    def _renew(self, t: int, rows: int) -> None:
        """From position t's hidden values and context to the next one's context."""
        views, there = self.views, t + 1
        hidden_KRH, gates_KRG = first_rows(views.hidden[t][-1], rows), views.gates[there]
        if gates_KRG.dtype is hidden_KRH.dtype:
            round_(add_bmm_(gates_KRG, hidden_KRH, self.gates_KHG), self.type)
        else:
            gates_KRG.copy_(torch.baddbmm(self.gates_bias_K1G, hidden_KRH, self.gates_KHG))
        views.open[there].sigmoid_()
        mixed_KRC = torch.mul(views.input[there], views.delta[there], out=views.mixed[there])
        if t:
            mixed_KRC.addcmul_(views.forget[there], first_rows(views.context[t], rows))
        normed_KRC, _, _ = normed(mixed_KRC)
        moved_KRC = torch.addcmul(self.norm_bias_K1C, normed_KRC, self.norm_K1C)
        torch.clamp(moved_KRC, -CONTEXT_LIMIT, CONTEXT_LIMIT, out=views.context[there])


def _fill(out_KNH: Tensor, add: Tensor, keep_KNH: Tensor | None) -> None:
    """Lays what a product is added to where its result belongs, and -inf where it is dropped."""
    if keep_KNH is None:
        out_KNH.copy_(add)
    else:
        torch.where(keep_KNH.view(torch.bool), add, add.new_full((), -math.inf), out=out_KNH)
