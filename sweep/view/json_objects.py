"""Trials and studies as JSON objects; a number that is not finite is null."""

import math
from dataclasses import asdict
from typing import Any

from studies.objective import Objective
from sweep.results.types import StudySummary, TrialRow


def finite(value: Any) -> Any:
    """`value` with null for every number in it that JSON cannot write."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def trial_object(row: TrialRow) -> dict[str, Any]:
    """A TRIAL as above."""
    fields = asdict(row)
    del fields["objective"]  # its study's
    return {**finite(fields), "diverged": is_infinite(row.value)}


def study_object(summary: StudySummary) -> dict[str, Any]:
    """A STUDY as above, also for `sweep status --json`."""
    rules = [
        asdict(rule) | {"trial": None if rule.trial is None else rule.trial.number}
        for rule in summary.rules
    ]
    trials = {
        "trials": [trial_object(row) for row in summary.trials],
        "best": None if summary.best is None else trial_object(summary.best),
    }
    recommended = summary.recommended and trial_object(summary.recommended)
    fields = asdict(summary) | {"rules": rules, "recommended": recommended}
    del fields["objective"]
    return {**finite(fields), **metric_fields(summary.objective), **trials}


def metric_fields(objective: Objective) -> dict[str, str]:
    """What the values are: "metric" and "direction"."""
    return {"metric": objective.name, "direction": objective.direction}


def is_infinite(value: float | None) -> bool:
    """Whether training was lost."""
    return value is not None and not math.isfinite(value)
