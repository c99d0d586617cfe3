"""Local quadratic regression (Cleveland 1979, tricube weights), as matrices over the runs."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

WINDOW = 1.2  # half width, ln rate; at least the five nearest runs
BASIN = 0.5  # nats above the lowest: no longer the basin
FEWEST = 5  # runs in a basin that a regression can follow
LEAST_LEFT = 0.3  # of a run's noise in its residual: with less the correction is guesswork


def local_quadratic(x: Array, at: Array) -> tuple[Array, Array]:
    """The regression's value and slope at some places, each a row of weights of the runs.

    Args:
        x: (n,) ln rates of the runs, at least five.
        at: (m,) ln rates.

    Returns:
        Two matrices (m, n): their products with the runs' losses are the values and the slopes.
    """
    distance = x - at[:, None]
    width = np.maximum(WINDOW, 1.1 * np.sort(np.abs(distance))[:, FEWEST - 1])
    weight = np.clip(1 - (np.abs(distance) / width[:, None]) ** 3, 0, None) ** 3
    powers = distance[..., None] ** np.arange(3)
    weighted = (powers * weight[..., None]).swapaxes(1, 2)
    rows = np.linalg.solve(weighted @ powers, weighted)
    return rows[:, 0], rows[:, 1]


def smoothed(grid: Array, x: Array, y: Array, depth: float = BASIN) -> Array:
    """The curve through the runs x, y: smoothed in the basin, interpolated further out."""
    values = np.interp(grid, x, y)
    inside = basin(y, depth)
    if len(y[inside]) >= FEWEST:
        there = (x[inside][0] <= grid) & (grid <= x[inside][-1])
        values[there] = local_quadratic(x[inside], grid[there])[0] @ y[inside]
    return values


def deviations(x: Array, y: Array, depth: float = BASIN) -> Array:
    """(n,) what each run deviates from the regression, 0 outside the basin.

    A run pulls the regression towards itself. With h its row of the hat matrix H and r that of
    I - H, the regression keeps |h|^2 of its variance and the residual has |r|^2 of it (Cook and
    Weisberg 1982, Residuals and Influence in Regression, section 2.1). The residual is scaled to
    1 - |h|^2: on the curve, a run with such a deviation varies as the recorded ones did.
    """
    found = np.zeros(len(y))
    inside = basin(y, depth)
    if len(y[inside]) >= FEWEST:
        hat = local_quadratic(x[inside], x[inside])[0]
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
