"""From a study's trials to what the response model takes in."""

import math
from collections.abc import Iterable

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from studies.errors import StudyError
from studies.forecast import forecasts
from studies.likelihood import Observations
from studies.table import Table, places
from studies.trials import diverged, failed, ln_rate


def observe(trials: Iterable[FrozenTrial]) -> Observations:
    """Reads trials: nothing but what the study stores.

    A complete trial counts with its value, a pruned or running one with its predicted final value
    and that value's variance, a diverged one as lost. A trial that nothing can be predicted of
    counts as tried. Failed ones are left out: running out of memory says nothing about a rate.

    Args:
        trials: of one study, the one that asks excepted.

    Returns:
        The observations, in the order of the trials.

    Raises:
        StudyError: a trial's value is not positive, so that it is no perplexity.
    """
    table = Table.of(trials)
    x, y = table.column(ln_rate), table.column(_ln_value)
    tried = ~np.isnan(x) & ~table.mask(failed)
    for place in places(tried & np.isneginf(y)):
        _refuse(table[place])
    lost = tried & table.mask(diverged)
    unended = tried & ~lost & np.isnan(y)
    variance = np.zeros_like(y)
    y[unended], variance[unended] = forecasts(table, unended)
    known = tried & ~lost & ~np.isnan(y)
    return Observations(
        x=x[known],
        y=y[known],
        variance=variance[known],
        lost=x[lost],
        running=x[unended & ~known],
    )


def _ln_value(trial: FrozenTrial) -> float:
    """ln of its value at the end; NaN where it has not got there, -inf of no perplexity."""
    value = trial.value if trial.state == TrialState.COMPLETE else None
    if value is None or diverged(trial):
        return math.nan
    return math.log(value) if value > 0 else -math.inf


def _refuse(trial: FrozenTrial) -> None:
    raise StudyError(
        f"trial {trial.number}: value must be a perplexity, above 0, got {trial.value:g}"
    )
