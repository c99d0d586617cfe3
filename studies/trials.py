"""Reads what the search needs of stored trials."""

import math

from optuna.trial import FrozenTrial, TrialState

from studies.definition import PARAMETER
from studies.perplexity import is_perplexity


def rate_of(trial: FrozenTrial, parameter: str = PARAMETER) -> float | None:
    """A trial's rate, None where it has none yet.

    One that waits, or was killed between ask and suggest, has only its fixed parameters.
    """
    fixed = trial.system_attrs.get("fixed_params", {})
    rate = trial.params.get(parameter, fixed.get(parameter))
    return None if rate is None else float(rate)


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
    return math.log(rate) if rate is not None and rate > 0 else math.nan


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
