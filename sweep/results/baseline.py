"""What is known of how a study's trials are trained, where the trainer is the shared one."""

from studies.objective import Objective
from sweep.execution.protocol import SHARED_TRAINER
from sweep.results.record import StudyRecord
from trainers.config import TrainConfig


def baseline_of(
    trainer: str, unigram_perplexity: float | None, objective: Objective
) -> float | None:
    """What a model reaches that knows no context: the text's unigram perplexity.

    None for a trainer of the user's own, of whatever text, and where the study's number cannot be
    told from a perplexity.

    Args:
        trainer: its import path.
        unigram_perplexity: of the study's text.
        objective: what it is told as.
    """
    return objective.of_perplexity(unigram_perplexity) if trainer == SHARED_TRAINER else None


def stored_baseline(record: StudyRecord) -> float | None:
    """What a model without context reaches, by what a study has stored."""
    return baseline_of(record.trainer, record.unigram_perplexity, record.objective)


def at_constant_rate(trainer: str, train: TrainConfig) -> bool:
    """Whether the rate is the same from the first step to the last, as in what was measured.

    Of a trainer of the user's own nothing is known. A warm-up leaves runs short of time, so that
    they still fall fast at their ends whatever their rate.

    Args:
        trainer: its import path.
        train: what it is told.
    """
    return (
        trainer == SHARED_TRAINER
        and train.lr_schedule.name == "constant"
        and warmup_share(train, None) == 0
    )


def warmup_share(train: TrainConfig, steps_per_epoch: int | None) -> float:
    """The share of a run that its warm-up takes; before its end runs cannot be compared.

    Args:
        train: what the trainer is told.
        steps_per_epoch: None where it is unknown.
    """
    schedule = train.lr_schedule
    epochs = schedule.warmup_share * (schedule.horizon_epochs or train.epochs)
    if schedule.warmup_steps and steps_per_epoch:
        epochs = schedule.warmup_steps / steps_per_epoch
    return epochs / train.epochs
