"""The recurrence of `context_vector`, K members at once, with a backward of its own.

Autograd would multiply for the weights' gradients at every position, by matrices too small to be
fast. These are sums over positions, whose order does not matter: here they are one product for
many positions. And of what a position computes only what backward reads is kept.

Shape suffixes: K members, N packed position (every real one of a batch, position by position),
M packed position but the first of each row, R rows at one position, H hidden, C context,
G = 3 C gates (forget, input, delta), L layers, T position.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainers.models._recurrence_backward import Backward
from trainers.models._recurrence_state import (
    CONTEXT_LIMIT,
    Kept,
    Positions,
    Views,
    Weights,
    first_rows,
    normed,
)
from trainers.products import autocast_off, product_type


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
            grad_x_KNH, grads = Backward(ctx.at, kept, weights, grad_KNH * ctx.factor).run()
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
            else first_rows(keep_KRLH, before_KRH.shape[1]).unbind(2)
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
        hidden_KRH, there = first_rows(views.hidden[t][-1], rows), t + 1
        gates_KRG = torch.baddbmm(self.gates_bias_K1G, hidden_KRH, self.gates_KHG)
        views.gates[there].copy_(gates_KRG)
        views.open[there].sigmoid_()
        mixed_KRC = torch.mul(views.input[there], views.delta[there], out=views.mixed[there])
        if t:  # the first context is zero
            mixed_KRC.addcmul_(views.forget[there], first_rows(views.context[t], rows))
        normed_KRC, _, _ = normed(mixed_KRC)
        moved_KRC = torch.addcmul(self.norm_bias_K1C, normed_KRC, self.norm_K1C)
        torch.clamp(moved_KRC, -CONTEXT_LIMIT, CONTEXT_LIMIT, out=views.context[there])
