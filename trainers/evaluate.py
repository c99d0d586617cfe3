"""The one evaluation, for every precision: FP32, each validation token scored once."""

from dataclasses import dataclass

import torch
from torch import nn

from trainers.batches import Batches
from trainers.loss import sequence_loss

EVALUATION_ROWS = 512


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model scores.

    Attributes:
        loss: nats a token: the sum over all scored tokens divided by their count.
        accuracy: share of scored tokens whose most likely prediction is right, 0 to 1.
    """

    loss: float
    accuracy: float


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Batches) -> Evaluation:
    """Scores a model in FP32 without dropout, whatever precision it trains in.

    Args:
        model: with FP32 parameters, on the batches' device; its mode is restored afterwards.
        batches: the validation split.

    Returns:
        The exact token mean; non-finite where the model has diverged.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    # On the device until the end: (nats, right predictions).
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    targets = 0
    for batch in batches.by_length(EVALUATION_ROWS):
        part = sequence_loss(
            model, batch.tokens_BT, batch.lengths_B, score_from_B=batch.score_from_B
        )
        assert part.correct is not None
        sums += torch.stack((part.nats.double(), part.correct.double()))
        targets += part.targets
    model.train(training)
    nats, correct = sums.tolist()
    return Evaluation(nats / targets, correct / targets)
