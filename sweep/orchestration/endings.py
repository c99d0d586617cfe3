"""What a trial's end is stored as."""

import math
from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from studies.objective import Objective
from sweep.results.record import read_trial
from trainers.report import Outcome, Report

VALUED = (Outcome.COMPLETED, Outcome.EARLY_STOPPED)
BLOWN_UP = (Outcome.DIVERGED, Outcome.OVERFLOW)
OUTSIDE = (Outcome.LOST, Outcome.KILLED)
"""A trial's ends that something outside it brought about."""

ANEW = "anew"
"""The attribute of a failed trial that could not be repeated, so that its rate begins anew."""

ROUNDING = 0.01
"""What a report's value may differ by when it is trained again: in other company, or on CUDA,
it is not the same to the bit. The stored one stays."""

LAST = ("train_loss", "accuracy", "tokens_per_second", "peak_memory_bytes", "skipped_steps")


def from_outside(trial: FrozenTrial) -> bool:
    """Whether a trial failed for a reason outside it: it is asked for again by the next run."""
    failed = trial.state == TrialState.FAIL
    return failed and read_trial(trial).outcome in [each.value for each in OUTSIDE]


def began_anew(trial: FrozenTrial) -> bool:
    """Whether a trial failed since it could not be repeated, and is asked for again at once."""
    return trial.state == TrialState.FAIL and read_trial(trial).anew


def checked(outcome: Outcome, message: str, trial: FrozenTrial) -> tuple[Outcome, str]:
    """A trainer may call its run complete without anything that could be the trial's value."""
    values = trial.intermediate_values.values()
    if outcome not in VALUED or any(math.isfinite(value) for value in values):
        return outcome, message
    if values:
        return Outcome.DIVERGED, "diverged: no value is finite"
    return Outcome.FAILED, "failed: the trainer ended without a report"


def why_not_repeated(place: str, now: float, before: float, objective: Objective) -> str:
    """Why a repeated report, such as that of "step 60", is not the stored one; "" where it is."""
    if math.isclose(before, now, rel_tol=ROUNDING):
        return ""
    return (
        f"failed: {place} cannot be repeated: {objective.words} {objective.signed(now):.9g} now, "
        f"{objective.signed(before):.9g} before; "
        "its checkpoint is gone or another study's, the machine is another one, or the trainer "
        "does not repeat itself"
    )


def measured(reports: Sequence[Report]) -> dict[str, Any]:
    """What a trial's attributes say of how it was trained: at its last report, and in all.

    Args:
        reports: all of its own.
    """
    if not reports:
        return {}
    last = reports[-1]
    seconds = [1 / report.tokens_per_second for report in reports if report.tokens_per_second]
    whole_run = {
        "steps": last.step,
        "skipped_steps": sum(report.skipped_steps for report in reports),
        "peak_memory_bytes": max(report.peak_memory_bytes for report in reports),
        "tokens_per_second": len(seconds) / sum(seconds) if seconds else 0.0,
    }
    limited = {"micro_batch": last.micro_batch} if last.micro_batch else {}
    begun = {"trunk": last.trunk} if last.trunk else {}
    own = {"metrics": last.metrics} if last.metrics else {}
    known = {name: value for name in LAST if math.isfinite(value := getattr(last, name))}
    return {**known, **limited, **begun, **own, "whole_run": whole_run}
