"""Predicts what a trial that has not run to its end would reach, from those that have.

A trial's value is its lowest perplexity over the epochs. Up to epoch t it has shown some lowest
perplexity; what is still to come is the fall that finished trials showed from epoch t on. High and
low rates fall differently: with a constant rate high ones lead early and lose later, with a
decaying one it is the other way round. So the fall is a straight line in ln rate, fitted at each
epoch anew, and no schedule has to be known. A trial whose last epoch alone brought more than the
others still had before them (a high rate after a bad start) is not like them: that much more it may
fall, and that much wider is the forecast.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from optuna.trial import FrozenTrial, TrialState

from studies.trials import best_until, rate_of

Array = npt.NDArray[np.float64]

# The regression's prior: it starts as "no trend, about so much scatter" and gives way to data.
SLOPE_SD = 0.05  # nats of fall for each unit of ln rate
SCATTER = 0.15  # sd of a fall as a share of the mean fall ...
LEAST_SCATTER = 0.003  # ... and in nats at least: seed noise
PRIOR_TRIALS = 2.0  # how many trials the prior scatter is worth
NEAR = 1.5  # ln rate at which another trial's fall says half as much


@dataclass(frozen=True, slots=True)
class Forecast:
    """The final ln perplexity of a trial: a Student-t distribution.

    Attributes:
        mean: nats a token.
        scale: of the distribution, nats; its variance is scale^2 dof / (dof - 2).
        dof: degrees of freedom, above 2.
        trials: finished ones that it rests on.
    """

    mean: float
    scale: float
    dof: float
    trials: int

    @property
    def variance(self) -> float:
        """Of the final ln perplexity."""
        return self.scale**2 * self.dof / (self.dof - 2.0)


class Falls:
    """How far the perplexity of complete trials fell from each epoch to their end.

    Args:
        trials: of one study; the complete ones that reported epochs are used.
    """

    def __init__(self, trials: Iterable[FrozenTrial]) -> None:
        self._complete = [trial for trial in trials if _is_complete(trial)]
        self._known: dict[int, tuple[Array, Array]] = {}

    def after(self, epoch: int) -> tuple[Array, Array]:
        """Their ln rates and falls in nats, of those that had a finite perplexity by then."""
        if epoch not in self._known:
            falls = [
                (math.log(rate), math.log(best_until(trial, epoch) / trial.value))
                for trial in self._complete
                if (rate := rate_of(trial)) is not None
                and trial.value is not None
                and math.isfinite(best_until(trial, epoch))
            ]
            table = np.array(falls).reshape(-1, 2)
            self._known[epoch] = table[:, 0], table[:, 1]
        return self._known[epoch]


def forecast(trial: FrozenTrial, falls: Falls) -> Forecast | None:
    """Predicts an unfinished trial's final ln perplexity from its reports so far.

    Bayesian linear regression of the fall on ln rate with a normal-inverse-gamma prior (Gelman et
    al. 2013, Bayesian Data Analysis, section 14.8), complete trials weighted by 1 / (1 + (d/1.5)^2)
    at a distance of d.

    Args:
        trial: running or pruned.
        falls: of the study's complete trials.

    Returns:
        The forecast; None without a finite report or without a complete trial to learn from.
    """
    epoch, rate = trial.last_step, rate_of(trial)
    if epoch is None or rate is None or not math.isfinite(best_until(trial, epoch)):
        return None
    x, fall = falls.after(epoch)
    if not len(x):
        return None
    expected, scale, dof = _regression(x - math.log(rate), fall)
    expected = max(expected, 0.0)
    scale = math.hypot(scale, max(0.0, _last_fall(trial, epoch) - expected))
    return Forecast(math.log(best_until(trial, epoch)) - expected, scale, dof, len(x))


def _last_fall(trial: FrozenTrial, epoch: int) -> float:
    """How far the last epoch brought the lowest ln perplexity down, 0 where it is the first."""
    before = best_until(trial, epoch - 1)
    return math.log(before / best_until(trial, epoch)) if math.isfinite(before) else 0.0


def _is_complete(trial: FrozenTrial) -> bool:
    return (
        trial.state == TrialState.COMPLETE
        and bool(trial.intermediate_values)
        and trial.value is not None
        and 0.0 < trial.value < math.inf
    )


def _regression(distance: Array, fall: Array) -> tuple[float, float, float]:
    """The fall at distance 0: location, scale and degrees of freedom of its Student-t."""
    weight = 1.0 / (1.0 + (distance / NEAR) ** 2)
    scatter = max(LEAST_SCATTER, SCATTER * float(weight @ np.abs(fall) / weight.sum()))
    design = np.stack([np.ones_like(distance), distance], axis=1)
    # Precisions in units of 1/scatter^2: none for the level, the slope's from SLOPE_SD.
    precision = (design.T * weight) @ design + np.diag([0.0, (scatter / SLOPE_SD) ** 2])
    coefficients = np.linalg.solve(precision, (design.T * weight) @ fall)
    residual = fall - design @ coefficients
    dof = PRIOR_TRIALS + len(fall)
    misfit = float(weight @ residual**2) + (coefficients[1] * scatter / SLOPE_SD) ** 2
    spread = (PRIOR_TRIALS * scatter**2 + misfit) / dof
    level = float(np.linalg.inv(precision)[0, 0])
    return float(coefficients[0]), math.sqrt(spread * (1.0 + level)), dof
