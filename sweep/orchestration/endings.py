"""What a trial's end is stored as."""

import math
from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial

from trainers.report import EpochReport, Outcome

VALUED = (Outcome.COMPLETED, Outcome.EARLY_STOPPED)
BLOWN_UP = (Outcome.DIVERGED, Outcome.OVERFLOW)
LAST = ("train_loss", "accuracy", "tokens_per_second", "peak_memory_bytes", "skipped_steps")


def checked(outcome: Outcome, message: str, trial: FrozenTrial) -> tuple[Outcome, str]:
    """A trainer may call its run complete without anything that could be the trial's value."""
    values = trial.intermediate_values.values()
    if outcome not in VALUED or any(math.isfinite(value) for value in values):
        return outcome, message
    if values:
        return Outcome.DIVERGED, "diverged: no epoch's perplexity is finite"
    return Outcome.FAILED, "failed: the trainer ended without an epoch's report"


def measured(reports: Sequence[EpochReport], steps_per_epoch: int | None) -> dict[str, Any]:
    """What a trial's attributes say of how it was trained: its last epoch, and the whole run.

    Args:
        reports: all of its epochs'.
        steps_per_epoch: None where it is unknown.
    """
    if not reports:
        return {}
    last = reports[-1]
    seconds = [1 / report.tokens_per_second for report in reports if report.tokens_per_second]
    whole_run = {
        "steps": steps_per_epoch and steps_per_epoch * len(reports),
        "skipped_steps": sum(report.skipped_steps for report in reports),
        "peak_memory_bytes": max(report.peak_memory_bytes for report in reports),
        "tokens_per_second": len(seconds) / sum(seconds) if seconds else 0.0,
    }
    limited = {"micro_batch": last.micro_batch} if last.micro_batch else {}
    own = {"metrics": last.metrics} if last.metrics else {}
    known = {name: getattr(last, name) for name in LAST}
    return {**known, **limited, **own, "whole_run": whole_run}
