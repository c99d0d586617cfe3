"""Up to which rate training is safe: where it is lost, carried over studies as the optimum is.

Training is lost beyond a wall above the optimum (`studies.lost`). Its place is better known than
its distance from the optimum: it lies between a rate that held and one that was lost. So it has a
law of its own (`studies.law`), of the optimum's form, and what is known of its distance
before any was seen is one more study, at the setting that is asked for.
"""

import math

import numpy as np

from studies.law import MISFIT, WITHIN, Array, Exponent, Law, Swept
from studies.lost import wall_prior
from studies.numbers import WALLS
from studies.rules import Setting

SAFE = 0.05  # chance of being lost, beside an accident's
SCATTER = 0.15  # sd of one run's wall around the law, ln rate
LENGTH = Exponent(-0.1, 0.1)  # of the wall with the length of a run
REACH = 10.0  # how far above the optimum a wall may be, ln rate
BEYOND = 6.0  # how far above what was searched
STEP = 0.1  # ln rate
EDGES = (WALLS[1:] + WALLS[:-1]) / 2  # of the bins around `WALLS`
# Its distance above the optimum before any was seen: share, mean and sd of normals cut at 0.
PRIOR = ((0.4, 2.0, 0.4), (0.6, 0.9, 0.5))


class Wall:
    """Where training is lost at a setting: its ln rate is normal.

    Args:
        law: of the optima, whose studies say where they were lost.
        setting: where it is asked for.
    """

    def __init__(self, law: Law, setting: Setting) -> None:
        seen = [_seen(law, place) for place in range(len(law.optima))]
        studies = [*filter(None, seen), _before(law, setting)]
        walls = Law(studies, law.critical, length=LENGTH)
        self.mean, variance = walls.at(setting)
        self.sd = math.sqrt(variance + SCATTER**2)

    def risk(self, x: float) -> float:
        """The probability that training is lost at ln rate x, accidents apart."""
        return 0.5 * math.erfc((self.mean - x) / (self.sd * math.sqrt(2.0)))

    @property
    def safe(self) -> float:
        """The highest rate whose risk is at most 5 %."""
        return math.exp(self.mean - WITHIN * self.sd)


def _seen(law: Law, place: int) -> Swept | None:
    """A study's wall, as its optimum was: how likely what it saw is under each place of it.

    Its optimum is weighed by where the other studies put it.
    """
    study = law.optima[place]
    if study.belief is None:
        return None
    x, joint = study.belief
    mean, variance = law.cavity(place)
    likely = np.exp(-0.5 * (x - mean) ** 2 / variance)[:, None] * joint / wall_prior()
    step = float(x[1] - x[0])
    bins = np.searchsorted(EDGES, np.arange(0.0, REACH, step))
    place_of = np.arange(len(x) + int(BEYOND / step))
    wall = np.zeros(len(place_of) + len(bins))
    for offset, chosen in enumerate(bins):
        wall[offset : offset + len(x)] += likely[:, chosen]
    seen = wall[: len(place_of)]
    return _study(study.setting, x[0] + step * place_of, seen) if seen.sum() > 0 else None


def _before(law: Law, setting: Setting) -> Swept:
    """What is known of the wall at a setting before any was seen."""
    mean, variance = law.at(setting)
    sd = math.sqrt(variance + MISFIT**2)
    distance = np.arange(0.0, REACH, STEP)
    density = sum(
        share / width * np.exp(-0.5 * ((distance - middle) / width) ** 2)
        for share, middle, width in PRIOR
    )
    x = np.arange(-4.0 * sd, REACH + 4.0 * sd, STEP)
    blurred = np.exp(-0.5 * ((x[:, None] - distance) / sd) ** 2) @ density
    return _study(setting, mean + x, blurred)


def _study(setting: Setting, x: Array, likely: Array) -> Swept:
    weight = likely / likely.sum()
    mean = float(x @ weight)
    sd = math.sqrt(float(weight @ (x - mean) ** 2))
    return Swept("", setting, mean, sd, (x, weight[:, None]))
