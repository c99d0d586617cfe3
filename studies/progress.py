"""What a run's own course says of its rate: how fast what it reports still falls at the end.

At a constant rate x = ln rate, after t steps, ln perplexity is about

    y(x, t) = floor + P(x + ln t) + Q(x):

what is left to learn depends on rate times time, the noise of the steps on the rate (the noisy
quadratic model, Zhang et al. 2019, arXiv 1907.04164). So a run's fall -dy / d ln t = -P' is what a
higher rate would bring if it cost nothing. At the optimum mu it is what a higher rate costs, Q',
and as P and Q are nearly exponentials the curvature a is near it: measured, fall = 1.1 a there,
sd 0.35 in ln. A run far below mu falls hardly faster, one above it ever more slowly:

    ln fall(x) = ln(1.1 a) + ln(1.5 / (1 + 0.5 e^(2 (x - mu)))) + e,    e ~ N(0, 0.35^2 + 0.25^2),

where the first part of e is a study's and the second a run's. Some runs are not like that, and some
studies. The numbers are of the short runs in tests/benchmarks/curves. The long ones, which took no
part in choosing them, show fall = 1.35 a. With a rate that decays no such thing was found.

A run that ends at the level of a model without context is far off, and says on which side: one that
is too low comes down to that level bit by bit, one that was lost is there at once, or far above it.
Of 105 short runs that were too low 90 were still well above it after a tenth of their steps and 15
were not, of 79 that were too high 7 and 49; of the long ones' 89 and 67 it was 78 and 8, 0 and 63.
"""

import math

import numpy as np
from optuna.trial import FrozenTrial

from studies.numbers import (
    ANY_FALL,
    AT_BASELINE,
    COMING_DOWN,
    FALL,
    IS_THERE,
    LEAST_FALL,
    LEAST_REPORTS,
    LEFT,
    ON_ITS_WAY,
    RUN_SD,
    STEEP,
    STILL_LEARNS,
    STUDIES,
    STUDY_SD,
    STUDY_WEIGHTS,
    THERE,
    UNLIKE_RUN,
    UNLIKE_STUDY,
)
from studies.objective import Objective
from studies.table import Array
from studies.trials import diverged, first_report


def ending_fall(trial: FrozenTrial, objective: Objective) -> float:
    """How fast a trial's lowest report fell over its second half, for each unit of ln step.

    Returns:
        Nats; NaN with fewer than four reports, or where the lowest does not lie in the last fifth:
        a run that learns its text by heart says nothing of its rate.
    """
    steps = sorted(trial.intermediate_values)
    values = np.array([trial.intermediate_values[step] for step in steps])
    if len(steps) < LEAST_REPORTS or steps[0] < 1 or diverged(trial):
        return math.nan
    if values.argmin() < STILL_LEARNS * len(steps):
        return math.nan
    half = len(steps) // 2 - 1
    y = objective.nats(np.minimum.accumulate(values))[half:]
    if np.isnan(y).any():
        return math.nan
    t = np.log(steps[half:])
    t -= t.mean()
    return -float(t @ y / (t @ t))


def side_of(trial: FrozenTrial, objective: Objective, baseline: float, steps: float) -> float:
    """On which side of the best rate a run lies that learned no more than word frequencies.

    Args:
        trial: of which it is asked.
        objective: what its reports are.
        baseline: what a model without context comes to, nats.
        steps: after which it is read how far above that level the run was.

    Returns:
        -1 where its rate is too low, 1 where it is too high, NaN where that does not show.
    """
    value, step = trial.value, first_report(trial, steps)
    if value is None or diverged(trial) or math.isnan(step):
        return math.nan
    above = objective.nats(trial.intermediate_values[int(step)]) - baseline
    if step == trial.last_step or not abs(objective.nats(value) - baseline) < AT_BASELINE:
        return math.nan
    if COMING_DOWN[0] < above < COMING_DOWN[1]:
        return -1.0
    return 1.0 if above < THERE else math.nan


def log_side(x: Array, side: Array, mu: Array) -> Array:
    """ln of how likely some runs' sides are, over mu.

    Args:
        x: the runs' ln rates, (n,).
        side: what `side_of` says of each, none of it NaN, (n,).
        mu: the grid of the optimum.
    """
    too_low = x < mu[:, None]
    low, high = (np.where(too_low, *shares) for shares in (ON_ITS_WAY, IS_THERE))
    like = np.log(np.where(side < 0, low, high)).sum(-1)
    return _or_unlike(like, len(x) * math.log(0.5))


def log_fit(x: Array, fall: Array, mu: Array, curvature: Array) -> Array:
    """ln density of some runs' falls, over (mu, a).

    Args:
        x: the runs' ln rates, (n,).
        fall: how fast they fell, nats for each unit of ln step, (n,).
        mu: the grid of the optimum.
        curvature: that of a.
    """
    seen = np.log(np.maximum(fall, LEAST_FALL))
    distance = x - mu[:, None]
    shape = np.log(LEFT) - np.log(1.0 + (LEFT - 1.0) * np.exp(STEEP * distance))
    middle = np.log(FALL * curvature)[:, None] + STUDY_SD * STUDIES
    z = (seen - shape[:, None, None, :] - middle[..., None]) / RUN_SD
    normal = np.exp(-0.5 * z**2) / (RUN_SD * math.sqrt(2 * math.pi))
    each = np.log((1.0 - UNLIKE_RUN) * normal + UNLIKE_RUN * ANY_FALL).sum(-1)
    like = np.logaddexp.reduce(each + np.log(STUDY_WEIGHTS), axis=-1)
    return _or_unlike(like, len(x) * math.log(ANY_FALL))


def _or_unlike(like: Array, unlike: float) -> Array:
    """ln of how likely a study's runs are, as it may be one that is not like that at all."""
    return np.asarray(
        np.logaddexp(math.log(1.0 - UNLIKE_STUDY) + like, math.log(UNLIKE_STUDY) + unlike)
    )
