"""A step of K members at once: one forward, one backward; all else is each member's own.

Members may be in different epochs: each has its own batch, and its own dropout masks.
"""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.batches import Batch
from trainers.config import TrainConfig
from trainers.faults import out_of_memory
from trainers.kernels.dropout import Dropout, Place
from trainers.kernels.graphs import recordings
from trainers.models import StackedModel
from trainers.models._stacked import stack
from trainers.precision import Precision, settle
from trainers.seeds import DROPOUT, seeded, stream_seed
from trainers.steps.loss import cohort_loss, sequence_loss
from trainers.steps.memory import release_memory
from trainers.steps.ranks import Ranks

log = logging.getLogger("trainers.steps.cohort")

Stepped = tuple[Tensor, bool]


class Steps(Protocol):
    """What a step needs of a member; `trainers.member.Member` is one."""

    config: TrainConfig
    device: torch.device
    model: nn.Module
    precision: Precision
    optimizer: torch.optim.Optimizer
    ranks: Ranks
    rows: int
    """Of a batch, that were computed at once last."""

    @property
    def place(self) -> Place:
        """Where the next step's dropout is drawn."""
        ...

    def rows_that_fit(self, members: int) -> int:
        """Rows of each member's batch that a cohort of so many computes at once."""
        ...

    def limit_rows(self, rows: int) -> None:
        """Computes no more rows at once from now on."""
        ...

    def apply(self) -> None:
        """Takes the step that the gradients ask for."""
        ...

    def advance(self, *, stepped: bool) -> None:
        """Goes on to the next step."""
        ...


def step_together(members: Sequence[Steps], batches: Sequence[Batch]) -> list[Stepped]:
    """One optimizer step of each member: scale, backward, unscale, clip, step, update.

    Where several ranks train, each calls this with the same batches and computes its share.

    Args:
        members: of one model, precision, device and ranks; whatever else may differ.
        batches: each member's own, of one batch size.

    Returns:
        Each member's loss (sum of nats, on the device), and whether its optimizer stepped.
    """
    if len(members) > 1 and not isinstance(members[0].model, StackedModel):
        # Nothing is computed together: one after another, each as it would be alone.
        return [step_alone(*each) for each in zip(members, batches, strict=True)]
    ranks, well = members[0].ranks, False
    while not well:
        nats_K = None
        rows = min(member.rows_that_fit(len(members)) for member in members)
        for member in members:
            member.rows = rows
            member.optimizer.zero_grad(set_to_none=True)
        try:
            nats_K = _gradients(members, batches, rows)
        except Exception as error:
            if rows == 1 or not out_of_memory(error):
                raise
        well = ranks.all(nats_K is not None)
        if not well:
            _limit_rows(members, max(1, rows // 2))
    assert nats_K is not None
    ranks.sum_([*_gradients_there(members), nats_K])
    for member in members:
        member.apply()
    stepped = settle([member.precision for member in members])
    for member, did in zip(members, stepped, strict=True):
        member.advance(stepped=did)
    return list(zip(nats_K.unbind(), stepped, strict=True))


def step_alone(member: Steps, batch: Batch) -> Stepped:
    """The same of one member."""
    return step_together([member], [batch])[0]


def _limit_rows(members: Sequence[Steps], rows: int) -> None:
    """Where there was no room: computes no more rows at once from now on."""
    for member in members:
        member.limit_rows(rows)
        member.optimizer.zero_grad(set_to_none=True)
    log.warning("no room for %d rows at once: trying %d", members[0].rows, rows)
    release_memory(members[0].device)


def _gradients(members: Sequence[Steps], batches: Sequence[Batch], rows: int) -> Tensor:
    """Adds the gradients of this rank's rows, of which so many are computed at once.

    Returns:
        nats_K of these rows.
    """
    model, precision = members[0].model, members[0].precision
    shares = [members[0].ranks.share(batch) for batch in batches]
    parts = zip(*(share.batch.parts(rows) for share in shares), strict=True)
    nats_K = torch.zeros(len(members), device=members[0].device)
    stacked = isinstance(model, StackedModel)
    with precision.products(), nullcontext() if stacked else _own_dropout(members[0]):
        for number, part in enumerate(parts):
            with precision.forward():
                if isinstance(model, StackedModel):
                    place = shares[0].first + number * rows, len(batches[0].lengths_B)
                    part_K = _stacked_nats(model, members, part, *place)
                else:
                    part_K = sequence_loss(model, part[0].tokens_BT, part[0].lengths_B).nats[None]
            each = zip(members, part_K.unbind(), batches, strict=True)
            losses = [its.precision.scaled(nats / batch.targets) for its, nats, batch in each]
            torch.autograd.backward(losses)
            nats_K += part_K.detach()
    if not shares[0].counts:
        for tensor in (*_gradients_there(members), nats_K):
            tensor.zero_()
    return nats_K


def _gradients_there(members: Sequence[Steps]) -> list[Tensor]:
    parameters = [each for member in members for each in member.model.parameters()]
    return [each.grad for each in parameters if each.grad is not None]


def _own_dropout(member: Steps) -> AbstractContextManager[object]:
    """Within it a model that draws dropout of its own draws that of the step."""
    seed, epoch, step = member.place
    return seeded(stream_seed(seed, DROPOUT, epoch, step), member.device)


def _stacked_nats(
    model: StackedModel, members: Sequence[Steps], part: Sequence[Batch], first: int, of: int
) -> Tensor:
    """The loss nats_K of a part, whose rows begin at `first` of so many."""
    places, window = [member.place for member in members], members[0].config.data.window
    whole = model.one_shape and recordings.serve(members[0].device)
    return cohort_loss(
        model,
        stack([member.model for member in members]),
        _side_by_side(part, window if whole else 0),
        [batch.lengths_B for batch in part],
        dropout=Dropout(
            places[:1] if len(set(places)) == 1 else places, window=window, first=first, of=of
        ),
    )[0]


def _side_by_side(batches: Sequence[Batch], window: int) -> Tensor:
    """Members' rows as tokens_KBT, all as long as the longest one, or as `window` where it is."""
    longest = window or max(int(batch.lengths_B[0]) for batch in batches)
    rows = [batch.tokens_BT for batch in batches]
    return torch.stack([F.pad(rows_BT, (0, longest - rows_BT.shape[1])) for rows_BT in rows])
