"""What a posterior says of the best learning rate, in few numbers, no finer than they are known."""

import math
from dataclasses import dataclass

import numpy as np

from studies.numbers import ACCIDENT
from studies.posterior import Posterior
from studies.ridge import RidgePosterior
from studies.table import Array

LEVEL = 0.9
FINEST = 1.1  # a rate is never known better than to a factor of this: seed noise; 1.2 was too wide
STEP = 0.1  # ln rate
NEAR = math.log(1.01)  # nats above the best
SAFE = 0.05  # chance of being lost, beside an accident's


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best rate.

    Attributes:
        learning_rate: its median.
        low, high: the shortest interval that holds it with a probability of `level`, never closer
            than a factor of 1.1 to the median.
        level: 0.9.
        near: the lowest and highest rate of the range that are expected to cost less than 1 % over
            the best at a new seed; None where no rate is.
        safe_up_to: the highest rate of the range up to which training is lost at a new seed in less
            than 5 %; None where that is so of none or of all.
        lost_from: the lowest rate of the range that loses training as likely as not; None where
            there is none.
        edge: "upper" or "lower" where the interval reaches out of the range, else "".
    """

    learning_rate: float
    low: float
    high: float
    level: float
    near: tuple[float, float] | None
    safe_up_to: float | None
    lost_from: float | None
    edge: str


def optimum(posterior: Posterior) -> Optimum:
    """Reads a posterior; every rate to two digits."""
    x = np.arange(math.log(posterior.range[0]), math.log(posterior.range[1]), STEP)
    lost = posterior.lost(x) - ACCIDENT
    cost = posterior.regret(x)
    near = np.flatnonzero(cost <= NEAR)
    unsafe = lost > SAFE
    safe = None if unsafe[0] or not unsafe.any() else _until(x, lost, SAFE, unsafe.argmax() - 1, 1)
    return Optimum(
        *best_rate(posterior),
        LEVEL,
        (_until(x, cost, NEAR, near[0], -1), _until(x, cost, NEAR, near[-1], 1))
        if len(near)
        else None,
        safe,
        two_digits(math.exp(x[(lost > 0.5).argmax()])) if (lost > 0.5).any() else None,
        posterior.edge,
    )


def _until(x: Array, values: Array, most: float, last: np.intp, way: int) -> float:
    """The rate at which values pass `most`: between the last point below it and the one beyond."""
    beyond = min(max(last + way, 0), len(x) - 1)
    pair = np.array([last, beyond])
    return two_digits(math.exp(np.interp(most, values[pair], x[pair])))


def best_rate(posterior: Posterior) -> tuple[float, float, float]:
    """The median of the best rate and its interval's ends, as `Optimum` has them."""
    rate = posterior.best_rate
    low, high = posterior.interval(LEVEL)
    return (
        two_digits(rate),
        two_digits(min(low, rate / FINEST)),
        two_digits(max(high, rate * FINEST)),
    )


def best_decay(posterior: RidgePosterior) -> tuple[float, float, float]:
    """The median of the best weight decay and its interval's ends."""
    low, high = posterior.decay_interval(LEVEL)
    return two_digits(posterior.best_decay), two_digits(low), two_digits(high)


def two_digits(rate: float) -> float:
    """A rate to two significant digits."""
    return float(f"{rate:.1e}")
