"""How likely a study's results are under each curve that the response may have.

With x = ln rate and y = ln perplexity (nats a token), near the optimum mu

    y(x) = m + rise(a phi(x)),    phi(x) = (x - mu)^2 left of mu, r (x - mu)^2 right of it,

rise(t) = s ln(1 + t/s): a parabola that levels off far out, where little is learned. From a wall
somewhere above mu on, training is lost. A trained y has seed noise, and an error
that grows with y - lowest y, so that only near points shape the basin. mu, r and a live on a grid,
the noise is summed over, and m is integrated out under a flat prior: nothing is approximated but
by the grid (Gelman et al. 2013, Bayesian Data Analysis, sections 3.7 and 14.2).

Where the perplexity is known that a model without context reaches, m is likely below its ln: rates
that all end there have learned nothing, and are no basin however flat they lie.

Where the search asks for it, the runs' falls at their ends are read as well (`studies.progress`).

The numbers below are of the Step Law runs (arXiv 2503.04715, 157 response curves of language
models); 177 of their 1,911 runs were lost and ended at 6.7 nats, sd 0.5.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from studies.progress import ANY_FALL, log_fit
from studies.table import Array, Indices, together

CURVATURES = np.geomspace(0.004, 1.0, 9)  # a, nats / ln^2
# Median of a, sd of ln a and weight: long trainings (Step Law), and short ones of small models,
# whose basin is far narrower (tests/benchmarks/curves).
CURVATURE_CLASSES = ((0.022, 0.5, 0.7), (0.3, 0.8, 0.3))
LEVELS_OFF = 0.3  # s, nats
STEEPER, STEEPER_WEIGHTS = np.array([1.0, 1.5, 2.5]), np.array([0.35, 0.4, 0.25])  # r
NOISES = (0.001, 0.003, 0.01, 0.03)  # sd of y between seeds, nats
NOISE_WEIGHTS = (0.25, 0.35, 0.25, 0.15)
FAR_ERROR = 0.4  # sd of the curve's error as a share of y - lowest y
LEARNED, LEARNED_SD = 0.08, 0.04  # nats below that of a model without context, about the least

WALL, WALL_SCALE = 2.1, 0.3  # the wall's distance from mu: logistic (1.4 to 3.1 in 90 %)
CHANCE = 0.02  # that a run is lost, or held, against all this
LOST_JUMP = 0.7  # nats: where the perplexity doubles, a run may have been lost
ALIKE = 0.4  # nats within which all results may be lost: further apart they show a basin
LOST_SDS = (0.002, 0.2)  # lost runs end at one plateau, or scatter around it
SPAN = 10.0  # nats that y may take before anything is known
CLOSE, CLOSEST = 0.15, 6  # nats above the lowest, and results: whose falls are read


@dataclass(frozen=True, slots=True)
class Observations:
    """What a study has seen; rates as ln rate.

    Attributes:
        x: rates with a result.
        y: their ln perplexity, trained to the end or predicted.
        variance: of y on top of seed noise: 0 where it was trained to the end.
        lost: rates that diverged.
        running: rates whose result is still to come.
        baseline: ln perplexity of a model that knows no context; infinite where it is unknown.
        fall: how fast each result still fell at its end (`studies.progress`), nats for each unit of
            ln epoch, NaN where it says nothing; None where none does.
    """

    x: Array
    y: Array
    variance: Array
    lost: Array
    running: Array
    baseline: float = math.inf
    fall: Array | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read the results: those at the highest rates were lost, or none was.

    Attributes:
        basin: indices of the results that were not lost.
        lost: of those that were.
        held: the highest rate below the wall; -inf where none is known.
        fell: the lowest rate beyond it; inf where none is known.
    """

    basin: Indices
    lost: Indices
    held: float
    fell: float


