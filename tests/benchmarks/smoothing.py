"""A curve through recorded runs, as smooth as they themselves say.

A parabola plus a Gaussian process (Rasmussen and Williams 2006, Gaussian Processes for Machine
Learning, section 2.7; Matern 3/2, which follows a wall), and noise. How far and how long the
process departs from the parabola, and how large the noise is, is summed over by how likely it makes
the runs (section 5.4). A regression of one width would take the rise at a wall for noise, and put
the lowest run in front of it some percent above the best.
"""

import itertools
from functools import cached_property

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

BASIN = 0.5  # nats above the lowest: no longer the basin
FEWEST = 4  # runs in a basin that can be smoothed
LEAST_LEFT = 0.3  # of a run's noise in its residual: with less the correction is guesswork
LENGTHS, SCALES = (0.4, 0.8, 1.6), (0.01, 0.03, 0.1, 0.3)  # of the process: ln rate, nats
NOISES = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08)  # nats
# Of the recorded settings with several seeds, 0.7 to 4.4 % near the best rate.
NOISE, NOISE_SPREAD = 0.015, 0.7  # nats, sd of its ln
NEGLIGIBLE = 1e-3  # of the likeliest


class Smooth:
    """The curve of a basin's runs.

    Args:
        x: (n,) ln rates of the runs.
        y: (n,) nats.
        seeds: (n,) of how many runs each is the mean; one where it is not given.
    """

    def __init__(self, x: Array, y: Array, seeds: Array | None = None) -> None:
        self._x, self._y = x, y
        self._seeds = np.ones(len(x)) if seeds is None else seeds

    def values(self, at: Array) -> Array:
        """The curve at (m,) ln rates."""
        return self.rows(at) @ self._y

    def rows(self, at: Array) -> Array:
        """(m, n) by which the runs' values are weighed in the curve's at m ln rates."""
        weights, forms = self._forms
        found = np.einsum("k,knm->mn", weights, self._solved(at, forms))
        return np.asarray(found + (1.0 - found.sum(1, keepdims=True)) / len(self._x))

    def doubt(self, one: float, other: float) -> float:
        """The sd, in nats, of how much higher the curve lies at one ln rate than at another."""
        weights, forms = self._forms
        places, difference = np.array([one, other]), np.array([1.0, -1.0])
        solved = self._solved(places, forms)
        across = self._covariance(places, self._x, forms)
        cov = self._covariance(places, places, forms) - across @ solved
        means = difference @ (solved.swapaxes(1, 2) @ self._around).T
        variance = np.maximum(difference @ cov @ difference, 0.0) + (means - weights @ means) ** 2
        return float(np.sqrt(weights @ variance))

    @property
    def _around(self) -> Array:
        return np.asarray(self._y - self._y.mean())

    @cached_property
    def _forms(self) -> tuple[Array, Array]:
        """The likely (length, scale, noise), (k, 3), with their weights, (k,), in front."""
        forms = np.array(list(itertools.product(LENGTHS, SCALES, NOISES)))
        root = np.linalg.cholesky(self._of_runs(forms))
        rest = np.linalg.solve(root, np.tile(self._around[:, None], (len(forms), 1, 1)))
        likely = -0.5 * (rest**2).sum((1, 2))
        likely -= np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
        likely -= 0.5 * (np.log(forms[:, 2] / NOISE) / NOISE_SPREAD) ** 2
        weights = np.exp(likely - likely.max())
        kept = weights > NEGLIGIBLE
        return weights[kept] / weights[kept].sum(), forms[kept]

    def _solved(self, at: Array, forms: Array) -> Array:
        return np.linalg.solve(self._of_runs(forms), self._covariance(self._x, at, forms))

    def _of_runs(self, forms: Array) -> Array:
        noise = forms[:, 2, None, None] ** 2 * np.diag(1.0 / self._seeds)
        return self._covariance(self._x, self._x, forms) + noise

    def _covariance(self, one: Array, other: Array, forms: Array) -> Array:
        """Of each form; the parabola's level, slope and curvature are known to one."""
        length, scale = (forms[:, place, None, None] for place in (0, 1))
        d = np.sqrt(3.0) * np.abs(one[:, None] - other) / length
        u, v = one[:, None] - self._x.mean(), other - self._x.mean()
        return np.asarray(1.0 + u * v + (u * v) ** 2 + scale**2 * (1.0 + d) * np.exp(-d))


def smoothed(
    grid: Array, x: Array, y: Array, depth: float = BASIN, seeds: Array | None = None
) -> Array:
    """The curve through the runs x, y: smoothed in the basin, interpolated further out."""
    values = np.interp(grid, x, y)
    inside, curve = of_basin(x, y, depth, seeds)
    if curve:
        there = (x[inside][0] <= grid) & (grid <= x[inside][-1])
        values[there] = curve.values(grid[there])
    return values


def of_basin(
    x: Array, y: Array, depth: float = BASIN, seeds: Array | None = None
) -> tuple[slice, Smooth | None]:
    """Which of the runs lie in the basin, and their curve; None where they are too few."""
    inside = basin(y, depth)
    if len(y[inside]) < FEWEST:
        return inside, None
    return inside, Smooth(x[inside], y[inside], None if seeds is None else seeds[inside])


def deviations(x: Array, y: Array, depth: float = BASIN) -> Array:
    """(n,) what each run deviates from the curve, 0 outside the basin.

    A run pulls the curve towards itself. With h its row of the hat matrix H and r that of
    I - H, the curve keeps |h|^2 of its variance and the residual has |r|^2 of it (Cook and
    Weisberg 1982, Residuals and Influence in Regression, section 2.1). The residual is scaled to
    1 - |h|^2: on the curve, a run with such a deviation varies as the recorded ones did.
    """
    found = np.zeros(len(y))
    inside, curve = of_basin(x, y, depth)
    if curve:
        hat = curve.rows(x[inside])
        rest = np.eye(len(hat)) - hat
        kept = np.clip(1 - (hat**2).sum(axis=1), 0.0, None)
        left = np.maximum(np.linalg.norm(rest, axis=1), LEAST_LEFT)
        found[inside] = np.sqrt(kept) / left * (rest @ y[inside])
    return found


def basin(y: Array, depth: float = BASIN) -> slice:
    """The neighbours of the lowest run that are less than `depth` nats above it."""
    near = np.append(y <= y.min() + depth, False)
    first = last = int(y.argmin())
    while first > 0 and near[first - 1]:
        first -= 1
    while near[last]:
        last += 1
    return slice(first, last)
