"""From a study's trials to what the response model takes in, and to what it makes of them."""

import math
from collections.abc import Hashable, Iterable, Mapping

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from studies.errors import StudyError
from studies.likelihood import Observations
from studies.prior import Prior
from studies.posterior import Posterior
from studies.table import Array, Mask, Table, places
from studies.progress import ending_fall
from studies.trials import diverged, failed, last_epoch, ln_rate

KEPT = 2  # answers: what the search goes by, and what is claimed

_last: dict[Hashable, Posterior] = {}


def observe(trials: Iterable[FrozenTrial], baseline: float | None = None, *, constant_rate: bool = False) -> Observations:
    """Reads trials: nothing but what the study stores.

    A complete trial counts with its value, a pruned or running one with its predicted final value
    and that value's variance, a diverged one as lost. A trial that nothing can be predicted of
    counts as tried. Failed ones are left out: running out of memory says nothing about a rate.

    Args:
        trials: of one study, the one that asks excepted.
        baseline: perplexity of a model that knows no context; None where it is unknown.

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
    waits = table.mask(_is_under_way)
    variance = np.zeros_like(y)
    known = tried & ~lost & ~np.isnan(y)
    return Observations(
        x=x[known],
        y=y[known],
        variance=variance[known],
        lost=x[lost],
        running=x[unended & waits],
        baseline=math.log(baseline) if baseline else math.inf,
        fall=_falls(table, known & ~unended)[known] if constant_rate else None,
    )


def posterior_of(
    trials: Iterable[FrozenTrial],
    priors: Mapping[str, Prior],
    low: float,
    high: float,
    baseline: float | None = None,
    *,
    constant_rate: bool = False,
) -> Posterior:
    """What trials say of the best rate.

    Where the trials say what they said before, it is the same answer, not worked out again.

    Args:
        trials: of one study, the one that asks excepted.
        priors: what each rule says.
        low: the lowest rate of the range.
        high: the highest.
        baseline: perplexity of a model that knows no context; None where it is unknown.

    Raises:
        StudyError: a trial's value is not positive, so that it is no perplexity.
    """
    table = Table.of(trials)
    asked = (table.contents(), tuple(priors.items()), low, high, baseline, constant_rate)
    if asked not in _last:
        if len(_last) >= KEPT:
            del _last[next(iter(_last))]
        seen = observe(table, baseline, constant_rate=constant_rate)
        _last[asked] = Posterior(seen, priors, low, high)
    return _last[asked]


def _falls(table: Table, whole: Mask) -> Array:
    """How fast each trial still fell at its end; NaN of those that ended before the longest."""
    epochs = table.column(last_epoch)
    longest = whole & (epochs == epochs[whole].max(initial=0.0))
    return np.where(longest, table.column(ending_fall), np.nan)


def _is_under_way(trial: FrozenTrial) -> bool:
    return not trial.state.is_finished() and not trial.user_attrs.get("paused")


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
