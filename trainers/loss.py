"""The loss of a batch: nats over its real targets, without ever holding all the logits.

Shape suffixes: B batch, T position, N packed position (every real one of a batch, in the order of
`pack_padded_sequence`), H hidden, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from trainers.models import has_features

CHUNK = 1024
"""Rows of logits that exist at once (see tests/benchmarks/bench_half.py)."""

GRADIENT_SCALE = 256.0
"""Lifts softmax values out of FP16's subnormals (below 6.1e-5). A power of two: exact elsewhere."""


@dataclass(frozen=True, slots=True)
class LossSum:
    """What a batch adds to an epoch's loss.

    Attributes:
        nats: the loss summed over the targets, a scalar; differentiable in training.
        targets: how many targets were counted.
        correct: how many of them had the largest logit, a scalar on the device; None where
            gradients are recorded: training does not pay for it.
    """

    nats: Tensor
    targets: int
    correct: Tensor | None


def sequence_loss(
    model: nn.Module, tokens_BT: Tensor, lengths_B: Tensor, *, score_from_B: Tensor | None = None
) -> LossSum:
    """Score each token by the tokens before it. Needs no device synchronisation.

    Args:
        model: keeps one of the contracts of `trainers.models`.
        tokens_BT: int64 on the model's device, rows sorted by decreasing length, padded at their
            end.
        lengths_B: int64 on the CPU, real tokens of each row, at least 2; a row of n has n - 1
            targets.
        score_from_B: int64 on the CPU, the first target of each row that counts: target i is
            token i + 1. None counts all.

    Returns:
        The loss in nats, and its counts.
    """
    longest = int(lengths_B[0])
    inputs_BT, targets_BT = tokens_BT[:, : longest - 1], tokens_BT[:, 1:longest]
    counts_B = lengths_B - 1
    targets_N = pack_padded_sequence(targets_BT, counts_B, batch_first=True).data
    chosen = None
    if score_from_B is not None:
        chosen = _scored(counts_B, score_from_B).to(tokens_BT.device, non_blocking=True)
        targets_N = targets_N[chosen]
    if has_features(model):
        hidden_NH = model.features(inputs_BT, counts_B)
        hidden_NH = hidden_NH if chosen is None else hidden_NH[chosen]
        nats, correct = linear_cross_entropy(
            hidden_NH, model.head.weight, model.head.bias, targets_N
        )
    else:
        logits_NV = pack_padded_sequence(model(inputs_BT), counts_B, batch_first=True).data
        logits_NV = logits_NV if chosen is None else logits_NV[chosen]
        nats, correct = _plain_cross_entropy(logits_NV, targets_N)
    return LossSum(nats, targets_N.shape[0], correct)


def _scored(counts_B: Tensor, score_from_B: Tensor) -> Tensor:
    """Packed positions whose target counts, as indices on the CPU."""
    position_T1 = torch.arange(int(counts_B[0]))[:, None]
    real_TB = position_T1 < counts_B
    return (position_T1 >= score_from_B)[real_TB].nonzero()[:, 0]


def _plain_cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor | None]:
    nats = F.cross_entropy(_at_least_fp32(logits_NV), targets_N, reduction="sum")
    if torch.is_grad_enabled():
        return nats, None
    return nats, (logits_NV.argmax(dim=1) == targets_N).sum()


