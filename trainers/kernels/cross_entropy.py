"""Cross-entropy of a linear head, without ever holding all the logits.

Shape suffixes: K members, N packed position, H hidden, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trainers.precision.products import (
    at_least_fp32,
    autocast_off,
    plain_bmm,
    product_in_fp32,
    product_type,
    round_,
    rounded,
)

CHUNK = {"cpu": 1024, "cuda": 16384}
"""Rows of logits that exist at once (see tests/benchmarks/bench_half.py)."""
CHUNK_VALUES = {"cpu": 2**25, "cuda": 2**27}
"""Most logits that exist at once, in three copies: at a large vocabulary these are fewer rows."""

GRADIENT_SCALE = 256.0
"""Lifts softmax values out of FP16's subnormals (below 6.1e-5). A power of two: exact elsewhere."""


def linear_cross_entropy(
    hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, targets_N: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Cross-entropy of one linear head: `stacked_cross_entropy` of one member, without its K."""
    bias_KV = None if bias_V is None else bias_V[None]
    nats_K, correct_K = stacked_cross_entropy(
        hidden_NH[None], weight_VH[None], bias_KV, targets_N[None]
    )
    return nats_K[0], None if correct_K is None else correct_K[0]


def stacked_cross_entropy(
    hidden_KNH: Tensor,
    weight_KVH: Tensor,
    bias_KV: Tensor | None,
    targets_KN: Tensor,
    counted_KN: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Cross-entropy of linear heads, chunk by chunk, summed for each member.

    Gradients are computed along with the loss, as in Liger Kernel (Hsu et al., 2024,
    arXiv:2410.10989), so that no chunk's logits are computed or kept for a second time.

    Args:
        hidden_KNH: the heads' input.
        weight_KVH: the heads' weights.
        bias_KV: the heads' biases.
        targets_KN: int64, the right token of each position.
        counted_KN: boolean, which positions count; None counts all.

    Returns:
        The loss in nats_K, in FP32 (FP64 of FP64 input), and the number of right predictions_K;
        None where gradients are recorded.
    """
    with_gradients = torch.is_grad_enabled()
    nats_K, correct_K = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_KNH, weight_KVH, bias_KV, targets_KN, counted_KN, with_gradients
    )
    return nats_K, None if with_gradients else correct_K


class _LinearCrossEntropy(torch.autograd.Function):
    """See `stacked_cross_entropy`. Gradients are held times GRADIENT_SCALE until backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_KNH: Tensor,
        weight_KVH: Tensor,
        bias_KV: Tensor | None,
        targets_KN: Tensor,
        counted_KN: Tensor | None,
        with_gradients: bool,
    ) -> tuple[Tensor, Tensor]:
        sums = _Sums(hidden_KNH, weight_KVH, bias_KV, with_gradients)
        members, positions = targets_KN.shape
        device, words = hidden_KNH.device.type, weight_KVH.shape[1]
        chunk = max(1, min(CHUNK[device], CHUNK_VALUES[device] // words) // members)
        # Types are set by hand here: autocast would cast the weight anew for every chunk.
        with autocast_off(hidden_KNH.device):
            for start in range(0, positions, chunk):
                rows = slice(start, start + chunk)
                counted_KN1 = None if counted_KN is None else counted_KN[:, rows, None]
                sums.add(rows, targets_KN[:, rows, None], counted_KN1)
        if with_gradients:
            ctx.save_for_backward(sums.grad_hidden_KNH, sums.grad_weight_KVH, sums.grad_bias_KV)
        ctx.hidden_type = hidden_KNH.dtype
        ctx.mark_non_differentiable(sums.correct_K)
        return sums.nats_K, sums.correct_K

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_nats_K: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden_KNH, grad_weight_KVH, grad_bias_KV = ctx.saved_tensors
        factor_K1 = (grad_nats_K / GRADIENT_SCALE)[:, None]
        factor_K11 = factor_K1[:, None]
        # FP16's are inf beyond 65,504, as they are natively: the scaler skips the step.
        grad_hidden_KNH = (grad_hidden_KNH * factor_K11).to(ctx.hidden_type)
        grad_bias_KV = None if grad_bias_KV is None else grad_bias_KV * factor_K1
        return grad_hidden_KNH, grad_weight_KVH * factor_K11, grad_bias_KV, None, None, None


class _Sums:
    """What the chunks add up to, in FP32."""

    def __init__(
        self, hidden_KNH: Tensor, weight_KVH: Tensor, bias_KV: Tensor | None, with_gradients: bool
    ) -> None:
        self.type = product_type(hidden_KNH)
        self.hidden_KNH = hidden_KNH
        self.weight_KVH = rounded(weight_KVH, self.type)
        self.bias_K1V = None if bias_KV is None else rounded(bias_KV, self.type)[:, None]
        members = len(weight_KVH)
        self.nats_K = weight_KVH.new_zeros(members)
        self.correct_K = torch.zeros(members, dtype=torch.int64, device=weight_KVH.device)
        self.with_gradients = with_gradients
        if with_gradients:
            self.grad_hidden_KNH = torch.empty_like(hidden_KNH, dtype=self.weight_KVH.dtype)
            self.grad_weight_KVH = torch.zeros_like(weight_KVH)
            self.grad_bias_KV = None if bias_KV is None else torch.zeros_like(bias_KV)

    def add(self, rows: slice, target_KN1: Tensor, counted_KN1: Tensor | None) -> None:
        hidden_KNH = rounded(self.hidden_KNH[:, rows], self.type)
        logits_KNV = self._logits(hidden_KNH)
        log_p_KNV = F.log_softmax(at_least_fp32(logits_KNV), dim=2)
        target_log_p_KN1 = log_p_KNV.gather(2, target_KN1)
        counted = target_log_p_KN1 if counted_KN1 is None else target_log_p_KN1 * counted_KN1
        self.nats_K -= counted.sum((1, 2))
        if not self.with_gradients:
            right = logits_KNV.argmax(dim=2, keepdim=True) == target_KN1
            self.correct_K += (right if counted_KN1 is None else right & counted_KN1).sum((1, 2))
            return
        # d loss / d logits = softmax - one hot
        grad_KNV = log_p_KNV.exp_().scatter_(2, target_KN1, target_log_p_KN1.expm1())
        if counted_KN1 is not None:
            grad_KNV.mul_(counted_KN1)
        grad_KNV = round_(grad_KNV.mul_(GRADIENT_SCALE).to(self.weight_KVH.dtype), self.type)
        grad_hidden_KNH = plain_bmm(grad_KNV, self.weight_KVH)
        self.grad_hidden_KNH[:, rows] = round_(grad_hidden_KNH, self.type)
        self.grad_weight_KVH += product_in_fp32(grad_KNV.mT, hidden_KNH)
        if self.grad_bias_KV is not None:
            self.grad_bias_KV += grad_KNV.sum(dim=1, dtype=self.grad_bias_KV.dtype)

    def _logits(self, hidden_KNH: Tensor) -> Tensor:
        weight_KHV = self.weight_KVH.mT
        if self.bias_K1V is None:
            return round_(plain_bmm(hidden_KNH, weight_KHV), self.type)
        logits_KNV = self.bias_K1V.repeat(1, hidden_KNH.shape[1], 1)
        return round_(logits_KNV.baddbmm_(hidden_KNH, weight_KHV), self.type)
