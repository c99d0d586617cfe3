"""The one evaluation, for every precision: FP32, each validation token scored once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from trainers.batches import Batch, Batches
from trainers.faults import out_of_memory
from trainers.models import StackedModel
from trainers.models._stacked import Stack, stack
from trainers.steps.loss import cohort_loss, sequence_loss
from trainers.steps.memory import release_memory, rows_that_fit
from trainers.steps.ranks import ALONE, Ranks

EVALUATION_ROWS = {"cpu": 512, "cuda": 2048}
"""More at once are no faster."""

_fitted: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""Rows of a model for which there was room, where fewer were than expected."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model scores.

    Attributes:
        loss: nats a token: the sum over all scored tokens divided by their count.
        accuracy: share of scored tokens whose most likely prediction is right, 0 to 1.
        bits_per_byte: the same sum in bits, by the UTF-8 bytes of the text that is scored; the ends
            of paragraphs are among the tokens and are no bytes. None where the bytes are unknown.
    """

    loss: float
    accuracy: float
    bits_per_byte: float | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """What a report has beside its loss and accuracy."""
        return {} if self.bits_per_byte is None else {"bits_per_byte": self.bits_per_byte}


def evaluate(model: nn.Module, batches: Batches) -> Evaluation:
    """Scores a model in FP32 without dropout, whatever precision it trains in.

    Args:
        model: with FP32 parameters, on the batches' device; its mode is restored afterwards.
        batches: the validation split.

    Returns:
        The exact token mean; non-finite where the model has diverged.
    """
    return evaluate_all([model], batches)[0]


@torch.inference_mode()
def evaluate_all(
    models: Sequence[nn.Module], batches: Batches, ranks: Ranks = ALONE
) -> list[Evaluation]:
    """Scores the members of a cohort on the same text, as `evaluate` does one.

    Args:
        models: of one architecture; stacked ones are computed together.
        batches: the validation split.
        ranks: that share the rows out; each calls this, and has the whole result.
    """
    modes = [model.training for model in models]
    for model in models:
        model.eval()
    together = isinstance(models[0], StackedModel)
    parts = [list(models)] if together else [[model] for model in models]
    scores = [score for part in parts for score in _scores_that_fit(part, batches, ranks)]
    for model, training in zip(models, modes, strict=True):
        model.train(training)
    return scores


def _scores_that_fit(models: list[nn.Module], batches: Batches, ranks: Ranks) -> list[Evaluation]:
    """Scores as many rows at once as there is room for."""
    device = next(models[0].parameters()).device
    room = rows_that_fit(models[0], batches.window, len(models))
    rows = min(max(1, EVALUATION_ROWS[device.type] // len(models)), room)
    rows = min(rows, _fitted.get(models[0], rows), math.ceil(len(batches) / ranks.count))
    rows = ranks.least(rows)
    while True:
        sums_3K = None
        try:
            sums_3K = _sums(models, batches, rows, ranks)
        except Exception as error:
            if rows == 1 or not out_of_memory(error):
                raise
        if ranks.all(sums_3K is not None):
            break
        rows = _fitted[models[0]] = max(1, rows // 2)
        release_memory(device)
    assert sums_3K is not None
    ranks.sum_([sums_3K])
    return [
        Evaluation(nats / targets, correct / targets, batches.bits_per_byte(nats))
        for nats, correct, targets in sums_3K.T.tolist()
    ]


def _sums(models: list[nn.Module], batches: Batches, rows: int, ranks: Ranks) -> Tensor:
    """Nats, right predictions and targets of each member, of this rank's batches."""
    # On the device until the end.
    device = next(models[0].parameters()).device
    sums_3K = torch.zeros(3, len(models), dtype=torch.float64, device=device)
    weights = stack(models)
    for batch in islice(batches.by_length(rows), ranks.rank, None, ranks.count):
        nats_K, correct_K = _batch_scores(models, weights, batch)
        sums_3K[:2] += torch.stack((nats_K.double(), correct_K.double()))
        sums_3K[2] += batch.scored
    return sums_3K


def _batch_scores(models: list[nn.Module], weights: Stack, batch: Batch) -> tuple[Tensor, Tensor]:
    first = models[0]
    if len(models) > 1 and isinstance(first, StackedModel):
        tokens_KBT = batch.tokens_BT.expand(len(models), -1, -1)
        lengths = [batch.lengths_B] * len(models)
        nats_K, correct_K = cohort_loss(
            first, weights, tokens_KBT, lengths, score_from_B=batch.score_from_B
        )
    else:
        loss = sequence_loss(
            first, batch.tokens_BT, batch.lengths_B, score_from_B=batch.score_from_B
        )
        assert loss.correct is not None
        nats_K, correct_K = loss.nats[None], loss.correct[None]
    assert correct_K is not None
    return nats_K, correct_K
