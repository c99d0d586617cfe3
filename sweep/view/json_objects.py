"""Trials and studies as JSON objects; a number that is not finite is null."""

import math
from dataclasses import asdict
from typing import Any

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
    return {**finite(asdict(row)), "diverged": is_infinite(row.perplexity)}


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
    return {**finite(asdict(summary) | {"rules": rules}), **trials}


def is_infinite(perplexity: float | None) -> bool:
    """Whether training was lost."""
    return perplexity is not None and not math.isfinite(perplexity)
