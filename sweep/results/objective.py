"""What a study makes small or large, by its trainer's settings, and what a report says of it."""

import math
from collections.abc import Mapping
from typing import Any

from studies.objective import BITS_PER_BYTE, PERPLEXITY, VALIDATION_LOSS, Objective
from sweep.errors import SweepError
from sweep.execution.protocol import SHARED_TRAINER
from trainers.config import TrainConfig
from trainers.report import Report

FIELDS = ("accuracy", "train_loss")
"""Fields of a report that may be a study's metric, beside the validation loss and `metrics`."""


def objective_of(train: TrainConfig) -> Objective:
    """What the trials of a configuration are measured by.

    Raises:
        StudyError: a direction that the metric cannot have.
    """
    return Objective(train.metric, train.direction)


def stored_objective(config: Mapping[str, Any], tokens_per_byte: float | None) -> Objective:
    """The same of a configuration as it is stored; earlier versions knew perplexity alone."""
    metric, direction = config.get("metric", PERPLEXITY), config.get("direction", "minimize")
    return Objective(metric, direction, tokens_per_byte=tokens_per_byte)


def check_metric(objective: Objective, trainer: str) -> None:
    """Refuses a metric that the shared trainer does not measure, before anything is trained.

    Raises:
        SweepError: names those that it does.
    """
    known = (PERPLEXITY, VALIDATION_LOSS, BITS_PER_BYTE, *FIELDS)
    if trainer == SHARED_TRAINER and objective.name not in known:
        raise SweepError(
            f"trainer.metric (--metric) is {objective.name}, which the shared trainer does not "
            f"measure: take one of {', '.join(known)}, or a --trainer of your own"
        )


def check_bytes(train: TrainConfig, trainer: str, tokens_per_byte: float | None) -> None:
    """Refuses to search for bits a byte of a text whose tokens do not hold it.

    Args:
        train: what the trainer is told.
        trainer: its import path.
        tokens_per_byte: of the text, None where nobody counted.

    Raises:
        SweepError: says which tokenizers do.
    """
    asked = trainer == SHARED_TRAINER and train.metric == BITS_PER_BYTE
    if asked and tokens_per_byte is None:
        raise SweepError(
            f"trainer.metric is bits_per_byte, and data.tokenizer = {train.data.tokenizer} does "
            'not hold the text byte for byte: take "bytes", "bpe" or another tokenizer'
        )


def reported(objective: Objective, report: Report) -> float:
    """The study's number in a report, with its own sign; NaN where its trainer says so.

    Raises:
        SweepError: the report has no such metric; the message names those that it has.
    """
    if objective.name == PERPLEXITY:
        return report.perplexity
    if objective.name == VALIDATION_LOSS:
        return report.validation_loss
    if objective.name in report.metrics:
        return float(report.metrics[objective.name])
    if objective.name in FIELDS:
        return float(getattr(report, objective.name))
    names = [PERPLEXITY, VALIDATION_LOSS] if not math.isnan(report.validation_loss) else []
    there = ", ".join([*names, *report.metrics]) or "none"
    raise SweepError(
        f"the trainer reports no metric {objective.name} (trainer.metric); it has {there}"
    )


def stored_value(objective: Objective, report: Report) -> float:
    """The study's number in a report as it is stored: infinite where the trainer says NaN.

    A trainer of the user's own may say it, which Optuna would make a failure of the trial.

    Raises:
        SweepError: it is impossible, or the report has none.
    """
    said = reported(objective, report)
    value = math.inf if math.isnan(said) else objective.signed(said)
    if objective.valid(value):
        return value
    if objective.name in (PERPLEXITY, VALIDATION_LOSS):
        raise SweepError(
            "the trainer's validation_loss must be nats a token, at least 0, got "
            f"{report.validation_loss:g}"
        )
    raise SweepError(f"the trainer's {objective.name} must be {objective.bounds}, got {said:g}")
