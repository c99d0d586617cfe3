"""A step of K members at once: one forward, one backward; all else is each member's own.

Members may be in different epochs: each has its own batch, and its own stream of dropout masks.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.batches import Batch
from trainers.dropout import Dropout
from trainers.loss import cohort_loss, sequence_loss
from trainers.models import StackedModel
from trainers.models._stacked import stack
from trainers.seeds import RandomStream

if TYPE_CHECKING:
    from trainers.member import Member

Stepped = tuple[Tensor, bool]


def step_together(members: Sequence["Member"], batches: Sequence[Batch]) -> list[Stepped]:
    """One optimizer step of each member: scale, backward, unscale, clip, step, update.

    Args:
        members: of one model, precision and device; their rates and whatever else may differ.
        batches: each member's own, of one batch size.

    Returns:
        Each member's loss (sum of nats, on the device), and whether its optimizer stepped.
    """
    for member in members:
        member.optimizer.zero_grad(set_to_none=True)
    if isinstance(members[0].model, StackedModel):
        nats_K = _gradients(members[0].model, members, batches)
    else:
        alone = [_gradients_alone(*pair) for pair in zip(members, batches, strict=True)]
        nats_K = torch.stack(alone)
    return [(nats, member.apply()) for nats, member in zip(nats_K, members, strict=True)]


def _gradients(
    model: StackedModel, members: Sequence["Member"], batches: Sequence[Batch]
) -> Tensor:
    """Adds every member's gradients, as many rows at a time as fit; returns nats_K."""
    precision, streams = members[0].precision, _streams(members)
    dropout = Dropout(streams, window=members[0].config.data.window)
    parts = [batch.parts(members[0].rows_that_fit(len(members))) for batch in batches]
    total_K = torch.zeros(len(members), device=members[0].device)
    for part in zip(*parts, strict=True):
        with precision.forward():
            nats_K, _ = cohort_loss(
                model,
                stack([member.model for member in members]),
                _side_by_side([batch.tokens_BT for batch in part]),
                [batch.lengths_B for batch in part],
                dropout=dropout,
            )
        losses = [
            (member.precision, nats / batch.targets)
            for member, nats, batch in zip(members, nats_K.unbind(), batches, strict=True)
        ]
        precision.backward_of(losses)
        total_K += nats_K.detach()
    if len(streams) == 1:
        for member in members[1:]:
            member.random.follow(streams[0])
    return total_K


def _gradients_alone(member: "Member", batch: Batch) -> Tensor:
    with member.random:
        with member.precision.forward():
            loss = sequence_loss(member.model, batch.tokens_BT, batch.lengths_B)
        member.precision.backward(loss.nats / loss.targets)
    return loss.nats.detach()


def _streams(members: Sequence["Member"]) -> list[RandomStream]:
    """Each member's stream of masks; one for all where they would all draw the same."""
    first, *others = (member.random for member in members)
    shared = all(other.agrees_with(first) for other in others)
    return [first] if shared else [first, *others]


def _side_by_side(tokens: Sequence[Tensor]) -> Tensor:
    """Members' rows as tokens_KBT; where one's longest row is shorter, it is padded."""
    longest = max(tokens_BT.shape[1] for tokens_BT in tokens)
    return torch.stack([F.pad(rows_BT, (0, longest - rows_BT.shape[1])) for rows_BT in tokens])
