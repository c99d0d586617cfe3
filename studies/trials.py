"""Reads what the search needs of stored trials."""

import math
from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from studies.definition import PARAMETER
from studies.perplexity import is_perplexity


def rate_of(trial: FrozenTrial, parameter: str = PARAMETER) -> float | None:
    """A trial's rate, None where it has none yet.

    One that waits, or was killed between ask and suggest, has only its fixed parameters.
    """
    return as_rate(trial.params.get(parameter, fixed_params(trial).get(parameter)))


def as_rate(value: object) -> float | None:
    """A rate as another program may have enqueued it; None where it is none: text, 0, NaN."""
    try:
        rate = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return rate if 0.0 < rate < math.inf else None


def fixed_params(trial: FrozenTrial) -> Mapping[str, Any]:
    """The parameters that a trial was enqueued with, as they were given."""
    given = trial.system_attrs.get("fixed_params")
    return given if isinstance(given, Mapping) else {}


def diverged(trial: FrozenTrial) -> bool:
    """Whether a trial is known to have been lost: any of its perplexities is not finite."""
    values = [*trial.intermediate_values.values()]
    if trial.value is not None and trial.state == TrialState.COMPLETE:
        values.append(trial.value)
    return not all(math.isfinite(value) for value in values)


def best_until(trial: FrozenTrial, epoch: int) -> float:
    """The lowest perplexity reported up to an epoch; infinite where there is none."""
    values = trial.intermediate_values
    return min((value for step, value in values.items() if step <= epoch), default=math.inf)


def ln_rate(trial: FrozenTrial) -> float:
    """ln of a trial's rate, NaN where it has none yet."""
    rate = rate_of(trial)
    return math.nan if rate is None else math.log(rate)


def failed(trial: FrozenTrial) -> bool:
    """Whether it says nothing about its rate; one that reported NaN before it failed diverged."""
    return trial.state == TrialState.FAIL and not diverged(trial)


def sound(trial: FrozenTrial) -> bool:
    """Whether it ran to its end, with a value that a perplexity can have."""
    value = trial.value if trial.state == TrialState.COMPLETE else None
    return value is not None and is_perplexity(value) and value < math.inf


def value_of(trial: FrozenTrial) -> float:
    """A trial's value, NaN where it has none."""
    return math.nan if trial.value is None else trial.value


def last_epoch(trial: FrozenTrial) -> float:
    """The last epoch reported; 0 where there is none."""
    return trial.last_step or 0
