"""Carries the optimum to a batch or model size that was not swept, from finished studies.

    ln lr(B, N) = c - p/k ln(1 + (Bc/B)^k) - q ln N,    k = 4

Below the critical batch size Bc the optimum grows as B^p, above it no more (McCandlish et al.
2018, arXiv 1812.06162); k is how sharp the knee is. Bc follows the tokens that a run trains on, and
hardly the model's size (Zhang et al. 2024, arXiv 2410.21676; Li et al. 2025, arXiv 2503.04715).
Priors: p ~ Normal(0.7, 0.3), q ~ Normal(0.5, 0.35), ln Bc ~ Student-t around the critical batch
size that is usual. p and Bc live on a grid, c (flat) and q are integrated out: what is forecast is
an average over all of them.

Measured on the Step Law runs (17 settings of parameters and tokens, whole settings held out): the
optimum at 4 to 8 times the batch, from the three batch sizes before it, is missed by 0.22 (rms, ln
rate); unscaled misses by 0.44, the square root by 0.68. See tests/benchmarks/bench_transfer.py.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from optuna.trial import FrozenTrial

from studies.errors import StudyError
from studies.observed import Terms, posterior_of
from studies.rules import Setting

Array = npt.NDArray[np.float64]

FORECAST = "forecast"  # the name that its prior has beside the rules'
MISFIT = 0.08  # sd of a study's optimum around any smooth law, ln rate
FINEST = 0.11  # sd of any optimum, ln rate: seed noise hides a factor of 1.2
SHARPNESS = 4.0  # k
BATCH_EXPONENTS = np.linspace(-0.2, 1.4, 33)
BATCH_EXPONENT, BATCH_EXPONENT_SD = 0.7, 0.3
PARAMETER_EXPONENT, PARAMETER_EXPONENT_SD = 0.5, 0.35
LEVEL, WITHIN = 0.9, 1.645  # of every interval here; its half width in sds

# The median critical batch of the Step Law runs, in tokens, for 2e10 tokens of training.
USUAL_TOKENS, USUAL_CRITICAL_TOKENS, USUAL_EXPONENT = 2e10, 3.5e5, 0.57
USUAL_SD, USUAL_EXPONENT_SD = (
    0.5,
    0.1,
)  # of ln Bc there; of the exponent, which carries it elsewhere
UNKNOWN_SD = 2.5
TAILS = 3.0  # degrees of freedom of its Student-t


@dataclass(frozen=True, slots=True)
class Swept:
    """What one finished study found.

    Attributes:
        study: its name.
        setting: its batch size and parameters, and the tokens of one run where they are known.
        mean: of the best ln rate, under a uniform prior.
        sd: of it, at least `FINEST`.
    """

    study: str
    setting: Setting
    mean: float
    sd: float

    @property
    def rate(self) -> float:
        """The best learning rate."""
        return math.exp(self.mean)

    @property
    def interval(self) -> tuple[float, float]:
        """Holds it with 90 % probability."""
        factor = math.exp(WITHIN * self.sd)
        return self.rate / factor, self.rate * factor


@dataclass(frozen=True, slots=True)
class Critical:
    """The prior of ln Bc, in sequences: Student-t with `TAILS` degrees of freedom."""

    median: float
    sd: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The best rate somewhere else, forecast.

    Attributes:
        setting: where.
        rate: the median.
        width: sd of ln rate.
        batch_ratio: the batch over the nearest one swept, above 1 beyond the largest, below 1
            under the smallest, 1 between them.
        parameter_ratio: the same of the model's parameters.
        optima: what it rests on.
    """

    setting: Setting
    rate: float
    width: float
    batch_ratio: float
    parameter_ratio: float
    optima: tuple[Swept, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """Holds the best rate with 90 % probability."""
        factor = math.exp(WITHIN * self.width)
        return self.rate / factor, self.rate * factor


def find_optimum(
    study: str,
    setting: Setting,
    trials: Sequence[FrozenTrial],
    terms: Terms,
) -> Swept:
    """Reads a study's optimum, under a uniform prior.

    What the rules said is left out: exponents fitted to it would find the rules again.

    Args:
        study: its name.
        setting: where it was swept.
        trials: its trials, at least one of them finished.
        terms: what is known beside them; the priors are left out.
    """
    x, weight = posterior_of(trials, dataclasses.replace(terms, priors={})).density
    mean = float(x @ weight)
    sd = math.sqrt(float(weight @ (x - mean) ** 2))
    return Swept(study, setting, mean, max(sd, FINEST))


def usual_critical_batch(tokens: float | None, sequence_tokens: float | None) -> Critical:
    """The critical batch size that so long a training usually has.

    Args:
        tokens: of the whole run, every epoch counted; None where unknown.
        sequence_tokens: tokens of a sequence, on average.

    Returns:
        The prior of ln Bc in sequences; its width grows with the distance to what was measured.
    """
    if tokens is None or sequence_tokens is None:
        return Critical(math.log(256.0), UNKNOWN_SD)
    further = math.log(tokens / USUAL_TOKENS)
    median = math.log(USUAL_CRITICAL_TOKENS / sequence_tokens) + USUAL_EXPONENT * further
    return Critical(median, math.hypot(USUAL_SD, USUAL_EXPONENT_SD * further))


def predict(optima: Sequence[Swept], setting: Setting, critical: Critical) -> Prediction:
    """Forecasts the best rate at a setting.

    Args:
        optima: of finished studies that differ in batch and model size alone.
        setting: where the rate is wanted.
        critical: the prior of the critical batch size.

    Returns:
        The mean over every p, q and Bc, by how well each explains the optima; the width holds what
        is not known of them, and how far a study's optimum lies from any such law.

    Raises:
        StudyError: there is no optimum to start from.
    """
    if not optima:
        raise StudyError("a forecast needs a finished study")
    bc = critical.median + critical.sd * np.linspace(-6.0, 6.0, 121)
    batches = np.log([each.setting.batch_size for each in optima])
    growths = np.array([_growth(x, bc) for x in batches])
    level, variance, misfit = fit_level(optima, growths, setting.parameters)
    belief = (
        -0.5 * misfit
        - 0.5 * ((BATCH_EXPONENTS[:, None] - BATCH_EXPONENT) / BATCH_EXPONENT_SD) ** 2
        - 0.5 * (TAILS + 1) * np.log1p(((bc - critical.median) / critical.sd) ** 2 / TAILS)
    )
    weight = np.exp(belief - belief.max())
    weight /= weight.sum()
    there = level + _growth(math.log(setting.batch_size), bc)
    mean = float((weight * there).sum())
    spread = float((weight * (there - mean) ** 2).sum())
    return Prediction(
        setting,
        math.exp(mean),
        math.sqrt(spread + variance + MISFIT**2),
        _beyond(setting.batch_size, [each.setting.batch_size for each in optima]),
        _beyond(setting.parameters, [each.setting.parameters for each in optima]),
        tuple(optima),
    )


def fit_level(
    optima: Sequence[Swept], growths: Array, parameters: int
) -> tuple[Array, float, Array]:
    """Fits c and q where the growth with the batch is given.

    Args:
        optima: what is fitted.
        growths: (studies, ...) of ln lr with the batch, under each of several laws.
        parameters: of the model whose level is wanted.

    Returns:
        The level c - q ln N there (...), its variance, and the misfit chi^2 (...).
    """
    sizes = [math.log(each.setting.parameters / parameters) for each in optima]
    # The last row is q's prior, as one more measurement.
    design = np.array([*([1.0, -size] for size in sizes), [0.0, 1.0]])
    means = np.array([each.mean for each in optima]).reshape(-1, *[1] * (growths.ndim - 1))
    prior = np.full((1, *growths.shape[1:]), PARAMETER_EXPONENT)
    solution, covariance, misfit = least_squares(
        design,
        np.concatenate([means - growths, prior]),
        np.array([*errors(optima), PARAMETER_EXPONENT_SD]),
    )
    return solution[0], float(covariance[0, 0]), misfit


def errors(optima: Sequence[Swept]) -> Array:
    """How far each optimum may lie from a law: its own error and what no law explains."""
    return np.hypot([each.sd for each in optima], MISFIT)


def least_squares(design: Array, y: Array, sd: Array) -> tuple[Array, Array, Array]:
    """Weighted linear least squares (Gelman et al. 2013, Bayesian Data Analysis, section 14.2).

    Args:
        design: (rows, coefficients).
        y: (rows, ...): several right-hand sides are solved at once.
        sd: (rows,) of y.

    Returns:
        The coefficients (coefficients, ...), their covariance, and the misfit chi^2 (...).
    """
    weighted = design.T / sd**2
    covariance = np.asarray(np.linalg.inv(weighted @ design), dtype=np.float64)
    solution = np.tensordot(covariance @ weighted, y, 1)
    left = y - np.tensordot(design, solution, 1)
    return solution, covariance, np.tensordot(1.0 / sd**2, left**2, 1)


def _growth(x: float, bc: Array) -> Array:
    """How ln lr grows with ln batch x, over (p, ln Bc)."""
    return np.asarray(
        -BATCH_EXPONENTS[:, None] / SHARPNESS * np.logaddexp(0.0, SHARPNESS * (bc - x))
    )


def _beyond(wanted: int, known: Sequence[int]) -> float:
    nearest = min(max(wanted, min(known)), max(known))
    return wanted / nearest
