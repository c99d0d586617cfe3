"""Predicts what a trial that has not run to its end would reach, from those that have.

A trial's value is its lowest perplexity over the epochs. Up to epoch t it has shown some lowest
perplexity; what is still to come is the fall that finished trials showed from epoch t on. High and
low rates fall differently: with a constant rate high ones lead early and lose later, with a
decaying one it is the other way round. So the fall is a straight line in ln rate, fitted at each
epoch anew, and no schedule has to be known. Three things show that a trial is not like the others,
and by as much the forecast is wider: its last epoch alone brought more than they still had before
them (a high rate after a bad start); its last perplexity lies above its lowest (it has not
settled); it is behind those at its rate (it may still leave a plateau).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from optuna.trial import FrozenTrial

from studies.table import Array, Indices, Mask, Table, together
from studies.trials import best_until, last_epoch, ln_rate, sound, value_of

# The regression's prior: it starts as "no trend, about so much scatter" and gives way to data.
SLOPE_SD = 0.15  # nats of fall for each unit of ln rate
SCATTER = 0.15  # sd of a fall as a share of the mean fall ...
LEAST_SCATTER = 0.03  # ... and in nats at least: seed noise
PRIOR_TRIALS = 5.0  # how many trials the prior scatter is worth
NEAR = 1.5  # ln rate at which another trial's fall says half as much
CATCHES_UP = 0.3  # nats that a trial may be behind and still end with the others
ABREAST = 1.2  # sd in ln rate around a trial, within which others should have come as far by now
CELLS = 1_000_000  # of a table that is worked on at once: 8 MB


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
        return self.scale**2 * _variance_factor(self.dof)


@dataclass(frozen=True, slots=True)
class AtRates:
    """The falls of complete trials, those at the same rate together (see `together`).

    Attributes:
        x: ln rates.
        count: trials at each.
        mean: of their falls, nats.
        size: the sum of their falls' absolute values.
        squares: the sum of their falls' squared distances from the mean.
        reached: the mean of the ln perplexities that they fell from.
    """

    x: Array
    count: Array
    mean: Array
    size: Array
    squares: Array
    reached: Array

    @classmethod
    def of(cls, rates: Array, place: Indices, fall: Array, reached: Array) -> Self:
        """Puts trials together.

        Args:
            rates: ln rates.
            place: each trial's among them, (n,).
            fall: each trial's, (n,).
            reached: what it fell from, (n,).
        """

        def sums(values: Array) -> Array:
            return np.bincount(place, values, len(rates)).astype(np.float64)

        count = sums(np.ones_like(fall))
        some = count > 0
        mean = sums(fall) / np.maximum(count, 1)
        squares = sums((fall - mean[place]) ** 2)
        columns = (count, mean, sums(np.abs(fall)), squares, sums(reached) / np.maximum(count, 1))
        return cls(rates[some], *(column[some] for column in columns))


class Falls:
    """How far the perplexity of complete trials fell from each epoch to their end.

    Args:
        trials: of one study; the complete ones that reported epochs are used.
    """

    def __init__(self, trials: Iterable[FrozenTrial]) -> None:
        self._table = Table.of(trials)
        x = self._table.column(ln_rate)
        self._complete = self._table.mask(sound) & ~np.isnan(x)
        self._rates, self._place = together(x[self._complete])
        self._final = _ln(self._table.column(value_of)[self._complete])

    def after(self, epoch: int) -> AtRates:
        """Of those that had a finite perplexity by then."""
        reached = _ln(self._table.column(best_until, epoch)[self._complete])
        fall = reached - self._final
        known = ~np.isnan(fall)
        return AtRates.of(self._rates, self._place[known], fall[known], reached[known])


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
    epoch, x, reached = trial.last_step, ln_rate(trial), _ln_reached(trial)
    if epoch is None or math.isnan(x) or math.isnan(reached):
        return None
    known = falls.after(epoch)
    if not len(known.x):
        return None
    mean, scale = _predict(known, *(np.array([read(trial)]) for read in _SHOWN))
    trials = round(known.count.sum())
    return Forecast(float(mean[0]), float(scale[0]), PRIOR_TRIALS + trials, trials)


def forecasts(table: Table, wanted: Mask) -> tuple[Array, Array]:
    """The forecasts of many trials by those of them that are complete.

    Args:
        table: of the study's trials, (n,).
        wanted: which of them, (n,).

    Returns:
        Mean and variance of the final ln perplexity of each that is wanted; NaN without a forecast.
    """
    falls = Falls(table)
    epoch, reached = (table.column(read)[wanted] for read in (last_epoch, _ln_reached))
    shown = [table.column(read)[wanted] for read in _SHOWN]
    mean, variance = np.full(len(epoch), np.nan), np.full(len(epoch), np.nan)
    heard = ~np.isnan(reached)
    for at in np.unique(epoch[heard]):
        known = falls.after(int(at))
        if len(known.x):
            these = np.flatnonzero(heard & (epoch == at))
            for part in np.array_split(these, 1 + len(these) * len(known.x) // CELLS):
                mean[part], scale = _predict(known, *(column[part] for column in shown))
                variance[part] = scale**2 * _variance_factor(PRIOR_TRIALS + known.count.sum())
    return mean, variance


def _predict(
    known: AtRates, x: Array, reached: Array, last: Array, risen: Array
) -> tuple[Array, Array]:
    """Location and scale of some trials.

    Args:
        known: the complete trials by the epoch that these are at.
        x: ln rates, (n,).
        reached: their lowest ln perplexities, (n,).
        last: how far the last epoch brought those down, (n,).
        risen: how far the last ln perplexity lies above the lowest, (n,).
    """
    rates, place = together(x)
    expected, scale = _regression(known, rates)
    expected = np.maximum(expected, 0.0)[place]
    behind = _behind(known, rates, place, reached)
    unlike = np.max([last - expected, risen, behind, np.zeros_like(x)], axis=0)
    return reached - expected, np.hypot(scale[place], unlike)


def _behind(known: AtRates, rates: Array, place: Indices, reached: Array) -> Array:
    """How far each of some trials is behind those at its rate, as far as there are any near it.

    Args:
        known: the complete trials.
        rates: ln rates.
        place: the trials' places among them, (n,).
        reached: by these trials, (n,).
    """
    near = np.exp(-0.5 * ((known.x - rates[:, None]) / ABREAST) ** 2)
    weight = near * known.count
    there = weight @ known.reached / np.maximum(weight.sum(1), np.finfo(np.float64).tiny)
    behind = np.minimum(reached - there[place], CATCHES_UP)
    return np.asarray(near.max(1)[place] * behind)


def _ln_until(trial: FrozenTrial, epoch: int) -> float:
    """The lowest ln perplexity up to an epoch, NaN where there is none."""
    reached = best_until(trial, epoch)
    return math.log(reached) if 0.0 < reached < math.inf else math.nan


def _ln(perplexities: Array) -> Array:
    """ln of each, NaN where there is none."""
    known = (perplexities > 0.0) & (perplexities < math.inf)
    return np.log(np.where(known, perplexities, math.nan))


def _ln_reached(trial: FrozenTrial) -> float:
    """The lowest ln perplexity so far, NaN where there is none."""
    return _ln_until(trial, int(last_epoch(trial)))


def _last_fall(trial: FrozenTrial) -> float:
    """How far the last epoch brought the lowest ln perplexity down, 0 where it is the first."""
    before = _ln_until(trial, int(last_epoch(trial)) - 1)
    return 0.0 if math.isnan(before) else before - _ln_reached(trial)


def _risen(trial: FrozenTrial) -> float:
    """How far the last ln perplexity lies above the lowest."""
    last = trial.intermediate_values.get(int(last_epoch(trial)), math.nan)
    reached = _ln_reached(trial)
    return math.log(last) - reached if 0.0 < last < math.inf else 0.0


# What `_predict` is told of a trial, in its order.
_SHOWN = (ln_rate, _ln_reached, _last_fall, _risen)


def _variance_factor(dof: float) -> float:
    """The variance of a Student-t distribution whose scale is 1."""
    return dof / (dof - 2.0)


def _regression(known: AtRates, x: Array) -> tuple[Array, Array]:
    """The fall at ln rates x: location and scale of its Student-t."""
    distance = known.x - x[:, None]
    near = 1.0 / (1.0 + (distance / NEAR) ** 2)
    weight = near * known.count
    total = weight.sum(1)
    scatter = np.maximum(LEAST_SCATTER, SCATTER * (near @ known.size) / total)
    # Precisions in units of 1/scatter^2: none for the level, the slope's from SLOPE_SD.
    ridge = (scatter / SLOPE_SD) ** 2
    xx, x1 = (weight * distance**2).sum(1) + ridge, (weight * distance).sum(1)
    y1, xy = weight @ known.mean, (weight * distance) @ known.mean
    determinant = total * xx - x1**2
    level, slope = (xx * y1 - x1 * xy) / determinant, (total * xy - x1 * y1) / determinant
    residual = known.mean - level[:, None] - slope[:, None] * distance
    misfit = (weight * residual**2).sum(1) + near @ known.squares + slope**2 * ridge
    spread = (PRIOR_TRIALS * scatter**2 + misfit) / (PRIOR_TRIALS + known.count.sum())
    return level, np.sqrt(spread * (1.0 + xx / determinant))
