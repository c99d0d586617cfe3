"""The response curve that a posterior believes in, with its band, and where training is lost."""

import math
from dataclasses import dataclass

import numpy as np

from studies.likelihood import (
    CURVATURES,
    FAR_ERROR,
    NOISE_WEIGHTS,
    NOISES,
    Observations,
    Reading,
    basin,
    rise,
)
from studies.response import Posterior, holds
from studies.table import Array

LIKELY = 1e-5  # hypotheses less probable than this are left out


@dataclass(frozen=True, slots=True)
class Curve:
    """Perplexity over learning rates: a line and its band.

    Attributes:
        rates: increasing.
        low, middle, high: quantiles of the perplexity that a sound run reaches at each rate.
    """

    rates: tuple[float, ...]
    low: tuple[float, ...]
    middle: tuple[float, ...]
    high: tuple[float, ...]


def fitted_curve(posterior: Posterior, x: Array, mass: float = 0.9) -> Curve | None:
    """The curve's median and the central band of probability `mass`, at ln rates x.

    Under each hypothesis (mu, r, a) the curve's level m is the weighted mean of y - rise(a phi), as
    in `studies.likelihood`, at the mean seed noise.

    Returns:
        The curve; None where no run has a perplexity, so that nothing fixes its level.
    """
    values, weights = [], []
    for reading, weight in posterior.cases:
        if not len(reading.basin):
            continue
        likely = weight > LIKELY * weight.max()
        values.append(_levels(posterior, reading, x)[likely])
        weights.append(weight[likely])
    if not values:
        return None
    shares = (0.5 - mass / 2, 0.5, 0.5 + mass / 2)
    found = _quantiles(np.concatenate(values), np.concatenate(weights), shares)
    low, middle, high = (tuple(np.exp(line).tolist()) for line in found)
    return Curve(tuple(np.exp(x).tolist()), low, middle, high)


def lost_chance(posterior: Posterior, x: Array) -> Array:
    """The probability that training at each ln rate is lost."""
    mu, _ = posterior.density
    held = sum(
        (weight.sum((1, 2)) @ holds(reading, mu, x) for reading, weight in posterior.cases),
        np.zeros(len(x)),
    )
    total = sum(float(weight.sum()) for _, weight in posterior.cases)
    return np.asarray(1.0 - held / total)


def _levels(posterior: Posterior, reading: Reading, x: Array) -> Array:
    """ln perplexity at each x over (mu, r, a, x)."""
    mu, _ = posterior.density
    seen = posterior.seen
    y, w = seen.y[reading.basin], _weights(seen, reading)
    there = rise(CURVATURES[:, None] * basin(mu, seen.x[reading.basin])[:, :, None, :])
    above = rise(CURVATURES[:, None] * basin(mu, x)[:, :, None, :])
    return np.asarray((w @ y - (there @ w)[..., None]) / w.sum() + above)


def _weights(seen: Observations, reading: Reading) -> Array:
    y, variance = seen.y[reading.basin], seen.variance[reading.basin]
    lowest = (y + np.sqrt(variance)).min()
    noise = math.fsum(n * share for n, share in zip(NOISES, NOISE_WEIGHTS, strict=True))
    error = FAR_ERROR * np.maximum(y - lowest, 0.0)
    return np.asarray(1.0 / (noise**2 + variance + error**2))


def _quantiles(values: Array, weights: Array, shares: tuple[float, ...]) -> list[Array]:
    """Weighted quantiles along the first axis."""
    order = np.argsort(values, axis=0)
    ranked, share = np.take_along_axis(values, order, axis=0), weights[order] / weights.sum()
    reached = np.cumsum(share, axis=0) - share / 2
    return [
        np.array([np.interp(each, reached[:, i], ranked[:, i]) for i in range(values.shape[1])])
        for each in shares
    ]
