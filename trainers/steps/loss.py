"""The loss of a batch: nats over its real targets, alone or of a cohort.

Shape suffixes: K members, B batch, T position, N packed position (every real one of a batch, in
the order of `pack_padded_sequence`), H hidden, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from trainers.kernels.cross_entropy import linear_cross_entropy, stacked_cross_entropy
from trainers.kernels.dropout import Dropout
from trainers.models import StackedModel, has_features
from trainers.models._stacked import Stack, pack
from trainers.precision.products import at_least_fp32


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


def cohort_loss(
    model: StackedModel,
    weights: Stack,
    tokens_KBT: Tensor,
    lengths: Sequence[Tensor],
    *,
    dropout: Dropout | None = None,
    score_from_B: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Score K members' batches at once, as `sequence_loss` does one.

    Args:
        model: computes with `weights`; its own parameters are not used.
        weights: of K members.
        tokens_KBT: each member's own rows, as of `sequence_loss`; the model is given them as long
            as they are.
        lengths: each member's lengths_B, on the CPU.
        dropout: None drops nothing.
        score_from_B: as of `sequence_loss`, for every member alike; the lengths are then one.

    Returns:
        nats_K, and right predictions_K, None where gradients are recorded.
    """
    counts_KB = torch.stack(list(lengths)) - 1
    counts_B = counts_KB.amax(0)  # sorted, as each member's are
    longest = int(counts_B[0])
    hidden_KNH = model.stacked_features(weights, tokens_KBT[:, :, :-1], counts_B, dropout)
    targets_KN = pack(tokens_KBT[:, :, 1:], counts_B)
    counted_KN = None
    if score_from_B is not None:
        chosen = _scored(counts_B, score_from_B).to(tokens_KBT.device, non_blocking=True)
        hidden_KNH, targets_KN = hidden_KNH[:, chosen], targets_KN[:, chosen]
    elif not bool((counts_KB == counts_B).all()):
        position_T = torch.arange(longest)
        counted_KBT = position_T < counts_KB[:, :, None]
        counted_KN = pack(counted_KBT, counts_B).to(tokens_KBT.device, non_blocking=True)
    head = weights["head.weight"], weights.get("head.bias")
    return stacked_cross_entropy(hidden_KNH, *head, targets_KN, counted_KN)


def _scored(counts_B: Tensor, score_from_B: Tensor) -> Tensor:
    """Packed positions whose target counts, as indices on the CPU."""
    position_T1 = torch.arange(int(counts_B[0]))[:, None]
    real_TB = position_T1 < counts_B
    return (position_T1 >= score_from_B)[real_TB].nonzero()[:, 0]


def _plain_cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor | None]:
    nats = F.cross_entropy(at_least_fp32(logits_NV), targets_N, reduction="sum")
    if torch.is_grad_enabled():
        return nats, None
    return nats, (logits_NV.argmax(dim=1) == targets_N).sum()
