"""The response curve that a posterior believes in, with its band."""

from dataclasses import dataclass

import numpy as np

from studies.posterior import MOST_LIKELY, Posterior
from studies.table import Array


@dataclass(frozen=True, slots=True)
class Curve:
    """What runs come to over learning rates: a line and its band.

    Attributes:
        rates: increasing.
        low, middle, high: quantiles of what a run reaches at each rate, lost runs among them.
    """

    rates: tuple[float, ...]
    low: tuple[float, ...]
    middle: tuple[float, ...]
    high: tuple[float, ...]


def fitted_curve(
    posterior: Posterior, x: Array, mass: float = 0.9, *, most: int = MOST_LIKELY
) -> Curve | None:
    """The median of what a run reaches, and the central band of probability `mass`, at ln rates x.

    Args:
        posterior: that believes in it.
        x: ln rates.
        mass: of the band.
        most: hypotheses that it is made of, at most.

    Returns:
        The curve; None where no run has a result, so that nothing fixes its level.
    """
    if not len(posterior.seen.y):
        return None
    values, weights = posterior.outcomes(x, most)
    objective = posterior.seen.objective
    shares = (0.5 - mass / 2, 0.5, 0.5 + mass / 2)
    if objective.direction == "maximize":  # the least nats are the highest value
        shares = shares[::-1]
    order = np.argsort(values, axis=1)
    ranked = np.take_along_axis(values, order, axis=1)
    share = np.take_along_axis(weights, order, axis=1)
    reached = np.cumsum(share, axis=1) - share / 2
    low, middle, high = (
        tuple(
            objective.value(float(np.interp(each, *pair)))
            for pair in zip(reached, ranked, strict=True)
        )
        for each in shares
    )
    return Curve(tuple(np.exp(x).tolist()), low, middle, high)
