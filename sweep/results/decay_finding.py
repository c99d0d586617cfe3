"""The best weight decay of a study that searched it, and the surface over rate and decay."""

from dataclasses import dataclass

import numpy as np

from studies.curve import fitted_curve
from studies.optimum import LEVEL, best_decay, two_digits
from studies.posterior import Posterior
from studies.ridge import RidgePosterior
from sweep.results.types import StudySummary

SURFACE_POINTS, SURFACE_OF = (36, 19), 800  # of rates and decays; hypotheses


@dataclass(frozen=True, slots=True)
class Surface:
    """What runs come to over rate and weight decay.

    Attributes:
        rates, decays: increasing.
        values: the median of what a run reaches, a row a decay.
        ridge: the best rate at each decay.
    """

    rates: tuple[float, ...]
    decays: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    ridge: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DecayFinding:
    """The best weight decay, and the best rate beside one.

    Attributes:
        weight_decay: its median.
        low, high: the central interval that holds it with 90 %.
        at: the recommended trial's.
        rate_low, rate_high: the interval of the best rate at that decay.
        tilt: how far the best ln rate falls for each ln of the decay.
        edge: "upper" or "lower" where it may lie out of the range, else "".
        surface: fitted to the trials.
    """

    weight_decay: float
    low: float
    high: float
    at: float
    rate_low: float
    rate_high: float
    tilt: float
    edge: str
    surface: Surface | None


def decay_finding(posterior: Posterior, summary: StudySummary) -> DecayFinding | None:
    """What is known of the weight decay; None where it was not searched, or nothing is trained."""
    chosen = summary.chosen
    if not isinstance(posterior, RidgePosterior) or chosen is None or chosen.weight_decay is None:
        return None
    low, high = posterior.interval_here(LEVEL)
    return DecayFinding(
        *best_decay(posterior),
        chosen.weight_decay,
        two_digits(low),
        two_digits(high),
        posterior.tilt,
        posterior.decay_edge,
        _surface(posterior),
    )


def _surface(posterior: RidgePosterior) -> Surface | None:
    x = np.log(np.geomspace(*posterior.range, SURFACE_POINTS[0]))
    decays = np.geomspace(*posterior.decay_range, SURFACE_POINTS[1]).tolist()
    rows = [posterior.at(decay) for decay in decays]
    curves = [curve for row in rows if (curve := fitted_curve(row, x, most=SURFACE_OF))]
    if not curves:
        return None
    values = tuple(curve.middle for curve in curves)
    ridge = tuple(row.rate_here for row in rows)
    return Surface(curves[0].rates, tuple(decays), values, ridge)