def linear_cross_entropy(
    hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, targets_N: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Cross-entropy of a linear head, chunk by chunk, summed.

    Gradients are computed along with the loss, as in Liger Kernel (Hsu et al., 2024,
    arXiv:2410.10989), so that no chunk's logits are computed or kept for a second time.

    Args:
        hidden_NH: the head's input.
        weight_VH: the head's weight.
        bias_V: the head's bias.
        targets_N: int64, the right token of each position.

    Returns:
        The loss in nats, a scalar in FP32 (FP64 of FP64 input), and the number of right
        predictions, a scalar; None where gradients are recorded.
    """
    with_gradients = torch.is_grad_enabled()
    nats, correct = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_NH, weight_VH, bias_V, targets_N, with_gradients
    )
    return nats, None if with_gradients else correct


class _LinearCrossEntropy(torch.autograd.Function):
    """See `linear_cross_entropy`. Gradients are held times GRADIENT_SCALE until backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        with_gradients: bool,
    ) -> tuple[Tensor, Tensor]:
        sums = _Sums(hidden_NH, weight_VH, bias_V, with_gradients)
        # Types are set by hand here: autocast would cast the weight anew for every chunk.
        with torch.autocast(hidden_NH.device.type, torch.bfloat16, enabled=False):
            for start in range(0, len(targets_N), CHUNK):
                rows = slice(start, start + CHUNK)
                sums.add(rows, targets_N[rows, None])
        if with_gradients:
            ctx.save_for_backward(sums.grad_hidden_NH, sums.grad_weight_VH, sums.grad_bias_V)
        ctx.hidden_type = hidden_NH.dtype
        ctx.mark_non_differentiable(sums.correct)
        return sums.nats, sums.correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_nats: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden_NH, grad_weight_VH, grad_bias_V = ctx.saved_tensors
        factor = grad_nats / GRADIENT_SCALE
        # FP16's are inf beyond 65,504, as they are natively: the scaler skips the step.
        grad_hidden_NH = (grad_hidden_NH * factor).to(ctx.hidden_type)
        grad_bias_V = None if grad_bias_V is None else grad_bias_V * factor
        return grad_hidden_NH, grad_weight_VH * factor, grad_bias_V, None, None


class _Sums:
    """What the chunks add up to, in FP32."""

    def __init__(
        self, hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, with_gradients: bool
    ) -> None:
        self.type = _product_type(hidden_NH)
        self.hidden_NH = hidden_NH
        self.weight_VH = weight_VH.to(self.type)
        self.bias_V = None if bias_V is None else bias_V.to(self.type)
        self.nats = weight_VH.new_zeros(())
        self.correct = torch.zeros((), dtype=torch.int64, device=weight_VH.device)
        self.with_gradients = with_gradients
        if with_gradients:
            self.grad_hidden_NH = torch.empty_like(hidden_NH, dtype=self.type)
            self.grad_weight_VH = torch.zeros_like(weight_VH)
            self.grad_bias_V = None if bias_V is None else torch.zeros_like(bias_V)

    def add(self, rows: slice, target_N1: Tensor) -> None:
        hidden_NH = self.hidden_NH[rows].to(self.type)
        logits_NV = F.linear(hidden_NH, self.weight_VH, self.bias_V)
        log_p_NV = F.log_softmax(_at_least_fp32(logits_NV), dim=1)
        target_log_p_N1 = log_p_NV.gather(1, target_N1)
        self.nats -= target_log_p_N1.sum()
        if not self.with_gradients:
            self.correct += (logits_NV.argmax(dim=1, keepdim=True) == target_N1).sum()
            return
        # d loss / d logits = softmax - one hot
        grad_NV = log_p_NV.exp_().scatter_(1, target_N1, target_log_p_N1.expm1())
        grad_NV = grad_NV.mul_(GRADIENT_SCALE).to(self.type)
        self.grad_hidden_NH[rows] = grad_NV @ self.weight_VH
        self.grad_weight_VH += _product_in_fp32(grad_NV.t(), hidden_NH)
        if self.grad_bias_V is not None:
            self.grad_bias_V += grad_NV.sum(dim=0, dtype=self.grad_bias_V.dtype)


def _product_type(hidden_NH: Tensor) -> torch.dtype:
    device = hidden_NH.device.type
    return (
        torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NH.dtype
    )


def _at_least_fp32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _product_in_fp32(left: Tensor, right: Tensor) -> Tensor:
    """Multiply without rounding the sum to the operands' type: it could pass 65,504."""
    if left.is_cuda and left.element_size() == 2 and hasattr(torch.ops.aten.mm, "dtype"):
        return torch.mm(left, right, out_dtype=torch.float32)
    return _at_least_fp32(left) @ _at_least_fp32(right)