class Rises:
    """How far the rates of some results lie above each optimum.

    Args:
        x: ln rates, of n results.
        mu: the grid.

    Attributes:
        place: (n,), the column of each result.
        rises: over (mu, r, a, column), nats.
    """

    def __init__(self, x: Array, mu: Array) -> None:
        columns, self.place = together(x)
        self.rises = rise(CURVATURES[:, None] * basin(mu, columns)[:, :, None, :])


def readings(seen: Observations) -> Iterator[Reading]:
    """Every way to read the results that their jumps allow.

    A lost run seldom gives NaN: most end at about the loss of a model that knows no context.
    """
    rising = np.argsort(seen.x, kind="stable")
    y = seen.y[rising]
    below, beyond = np.minimum.accumulate(y), np.minimum.accumulate(y[::-1])[::-1]
    jumped = (np.diff(y) > LOST_JUMP) & (beyond[1:] > below[:-1] + LOST_JUMP)
    firsts = [int(jump) + 1 for jump in np.flatnonzero(jumped)]
    if len(y) and np.ptp(y) < ALIKE:
        firsts.append(0)
    for first in [len(y), *firsts]:
        basin, lost = rising[:first], rising[first:]
        held = seen.x[basin].max(initial=-math.inf)
        fell = np.append(seen.x[lost], seen.lost).min(initial=math.inf)
        yield Reading(basin, lost, float(held), float(fell))


def log_likelihood(reading: Reading, seen: Observations, mu: Array, at: Rises) -> Array:
    """ln of the likelihood times the priors of r and a, over (mu, r, a).

    Args:
        reading: of `seen`.
        mu: the grid.
        at: the rises at the rates of `seen`, which all readings share.
    """
    wall = wall_below(mu, reading.fell) - wall_below(mu, reading.held)
    return np.asarray(
        (np.log(np.maximum(wall, 0.0) + CHANCE) + _beyond(reading, seen, mu))[:, None, None]
        + np.log(STEEPER_WEIGHTS)[:, None]
        + _curvature_prior()
        + _basin_fit(reading.basin, seen, at)
        + _plateau_fit(seen.y[reading.lost])
        + _progress_fit(reading, seen, mu)
    )


def basin(mu: Array, x: Array) -> Array:
    """phi over (mu, r, x)."""
    distance = (x - mu[:, None])[:, None, :]
    return np.asarray(distance**2 * np.where(distance > 0, STEEPER[:, None], 1.0))


def nearest(x: Array, points: Array) -> tuple[Array, Array]:
    """How far below and above each x the next point lies; infinite where there is none.

    Args:
        x: anywhere.
        points: increasing.
    """
    ends = np.concatenate([[-math.inf], points, [math.inf]])
    place = np.searchsorted(ends, x, side="right")
    return x - ends[place - 1], ends[np.minimum(place, len(ends) - 1)] - x


def rise(t: Array) -> Array:
    """How far a rate lies above the optimum in nats, t = a phi."""
    return np.asarray(LEVELS_OFF * np.log(1.0 + t / LEVELS_OFF))  # log1p takes four times as long


def wall_below(mu: Array, x: Array | float) -> Array:
    """The probability that the wall lies below ln rate x, by mu and x broadcast."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * (x - mu - WALL) / WALL_SCALE)))


def _beyond(reading: Reading, seen: Observations, mu: Array) -> Array | float:
    """ln of the chance that the optimum lies beyond a rate far worse than the best, over mu.

    There is one basin: between the best rate and the optimum none is far worse but by accident. The
    error that far points are allowed knows nothing of that.
    """
    if not len(reading.basin):
        return 0.0
    x, y = seen.x[reading.basin], seen.y[reading.basin]
    best = int(y.argmin())
    far = y - 2 * np.sqrt(seen.variance[reading.basin]) > y[best] + ALIKE
    above = x[far & (x > x[best])].min(initial=math.inf)
    below = x[far & (x < x[best])].max(initial=-math.inf)
    return np.where((mu > above) | (mu < below), math.log(CHANCE), 0.0)


def _curvature_prior() -> Array:
    """ln of each curvature's probability."""
    density = np.zeros(len(CURVATURES))
    for middle, sd, weight in CURVATURE_CLASSES:
        z = np.log(CURVATURES / middle) / sd
        density += weight * np.exp(-0.5 * z**2) / sd
    return np.asarray(np.log(density / density.sum()))


