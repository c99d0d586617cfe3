"""From a study's trials to what the response model takes in."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from studies.errors import StudyError
from studies.forecast import Falls, forecast
from studies.likelihood import Observations
from studies.trials import diverged, rate_of


def observe(trials: Sequence[FrozenTrial]) -> Observations:
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
    results: list[tuple[float, float, float]] = []
    lost, running = [], []
    falls = Falls(trials)
    for trial, x in _with_rate(trials):
        if diverged(trial):
            lost.append(x)
        elif (result := _result(trial, falls)) is not None:
            results.append((x, *result))
        else:
            running.append(x)
    table = np.array(results).reshape(-1, 3)
    return Observations(
        x=table[:, 0],
        y=table[:, 1],
        variance=table[:, 2],
        lost=np.array(lost),
        running=np.array(running),
    )


def _with_rate(trials: Sequence[FrozenTrial]) -> Iterator[tuple[FrozenTrial, float]]:
    for trial in trials:
        rate = rate_of(trial)
        if rate is not None and trial.state != TrialState.FAIL:
            yield trial, math.log(rate)


def _result(trial: FrozenTrial, falls: Falls) -> tuple[float, float] | None:
    """ln perplexity and its variance."""
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        if trial.value <= 0:
            raise StudyError(
                f"trial {trial.number}: value must be a perplexity, above 0, got {trial.value:g}"
            )
        return math.log(trial.value), 0.0
    predicted = forecast(trial, falls)
    return None if predicted is None else (predicted.mean, predicted.variance)
