"""The recurrence's backward pass, written by hand: see `_recurrence.py`, also for the suffixes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainers.kernels.recurrence_state import (
    CONTEXT_LIMIT,
    GRADIENT_POSITIONS,
    Kept,
    Positions,
    Views,
    Weights,
    first_rows,
    normed,
)
from trainers.precision.products import add_bmm_, plain_bmm, product_in_fp32, round_, rounded

aten = torch.ops.aten


class Backward:
    """Back through every position, from the last to the first.

    Args:
        at: the positions.
        kept: of the forward pass.
        weights: as the forward pass multiplied by them.
        grad_KNH: of the last layer's output before dropout's factor; it is overwritten.
        type_: of the products.
    """

    def __init__(
        self, at: Positions, kept: Kept, weights: Weights, grad_KNH: Tensor, type_: torch.dtype
    ) -> None:
        self.at, self.kept, self.weights, self.type = at, kept, weights, type_
        self.views, self.grad = Views(kept, at), grad_KNH.split(at.running, 1)
        self.grad_x_KNH = torch.empty_like(grad_KNH)
        self.grads = Weights.of(
            [torch.zeros_like(weight, dtype=kept.mixed_KMC.dtype) for weight in weights.flat()]
        )
        self.norm_K1C = weights.norm_KC[:, None]
        self.normed_KMC, mean_KM1, scale_KM1 = normed(kept.mixed_KMC)
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
        for block in self.at.blocks_backwards(GRADIENT_POSITIONS[self.grad_x_KNH.device.type]):
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
            gates_KRG = first_rows(gates_KRG, rows)
            onward_KRC = self._gates(t, gates_KRG)
            going_KRH = first_rows(grad_KRH, rows)
            round_(add_bmm_(going_KRH, gates_KRG, weights.gates_KGH), self.type)
        for layer in reversed(range(len(before))):
            # Zero is what ReLU cut off and what dropout dropped: both stop the gradient.
            aten.threshold_backward.grad_input(grad_KRH, hidden[layer], 0, grad_input=before[layer])
            if layer:
                grad_KRH = plain_bmm(before[layer], weights.mlp[layer - 1][0])
                round_(grad_KRH, self.type)
        if t:
            grad_context_KRC = plain_bmm(before[0], weights.from_context_KHC)
            round_(grad_context_KRC, self.type)
            self.grad_context_KRC = grad_context_KRC.to(self.normed_KMC.dtype)
            if onward_KRC is not None:
                first_rows(self.grad_context_KRC, onward_KRC.shape[1]).add_(onward_KRC)

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
        same = gates_KRG.dtype is views.gates[there].dtype
        grad_KRG = gates_KRG if same else torch.empty_like(views.gates[there])
        forget_KRC, input_KRC, delta_KRC = grad_KRG.chunk(3, 2)
        if t:
            context_KRC = first_rows(views.context[t], mixed_KRC.shape[1])
            torch.mul(mixed_KRC, context_KRC, out=forget_KRC)
        else:
            forget_KRC.zero_()
        torch.mul(mixed_KRC, views.delta[there], out=input_KRC)
        torch.mul(mixed_KRC, views.input[there], out=delta_KRC)
        open_KRG = grad_KRG[:, :, : 2 * mixed_KRC.shape[2]]
        aten.sigmoid_backward.grad_input(open_KRG, views.open[there], grad_input=open_KRG)
        if same:
            round_(gates_KRG, self.type)
        else:
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
        product_KHC = product_in_fp32(entered_KNH.mT, rounded(context_KNC, self.type))
        grads.from_context_KHC.add_(product_KHC)
