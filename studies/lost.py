"""How runs are lost: by an accident anywhere, beyond a wall above the optimum, or far below it.

What is lost beyond the wall ends where a model without context does, or above; near the wall it may
have learned something. Distances are of a run's ln rate above the optimum's, walls likewise.
"""

import math

import numpy as np

from studies.numbers import (
    ACCIDENT,
    LEARN_NOTHING,
    LEARNS_BEYOND,
    LEARNS_BLUR,
    LITTLE,
    LOST_ABOVE,
    LOST_AT_BASELINE,
    LOST_BETWEEN,
    LOST_SD,
    NEAR_WALL,
    NEAR_WALL_SCALE,
    TOO_LOW,
    TOO_LOW_GROWS,
    TOO_LOW_SD,
    TOO_LOW_STEPS,
    USUAL_WALL,
    USUAL_WALL_SCALE,
    WALL_BLUR,
    WALLS,
)
from studies.table import Array, Singles


def off_chance(distance: Array, wall: Array = WALLS) -> Array:
    """The probability that a run is off the curve, by distance and wall, broadcast.

    Args:
        distance: of its rate above mu, ln rate.
        wall: the wall's.
    """
    beyond = 0.5 * (1.0 + np.tanh(0.5 * (distance - wall) / WALL_BLUR))
    return np.asarray(ACCIDENT + (1.0 - ACCIDENT) * beyond)


def learns_chance(distance: Array, wall: Array = WALLS) -> Array:
    """The probability that a run is off the curve and may have learned something all the same.

    Args:
        distance, wall: as of `off_chance`.
    """
    beyond = (off_chance(distance, wall) - ACCIDENT) / (1.0 - ACCIDENT)
    near = 0.5 * (1.0 - np.tanh(0.5 * (distance - wall - LEARNS_BEYOND) / LEARNS_BLUR))
    return np.asarray(ACCIDENT + (1.0 - ACCIDENT) * beyond * near)


def too_low_chance(distance: Array, steps: float = math.inf) -> Array:
    """The probability that a rate so far above mu is too low to learn even word frequencies.

    The lowest rate that does falls with the steps as 1 / steps, the best one more slowly.

    Args:
        distance: of the rate above mu, ln rate.
        steps: optimizer steps that were trained; infinite where they are unknown. Of so few that
            even the best rate may learn nothing in them, nothing is taken from their number.
    """
    counted = TOO_LOW_STEPS if steps < LEARN_NOTHING else min(steps, TOO_LOW_STEPS)
    nearer = 1.0 + TOO_LOW_GROWS * math.log(counted / TOO_LOW_STEPS) / TOO_LOW
    chance = 0.5 * (1.0 + np.tanh(0.85 * (-distance / nearer - TOO_LOW) / TOO_LOW_SD))
    return np.where(distance < 0, chance, 0.0)


def between_density(above: Singles, depth: Singles) -> Array:
    """The density of a lost run that learned something, so far above B: between m and B."""
    between = (above > -depth - 0.01) & (above < 0.01)
    return np.where(between, LOST_BETWEEN / np.maximum(depth, 0.1), 0.0)


def lost_density(above: Singles) -> Array:
    """Of a lost run that learned nothing, so far above B: at B, or above it."""
    density = np.full(above.shape, 1e-6)
    half_normal = np.exp(-0.5 * (above / LOST_SD) ** 2) / (LOST_SD * math.sqrt(math.pi / 2))
    density += np.where(above > -0.01, (LOST_AT_BASELINE - LITTLE) * half_normal, 0.0)
    below = np.exp(np.minimum(above, 0.0) / LOST_SD) / LOST_SD
    density += np.where(above < 0, LITTLE * below, 0.0)
    rest = 1.0 - LOST_BETWEEN - LOST_AT_BASELINE
    return np.asarray(density + np.where(above > 0, rest / LOST_ABOVE, 0.0), np.float64)


def wall_prior() -> Array:
    """The probability of each of `WALLS`: what lies nearest to it."""
    ends = np.concatenate([[0.0], (WALLS[1:] + WALLS[:-1]) / 2, [20.0]])
    usual = 0.5 * (1.0 + np.tanh(0.5 * (ends - USUAL_WALL) / USUAL_WALL_SCALE))
    near = -np.expm1(-ends / NEAR_WALL_SCALE)
    return np.asarray(np.diff((1.0 - NEAR_WALL) * usual + NEAR_WALL * near))
