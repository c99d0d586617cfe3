"""Student's t distribution; scipy has it too, but nothing else here would need scipy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def student_t_cdf(t: float, dof: int) -> float:
    """The probability that a Student-t variable is below t.

    By the finite sums for whole degrees of freedom (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4).

    Args:
        t: the bound.
        dof: degrees of freedom, at least 1.

    Returns:
        The probability, to about 1e-15.
    """
    theta = math.atan(abs(t) / math.sqrt(dof))
    sine, cosine, odd = math.sin(theta), math.cos(theta), dof % 2
    k = 2.0 * np.arange(1, dof // 2) + odd
    total = float(1.0 + np.cumprod((k - 1) / k * cosine**2).sum()) if dof > 1 else 0.0
    within = (theta + sine * cosine * total) * 2 / math.pi if odd else sine * total
    return 0.5 * (1 + within) if t > 0 else 0.5 * (1 - within)


def student_t_quantile(probability: float, dof: int) -> float:
    """The bound below which a Student-t variable is with a given probability, by bisection.

    Args:
        probability: at least 0.5, below 1.
        dof: degrees of freedom, at least 1.

    Returns:
        The bound, to about 1e-9 of itself.
    """
    assert 0.5 <= probability < 1, probability
    low, high = 0.0, 1.0
    while student_t_cdf(high, dof) < probability:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if student_t_cdf(middle, dof) < probability else (low, middle)
    return high


@dataclass(frozen=True, slots=True)
class Mean:
    """A sample's mean and how well it is known.

    Attributes:
        mean: of the sample.
        standard_error: of the mean; None of a single value.
        low, high: the interval of the mean; None of a single value.
        count: values in the sample.
    """

    mean: float
    standard_error: float | None
    low: float | None
    high: float | None
    count: int


def mean_of(values: Sequence[float], level: float = 0.9) -> Mean:
    """The mean with its standard error and its Student-t interval.

    Args:
        values: at least one, finite.
        level: the probability with which the interval holds the mean of a normal population.
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Mean(mean, None, None, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    error = math.sqrt(variance / count)
    half = student_t_quantile(0.5 + level / 2, count - 1) * error
    return Mean(mean, error, mean - half, mean + half, count)