def _basin_fit(basin_runs: Indices, seen: Observations, at: Rises) -> Array | float:
    """ln of the integral over m of prod_i Normal(y_i; m + rise_i, v_i), m flat over SPAN.

    With weights w = 1/v and weighted means taken off y and rise, it is a constant less
    (C - 2 B + A) / 2, where A = sum w rise^2, B = sum w rise y and C = sum w y^2.
    """
    if not len(basin_runs):
        return 0.0
    seen_y, variance = seen.y[basin_runs], seen.variance[basin_runs]
    rises, place = at.rises, at.place[basin_runs]
    # What is only predicted to be the lowest must not call the others far.
    lowest = (seen_y + np.sqrt(variance)).min()
    error = FAR_ERROR * np.maximum(seen_y - lowest, 0.0)
    w = 1.0 / (np.array(NOISES)[:, None] ** 2 + variance + error**2)
    weight = w.sum(1)
    mean = w @ seen_y / weight
    y = seen_y - mean[:, None]
    at_rate, y_at_rate = (
        np.array([np.bincount(place, each, rises.shape[-1]) for each in summed]).T
        for summed in (w, w * y)
    )
    rise_sum = rises @ at_rate
    A = rises**2 @ at_rate - rise_sum**2 / weight
    B, C = rises @ y_at_rate, (w * y**2).sum(1)
    scale = np.log(w / (2 * math.pi)).sum(1) - np.log(weight / (2 * math.pi))
    logs = np.log(NOISE_WEIGHTS) - math.log(SPAN) + 0.5 * (scale - (C - 2 * B + A))
    if math.isfinite(seen.baseline):
        logs = logs + _learning(seen.baseline - mean + rise_sum / weight, 1 / weight)
    return np.asarray(np.logaddexp.reduce(logs, axis=-1))


def _learning(depth: Array, variance: Array) -> Array:
    """ln of the chance that training gains so much on a model without context.

    The normal distribution function by the logistic one (Johnson and Kotz 1970, chapter 22).

    Args:
        depth: nats that m is thought to lie below that model's loss.
        variance: of it.
    """
    z = (depth - LEARNED) / np.sqrt(variance + LEARNED_SD**2)
    return np.asarray(np.log(0.5 * (1.0 + np.tanh(0.85 * z)) + CHANCE))


def _plateau_fit(y: Array) -> float:
    """ln density of what lost runs end at: a plateau anywhere in SPAN, of either width."""
    if not len(y):
        return 0.0
    spread = float(((y - y.mean()) ** 2).sum())
    logs = [
        -(len(y) - 1) * math.log(sd * math.sqrt(2 * math.pi)) - 0.5 * spread / sd**2
        for sd in LOST_SDS
    ]
    return float(np.logaddexp(logs[0], logs[1])) - math.log(2 * SPAN) - 0.5 * math.log(len(y))


def _progress_fit(reading: Reading, seen: Observations, mu: Array) -> Array | float:
    """ln density of the falls of the results near the lowest, over (mu, r, a)."""
    if seen.fall is None or np.isnan(seen.fall).all():
        return 0.0
    known = np.flatnonzero(~np.isnan(seen.fall))
    close = known[seen.y[known] < min(seen.y[known].min() + CLOSE, seen.baseline - LEARNED)]
    used = close[np.argsort(seen.y[close], kind="stable")[:CLOSEST]]
    held = used[~np.isin(used, reading.lost)]
    lost = (len(used) - len(held)) * math.log(ANY_FALL)
    return lost + log_fit(seen.x[held], seen.fall[held], mu, CURVATURES)[:, None, :]
