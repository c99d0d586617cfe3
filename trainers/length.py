"""How long a run is, in optimizer steps, and after which of them it is measured and stored."""

import math
from dataclasses import dataclass
from typing import Protocol

from trainers.config import LRSchedule, TrainConfig

REPORTS = 20
"""Of a whole run whose budget is not in epochs, where it is not said how often it is measured."""


@dataclass(frozen=True, slots=True)
class Length:
    """A run's steps; every number counts optimizer steps.

    Attributes:
        steps: of the whole run.
        per_epoch: of a pass over the training data.
        between_reports: from one report to the next; the last one comes at the run's end.
        between_checkpoints: from one checkpoint to the next, beside those of the reports; 0: none.
    """

    steps: int
    per_epoch: int
    between_reports: int
    between_checkpoints: int = 0

    def next_report(self, step: int) -> int:
        """The step of the first report after `step`."""
        return min(self.steps, (step // self.between_reports + 1) * self.between_reports)

    def is_checkpoint(self, step: int) -> bool:
        """Whether a checkpoint is due after `step`, beside those of the reports."""
        return bool(self.between_checkpoints) and step % self.between_checkpoints == 0

    def horizon(self, schedule: LRSchedule) -> int:
        """The steps that a decay and a warm-up by share count."""
        return schedule.horizon_steps or schedule.horizon_epochs * self.per_epoch or self.steps


def steps_of(epochs: int, steps: int, tokens: int, *, per_epoch: int, targets: int) -> int:
    """The optimizer steps of a whole run, whatever its budget is counted in.

    Args:
        epochs, steps, tokens: the budget; tokens are rounded up to whole steps.
        per_epoch: steps of a pass over the training data.
        targets: tokens that such a pass predicts.
    """
    if tokens:
        return math.ceil(tokens * per_epoch / targets)
    return steps or epochs * per_epoch


def length_of(config: TrainConfig, per_epoch: int, targets: int = 1) -> Length:
    """A run's length; `per_epoch` and `targets` as of `steps_of`."""
    budget = config.epochs, config.steps, config.tokens
    steps = steps_of(*budget, per_epoch=per_epoch, targets=targets)
    usual = per_epoch if config.epochs else max(1, steps // REPORTS)
    between = config.evaluate_every or usual
    return Length(steps, per_epoch, between, config.checkpoint_every)


class Sequences(Protocol):
    """Training sequences."""

    @property
    def targets(self) -> int:
        """Tokens that a pass over them predicts."""
        ...

    def __len__(self) -> int: ...


def length_on(config: TrainConfig, training: Sequences) -> Length:
    """A run's length on its training sequences."""
    return length_of(config, math.ceil(len(training) / config.batch_size), training.targets)


def budget_words(config: TrainConfig) -> str:
    """A run's budget for a person: "50 epochs", "1,000 steps"."""
    counted = {"tokens": config.tokens, "steps": config.steps, "epochs": config.epochs}
    name, number = next((name, number) for name, number in counted.items() if number)
    return f"{number:,} {name if number > 1 else name[:-1]}"
