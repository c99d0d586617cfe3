"""The one evaluation, for every precision: FP32, each validation token scored once."""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from trainers.batches import Batch, Batches
from trainers.faults import out_of_memory
from trainers.models import StackedModel
from trainers.models._stacked import Stack, stack
from trainers.steps.loss import cohort_loss, sequence_loss
from trainers.steps.memory import release_memory, rows_that_fit

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
def evaluate_all(models: Sequence[nn.Module], batches: Batches) -> list[Evaluation]:
    """Scores the members of a cohort on the same text, as `evaluate` does one.

    Args:
        models: of one architecture; stacked ones are computed together.
        batches: the validation split.
    """
    modes = [model.training for model in models]
    for model in models:
        model.eval()
    together = isinstance(models[0], StackedModel)
    parts = [list(models)] if together else [[model] for model in models]
    scores = [score for part in parts for score in _scores_that_fit(part, batches)]
    for model, training in zip(models, modes, strict=True):
        model.train(training)
    return scores


def _scores_that_fit(models: list[nn.Module], batches: Batches) -> list[Evaluation]:
    """Scores as many rows at once as there is room for."""
    device = next(models[0].parameters()).device
    room = rows_that_fit(models[0], batches.window, len(models))
    rows = min(max(1, EVALUATION_ROWS[device.type] // len(models)), room)
    rows = min(rows, _fitted.get(models[0], rows))
    while True:
        try:
            return _scores(models, batches, rows)
        except Exception as error:
            if rows == 1 or not out_of_memory(error):
                raise
        rows = _fitted[models[0]] = rows // 2
        release_memory(device)


def _scores(models: list[nn.Module], batches: Batches, rows: int) -> list[Evaluation]:
    # On the device until the end: (nats, right predictions) of each member.
    device = next(models[0].parameters()).device
    sums_2K = torch.zeros(2, len(models), dtype=torch.float64, device=device)
    weights = stack(models)
    targets = 0
    for batch in batches.by_length(rows):
        nats_K, correct_K = _batch_scores(models, weights, batch)
        sums_2K += torch.stack((nats_K.double(), correct_K.double()))
        targets += batch.scored
    return [
        Evaluation(nats / targets, correct / targets, batches.bits_per_byte(nats))
        for nats, correct in sums_2K.T.tolist()
    ]


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
