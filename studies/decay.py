"""A search of the weight decay beside the rate: what it is told, and one way the two may belong.

Rate and decay lie on a ridge: AdamW averages its updates over 1 / (rate x decay) steps (Wang and
Aitchison 2024, arXiv 2405.13698), so that of two decays the larger one wants the smaller rate. With
z = ln(decay / middle) a run at (ln rate, z) is as one at the middle decay and

    x = ln rate + tilt z,

tilt 1 where the product alone counts and 0 where the decay does not move the best rate; and along
the ridge a decay costs `bend` nats for each ln^2 that it lies from its own best, up to `MOST_COST`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial

from studies.definition import NARROWEST
from studies.errors import StudyError
from studies.numbers import (
    BEND_WEIGHTS,
    BENDS,
    DECAY_PLACES,
    MOST_COST,
    TILT_WEIGHTS,
    TILTS,
)
from studies.table import Array
from studies.trials import ln_rate, rate_of

DECAY = "weight_decay"
# Stored with every trial that has one and never changed, as `definition.WIDE`.
WIDE_DECAY = FloatDistribution(1e-6, 100.0, log=True)


@dataclass(frozen=True, slots=True)
class DecaySearch:
    """What is known of the weight decay before any trial.

    Attributes:
        low, high: the range that is searched.
        middle: the decay at which the rules' rates are meant, and around which its best is looked
            for.
        width: sd of ln of the best decay around it.
    """

    low: float
    high: float
    middle: float
    width: float

    def __post_init__(self) -> None:
        for name in ("low", "high", "middle"):
            value = getattr(self, name)
            if not WIDE_DECAY.low <= value <= WIDE_DECAY.high:
                raise StudyError(
                    f"weight decay: {name} must lie between {WIDE_DECAY.low:g} and "
                    f"{WIDE_DECAY.high:g}, got {value:g}"
                )
        if not self.low * NARROWEST <= self.high:
            raise StudyError(
                f"weight decay: the highest must be at least {NARROWEST:g} times the lowest "
                f"({self.low:g}), got {self.high:g}"
            )
        if not self.low <= self.middle <= self.high:
            raise StudyError(
                f"weight decay: {self.middle:g}, where the search begins, must lie between "
                f"{self.low:g} and {self.high:g}"
            )
        if not (math.isfinite(self.width) and self.width > 0):
            raise StudyError(f"weight decay: width must be positive and finite, got {self.width}")

    @property
    def ends(self) -> tuple[float, float]:
        """The range as z."""
        return math.log(self.low / self.middle), math.log(self.high / self.middle)

    @property
    def places(self) -> Array:
        """Where its best may lie, z: in equal steps, the range's ends half a step away."""
        low, high = self.ends
        return low + (high - low) * (np.arange(DECAY_PLACES) + 0.5) / DECAY_PLACES


@dataclass(frozen=True, slots=True)
class Ridge:
    """One way in which rate and decay may belong together.

    Attributes:
        middle: the decay at which x is the ln rate.
        tilt: how far the best ln rate falls for each ln of the decay.
        bend: nats for each ln^2 that a decay lies from the best one, at first.
        place: ln of the best decay over the middle.
    """

    middle: float
    tilt: float
    bend: float
    place: float

    def x(self, points: Array) -> Array:
        """The ln rates at the middle decay that points (n, 2) of ln rate and ln decay are as."""
        return np.asarray(points[..., 0] + self.tilt * (points[..., 1] - math.log(self.middle)))

    def cost(self, points: Array) -> Array:
        """What their decays cost, nats."""
        away = points[..., 1] - math.log(self.middle) - self.place
        return np.asarray(-MOST_COST * np.expm1(-self.bend * away**2 / MOST_COST))


def ridges(search: DecaySearch) -> Iterator[tuple[Ridge, float]]:
    """Every ridge that is thought of, with its prior weight; together 1."""
    near = np.exp(-0.5 * (search.places / search.width) ** 2)
    places = list(zip(search.places.tolist(), (near / near.sum()).tolist(), strict=True))
    for tilt, tilted in zip(TILTS, TILT_WEIGHTS, strict=True):
        for bend, bent in zip(BENDS, BEND_WEIGHTS, strict=True):
            for place, share in places:
                yield Ridge(search.middle, tilt, bend, place), tilted * bent * share


def decay_of(trial: FrozenTrial) -> float | None:
    """A trial's weight decay, None where it has none yet, or none that is searched."""
    return rate_of(trial, DECAY)


def ln_decay(trial: FrozenTrial) -> float:
    """ln of it, NaN where there is none."""
    decay = decay_of(trial)
    return math.nan if decay is None else math.log(decay)


def ln_place(trial: FrozenTrial, ridge: Ridge | None) -> float:
    """The ln rate that a trial counts at; NaN where it has none yet."""
    return ln_rate(trial) if ridge is None else float(ridge.x(_point(trial)))


def cost_of(trial: FrozenTrial, ridge: Ridge) -> float:
    """What a trial's decay costs, nats; NaN where it has none yet."""
    return float(ridge.cost(_point(trial)))


def _point(trial: FrozenTrial) -> Array:
    return np.array([ln_rate(trial), ln_decay(trial)])


def carried_decay(decay: float, rate_ratio: float, batch_ratio: float) -> float:
    """The decay with the timescale of a known rate and decay, for runs of one length.

    B / (rate x decay x D) stays as it is (Power Lines, arXiv 2505.13738, at one number of tokens a
    parameter), so a larger batch wants more of rate x decay.

    Args:
        decay: the known one.
        rate_ratio: the rate here over the one that it goes with.
        batch_ratio: likewise.
    """
    middle = decay * batch_ratio / rate_ratio
    return min(max(middle, WIDE_DECAY.low), WIDE_DECAY.high)
