"""Reads what the search needs of stored trials."""

import math
from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from studies.definition import PARAMETER
from studies.numbers import LEARNED, LOOK_LEARNED
from studies.objective import Objective

PAUSED, LOOKED, STEPS = "paused", "looked", "steps"
"""A trial's attributes: why it was left as it is ("" while it trains), and after which step; the
steps of the whole run, where only its trainer knows them."""


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
    """Whether a trial is known to have been lost: any of its numbers is not finite."""
    values = [*trial.intermediate_values.values()]
    if trial.value is not None and trial.state == TrialState.COMPLETE:
        values.append(trial.value)
    return not all(math.isfinite(value) for value in values)


def best_until(trial: FrozenTrial, last: float, objective: Objective) -> float:
    """The lowest number reported up to a step; infinite where there is none."""
    values = trial.intermediate_values.items()
    known = (value for step, value in values if step <= last and objective.valid(value))
    return min(known, default=math.inf)


def ln_rate(trial: FrozenTrial) -> float:
    """ln of a trial's rate, NaN where it has none yet."""
    rate = rate_of(trial)
    return math.nan if rate is None else math.log(rate)


def failed(trial: FrozenTrial) -> bool:
    """Whether it says nothing about its rate; one that reported NaN before it failed diverged."""
    return trial.state == TrialState.FAIL and not diverged(trial)


def sound(trial: FrozenTrial, objective: Objective) -> bool:
    """Whether it ran to its end at a rate, with a value that is possible."""
    value = trial.value if trial.state == TrialState.COMPLETE else None
    return (
        value is not None
        and value < math.inf
        and not why_no_result(rate_of(trial), value, objective)
    )


def why_no_result(rate: float | None, value: float | None, objective: Objective) -> str:
    """Why a trial's end is no result, whatever program wrote it; "" where it is one."""
    if rate is None:
        return f"it has no {PARAMETER}"
    if value is None or not objective.valid(value):
        shown = "none" if value is None else f"{value:g}"
        return f"its value must be a {objective.words}, {objective.bounds}, got {shown}"
    return ""


def value_of(trial: FrozenTrial) -> float:
    """A trial's value, NaN where it has none."""
    return math.nan if trial.value is None else trial.value


def last_step(trial: FrozenTrial) -> float:
    """The last step reported; 0 where there is none."""
    return trial.last_step or 0


def first_report(trial: FrozenTrial, earliest: float) -> float:
    """The first step reported that is no earlier than one; NaN where there is none."""
    later = (step for step in trial.intermediate_values if step >= earliest)
    return min(later, default=math.nan)


def whole_steps(trial: FrozenTrial) -> float:
    """Steps of the whole run as its trainer has said; 0 where it has not."""
    steps = trial.user_attrs.get(STEPS, 0)
    return steps if isinstance(steps, int) else 0


def number_of(trial: FrozenTrial) -> float:
    """A trial's number, for a column."""
    return trial.number


def is_paused(trial: FrozenTrial) -> bool:
    """Whether a trial was left as it is after a look, to go on should its rate be asked for."""
    return trial.state == TrialState.RUNNING and bool(trial.user_attrs.get(PAUSED))


def was_looked_at(trial: FrozenTrial) -> bool:
    """Whether a trial was left as it is once, also where it has gone on since."""
    pruned = trial.state == TrialState.PRUNED and not diverged(trial)
    return pruned or LOOKED in trial.user_attrs


def learned_at(trial: FrozenTrial, baseline: float, objective: Objective) -> float:
    """The first step at which a trial was below a model without context.

    Where that is unknown, below its own first report. NaN where it never was.

    Args:
        trial: of whose reports it is said.
        baseline: of a model without context, in nats; infinite where it is unknown.
        objective: what they are.
    """
    finite = sorted(each for each in trial.intermediate_values.items() if math.isfinite(each[1]))
    reports = [(step, objective.nats(value)) for step, value in finite]
    if not reports or any(math.isnan(nats) for _, nats in reports):
        return math.nan
    top = baseline if math.isfinite(baseline) else reports[0][1]
    below = (step for step, nats in reports if nats < top - LOOK_LEARNED)
    return float(next(below, math.nan))


def stuck(trial: FrozenTrial, baseline: float, objective: Objective) -> bool:
    """Whether a trial's last report is no better than a model without context, in nats."""
    last = trial.last_step
    highest = objective.stored(baseline - LEARNED)
    return last is not None and trial.intermediate_values[last] > highest
