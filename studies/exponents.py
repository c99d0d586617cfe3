"""How the optimum scales over finished studies: the exponents, local and saturating fits.

    power law    ln lr = c + p ln B - q ln N + t ln D
    local        p between neighbouring batch sizes of one model size and length
    saturating   ln lr = c - ln(1 + Bc/B)    (McCandlish et al. 2018, arXiv 1812.06162, for SGD)

Weighted least squares on the studies' posterior means (Gelman et al. 2013, Bayesian Data Analysis,
section 14.2), c flat, p, q and t with the priors below: two neighbouring studies alone would say
anything. Intervals are at 90 %.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from studies.errors import StudyError
from studies.law import (
    LEVEL,
    PARAMETERS,
    WITHIN,
    Array,
    Estimate,
    Exponent,
    Swept,
    least_squares,
)

BATCH, LENGTH = Exponent(0.5, 0.35), Exponent(-0.15, 0.3)  # over whatever batches were swept
MISFIT = 0.08  # sd of a study's optimum around any of these, ln rate
REACH = 8.0  # how far out of the batches swept Bc is looked for, ln
LEAST_BATCHES = 3  # two would give the saturating fit nothing to be wrong by


@dataclass(frozen=True, slots=True)
class Local:
    """The batch exponent between two neighbouring batch sizes of one model size and length."""

    smaller: int
    larger: int
    parameters: int
    length: float | None
    exponent: Estimate


@dataclass(frozen=True, slots=True)
class Exponents:
    """How the optimum scales.

    Attributes:
        batch: p; None where all studies have one batch size.
        parameters: q; None where all models are of one size.
        length: t; None where all runs are of one length.
        local: p between neighbours, by model and batch size.
        critical_batch: Bc of the saturating fit; None with fewer than three batch sizes. An
            interval that ends at 0 or infinity says that the batches swept do not show that end.
    """

    batch: Estimate | None
    parameters: Estimate | None
    length: Estimate | None
    local: tuple[Local, ...]
    critical_batch: Estimate | None


def fit_exponents(optima: Sequence[Swept]) -> Exponents:
    """Fits each law to finished studies that differ in batch, model size and length alone.

    Args:
        optima: of at least two settings.

    Raises:
        StudyError: all of them have the same batch, model size and length.
    """
    batches = {each.setting.batch_size for each in optima}
    sizes = {each.setting.parameters for each in optima}
    lengths = {each.setting.length for each in optima}
    if max(len(batches), len(sizes), len(lengths)) < 2:
        raise StudyError(
            "exponents need finished studies of two batch sizes, model sizes or lengths"
        )
    batch, parameters, length = _power_law(optima)
    return Exponents(
        batch=batch if len(batches) > 1 else None,
        parameters=parameters if len(sizes) > 1 else None,
        length=length if len(lengths) > 1 else None,
        local=tuple(_local(optima)),
        critical_batch=_critical_batch(optima) if len(batches) >= LEAST_BATCHES else None,
    )


def _power_law(optima: Sequence[Swept]) -> tuple[Estimate, Estimate, Estimate]:
    """p, q and t."""
    batches = np.log([each.setting.batch_size for each in optima])
    solution, covariance, _ = _least_squares(optima, [batches], [BATCH], np.zeros((1, 1)))
    deviation = np.sqrt(np.diag(covariance))
    p, q, t = (_normal(solution[each, 0], deviation[each]) for each in (3, 1, 2))
    return p, q, t


def _least_squares(
    optima: Sequence[Swept],
    further: Sequence[Array],
    told: Sequence[Exponent],
    growths: Array,
) -> tuple[Array, Array, Array]:
    """Fits level, q, t and further coefficients; each one's prior is one more measurement.

    Args:
        optima: what is fitted.
        further: a column for each further coefficient.
        told: their priors.
        growths: (studies or 1, laws) of ln lr that are given, under each of several laws.
    """
    settings = [each.setting for each in optima]
    sizes = -np.log([each.parameters for each in settings])
    lengths = np.log([each.length or 1.0 for each in settings])
    design = np.stack([np.ones(len(optima)), sizes, lengths, *further], 1)
    priors = (PARAMETERS, LENGTH, *told)
    y = np.array([each.mean for each in optima])[:, None] - growths
    means = [np.full((1, *y.shape[1:]), prior.mean) for prior in priors]
    return least_squares(
        np.vstack([design, np.eye(design.shape[1])[1:]]),
        np.concatenate([y, *means]),
        np.array([*errors(optima), *(prior.sd for prior in priors)]),
    )


def errors(optima: Sequence[Swept]) -> Array:
    """How far each optimum may lie from a law: its own error and what no law explains."""
    return np.hypot([each.sd for each in optima], MISFIT)


def _local(optima: Sequence[Swept]) -> Iterator[Local]:
    """p between neighbours: straight from the two, without a prior."""
    settings = [each.setting for each in optima]
    for parameters, length in sorted({(s.parameters, s.length or 0.0) for s in settings}):
        like = [
            each
            for each in optima
            if (each.setting.parameters, each.setting.length or 0.0) == (parameters, length)
        ]
        for (small, x, v), (large, y, w) in pairwise(_by_batch(like)):
            ratio = math.log(large / small)
            exponent = _normal((y - x) / ratio, math.sqrt(v + w) / ratio)
            yield Local(small, large, parameters, length or None, exponent)


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
    _, _, misfit = _least_squares(optima, [], [], -np.logaddexp(0.0, bc - x[:, None]))
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
