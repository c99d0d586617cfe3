"""How much runs at nearly the same rate differ: the noise below which no rate is better."""

import dataclasses
import math

import numpy as np

from studies.likelihood import LOST_JUMP, Observations

WIDEST = 1.2  # ln rate across three neighbours: there the curve bends by under 0.01 nats
LEAST = 3  # triples; fewer measure nothing


def measured_noise(seen: Observations) -> float | None:
    """The sd of ln perplexity around a smooth curve through the runs trained to their end.

    Each run is compared with the straight line through its two neighbours, which needs no model of
    the curve (Gasser, Sroka and Jennen-Steinmetz 1986, Biometrika 73, equation 2.1):
    s^2 = mean of (a y_left + b y_right - y)^2 / (a^2 + b^2 + 1).

    Returns:
        Nats; None with too few runs close to one another. Runs that were lost are left out.
    """
    if not len(seen.y):
        return None
    sound = (seen.variance == 0) & (seen.y < seen.y.min() + LOST_JUMP)
    order = np.argsort(seen.x[sound], kind="stable")
    x, y = seen.x[sound][order], seen.y[sound][order]
    width = x[2:] - x[:-2]
    close = (width > 0) & (width <= WIDEST)
    if close.sum() < LEAST:
        return None
    a = (x[2:] - x[1:-1])[close] / width[close]
    gap = a * y[:-2][close] + (1 - a) * y[2:][close] - y[1:-1][close]
    return math.sqrt(float(np.mean(gap**2 / (a**2 + (1 - a) ** 2 + 1))))


def with_noise(seen: Observations) -> Observations:
    """The same results, each as uncertain as the measured noise makes it."""
    noise = measured_noise(seen) or 0.0
    return dataclasses.replace(seen, variance=seen.variance + noise**2)
