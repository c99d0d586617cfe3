"""How the optimum scales over finished studies: the exponents, local and saturating fits.

    power law    ln lr = c + p ln B - q ln N
    local        p between neighbouring batch sizes
    saturating   ln lr = c - ln(1 + Bc/B)    (McCandlish et al. 2018, arXiv 1812.06162, for SGD)

Weighted least squares on the studies' posterior means (Gelman et al. 2013, Bayesian Data Analysis,
section 14.2), c flat, p and q with the priors below: two neighbouring studies alone would say
anything. Intervals are at 90 %.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from studies.errors import StudyError
from studies.transfer import (
    LEVEL,
    PARAMETER_EXPONENT,
    PARAMETER_EXPONENT_SD,
    WITHIN,
    Swept,
    errors,
    fit_level,
    least_squares,
)

BATCH_EXPONENT, BATCH_EXPONENT_SD = 0.5, 0.35
REACH = 8.0  # how far out of the batches swept Bc is looked for, ln
LEAST_BATCHES = 3  # two would give the saturating fit nothing to be wrong by


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Local:
    """The batch exponent between two neighbouring batch sizes of one model size."""

    smaller: int
    larger: int
    parameters: int
    exponent: Estimate


@dataclass(frozen=True, slots=True)
class Exponents:
    """How the optimum scales.

    Attributes:
        batch: p; None where all studies have one batch size.
        parameters: q; None where all models are of one size.
        local: p between neighbours, by model and batch size.
        critical_batch: Bc of the saturating fit; None with fewer than three batch sizes. An
            interval that ends at 0 or infinity says that the batches swept do not show that end.
    """

    batch: Estimate | None
    parameters: Estimate | None
    local: tuple[Local, ...]
    critical_batch: Estimate | None


def fit_exponents(optima: Sequence[Swept]) -> Exponents:
    """Fits each law to finished studies that differ in batch and model size alone.

    Args:
        optima: of at least two settings.

    Raises:
        StudyError: all of them have the same batch and model size.
    """
    batches = {each.setting.batch_size for each in optima}
    sizes = {each.setting.parameters for each in optima}
    if len(batches) < 2 and len(sizes) < 2:
        raise StudyError("exponents need finished studies of two batch or model sizes")
    batch, parameters = _power_law(optima)
    return Exponents(
        batch=batch if len(batches) > 1 else None,
        parameters=parameters if len(sizes) > 1 else None,
        local=tuple(_local(optima)),
        critical_batch=_critical_batch(optima) if len(batches) >= LEAST_BATCHES else None,
    )


def _power_law(optima: Sequence[Swept]) -> tuple[Estimate, Estimate]:
    """p and q; their priors are two more measurements."""
    rows = [
        [1.0, math.log(each.setting.batch_size), -math.log(each.setting.parameters)]
        for each in optima
    ]
    solution, covariance, _ = least_squares(
        np.array([*rows, [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        np.array([*(each.mean for each in optima), BATCH_EXPONENT, PARAMETER_EXPONENT]),
        np.array([*errors(optima), BATCH_EXPONENT_SD, PARAMETER_EXPONENT_SD]),
    )
    deviation = np.sqrt(np.diag(covariance))
    return _normal(solution[1], deviation[1]), _normal(solution[2], deviation[2])


def _local(optima: Sequence[Swept]) -> Iterator[Local]:
    """p between neighbours: straight from the two, without a prior."""
    for parameters in sorted({each.setting.parameters for each in optima}):
        points = list(_by_batch([o for o in optima if o.setting.parameters == parameters]))
        for (small, x, v), (large, y, w) in pairwise(points):
            ratio = math.log(large / small)
            exponent = _normal((y - x) / ratio, math.sqrt(v + w) / ratio)
            yield Local(small, large, parameters, exponent)


def _by_batch(optima: Sequence[Swept]) -> Iterator[tuple[int, float, float]]:
    """Each batch size with the weighted mean of its optima and that mean's variance."""
    sd = errors(optima)
    batches = np.array([each.setting.batch_size for each in optima])
    means = np.array([each.mean for each in optima])
    for batch in sorted(set(batches.tolist())):
        weight = (batches == batch) / sd**2
        yield batch, float(weight @ means / weight.sum()), float(1.0 / weight.sum())


def _critical_batch(optima: Sequence[Swept]) -> Estimate:
    """Bc, flat in its logarithm from far below the batches swept to far above them."""
    x = np.log([each.setting.batch_size for each in optima])
    bc = np.arange(x.min() - REACH, x.max() + REACH, 0.05)
    _, _, misfit = fit_level(
        optima, -np.logaddexp(0.0, bc - x[:, None]), optima[0].setting.parameters
    )
    belief = np.exp(-0.5 * (misfit - misfit.min()))
    reached = np.cumsum(belief) / belief.sum()
    tail = (1.0 - LEVEL) / 2
    low, middle, high = np.exp(np.interp([tail, 0.5, 1.0 - tail], reached, bc))
    # Where the ends of the grid are as likely as any, the optima do not show that side.
    unseen_low, unseen_high = belief[0] > tail, belief[-1] > tail
    return Estimate(
        float(middle), 0.0 if unseen_low else float(low), math.inf if unseen_high else float(high)
    )


def _normal(mean: float, sd: float) -> Estimate:
    return Estimate(float(mean), float(mean - WITHIN * sd), float(mean + WITHIN * sd))
