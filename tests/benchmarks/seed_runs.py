"""What runs of one recorded seed show: its smooth curve, and noise of each run's own.

- A run that learns lies on the seed's curve (`smoothing`, each epoch by itself), plus what a
  recorded run near it, drawn at random, deviates from its own seed's curve, over all epochs
  together: a bootstrap of whole residual curves (Efron and Tibshirani 1993, section 9.4). So two
  runs at close rates, or at the same one, share no noise.
- Above the best rate a run may be lost instead: diverged, or no better than a model without
  context. Between a rate that was lost and one that was not, chance decides which a run is, the
  nearer the likelier; a lost run then is one of its recorded neighbours that were lost.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from smoothing import BASIN, Array, basin, deviations, smoothed

STEP = 0.02  # of the stored curves, ln rate
LEARNED = 0.08  # nats below a model without context: less is as good as nothing
LEVEL = 0.03  # nats around it within which runs that learned nothing end
NEIGHBOURS = 4  # recorded runs of each seed whose deviations a run near them may have


@dataclass(frozen=True, slots=True)
class Part:
    """Every rate's losses with one seed.

    Attributes:
        kind: what is trained, but for batch size and seed.
        batch: sequences a step.
        seed: of the trainings.
        rates: (R,) ln rate, rising.
        losses: (R, E) nats a token after each epoch; NaN from where a run diverged.
        parameters: the model's.
        nothing: nats of a model that knows nothing, all words being as likely.
        baseline: perplexity of a model without context; None where it is unknown.
        constant_rate: whether the rate did not decay.
        steps: optimizer steps of a whole run.
    """

    kind: str
    batch: int
    seed: int
    rates: Array
    losses: Array
    parameters: int
    nothing: float
    baseline: float | None
    constant_rate: bool
    steps: int

    @property
    def name(self) -> str:
        """The setting: "small-b32"."""
        return f"{self.kind}-b{self.batch}"

    @property
    def finals(self) -> Array:
        """(R,) the lowest loss of each run; NaN where it diverged."""
        return np.asarray(self.losses.min(axis=1))

    @property
    def lost(self) -> npt.NDArray[np.bool_]:
        """(R,) whether a run diverged, or learned nothing at a rate above the best one."""
        finals = self.finals
        above = np.arange(len(finals)) > np.nanargmin(finals)
        learned = np.log(self.baseline) - LEARNED if self.baseline else np.inf
        return ~np.isfinite(finals) | (above & (finals > learned))

    @property
    def basin(self) -> slice:
        """Which of the runs that are not lost end in the basin."""
        finals = self.finals[~self.lost]
        return basin(finals, self.depth(finals))

    def depth(self, losses: Array) -> float:
        """How deep the basin of some losses is: it ends where nothing is learned."""
        gained = np.log(self.baseline) - losses.min() if self.baseline else np.inf
        return float(min(max(gained, 0.0) + LEVEL, BASIN))


class SeedRuns:
    """Draws the runs of one seed.

    Args:
        part: the seed's.
        all_seeds: every part of the setting, this one included; their runs' deviations are alike.
    """

    def __init__(self, part: Part, all_seeds: list[Part]) -> None:
        self._part, self._all_seeds = part, all_seeds
        self._grid = np.arange(part.rates[0], part.rates[-1] + STEP, STEP)

    def draw(self, x: float, rng: np.random.Generator) -> Array:
        """(E,) the losses of a new run at ln rate x; infinite from where it diverged."""
        rates, lost = self._part.rates, self._part.lost
        place = float(np.interp(x, rates, np.arange(len(rates))))
        if rng.random() < np.interp(place, np.arange(len(rates)), lost):
            nearest = np.abs(rates[lost] - x)
            order = nearest.argsort()[:2]
            # Of two neighbours the nearer is the likelier: by the other's distance.
            share = nearest[order[::-1]] / nearest[order].sum() if len(order) > 1 else None
            found = self._part.losses[lost][rng.choice(order, p=share)]
            return np.where(np.isfinite(found), found, np.inf)
        values = np.array([np.interp(x, self._grid, each) for each in self._curves])
        return values + self._noise(x, rng)

    def _noise(self, x: float, rng: np.random.Generator) -> Array | float:
        inside = self._part.rates[~self._part.lost][self._part.basin]
        if not inside[0] <= x <= inside[-1]:
            return 0.0
        at, profiles = self._deviations
        near = np.abs(at - x).argsort(kind="stable")[: NEIGHBOURS * len(self._all_seeds)]
        return np.asarray(profiles[rng.choice(near)] - profiles[near].mean(axis=0))

    @cached_property
    def _curves(self) -> list[Array]:
        """Each epoch's loss over the grid, of runs that are not lost."""
        held = ~self._part.lost
        return [self._curve(self._part.rates[held], epoch) for epoch in self._part.losses[held].T]

    def _curve(self, x: Array, y: Array) -> Array:
        values = smoothed(self._grid, x, y, self._part.depth(y))
        beyond = self._grid > x[-1]  # there it rises as it did before, at most to where none learns
        slope = max((y[-1] - y[-2]) / (x[-1] - x[-2]), 0.0)
        most = max(y[-1], np.log(self._part.baseline or np.inf))
        values[beyond] = np.minimum(y[-1] + slope * (self._grid[beyond] - x[-1]), most)
        return values

    @cached_property
    def _deviations(self) -> tuple[Array, Array]:
        """Of all seeds' runs in their basins: (N,) ln rates and (N, E) deviations."""
        rates, profiles = [], []
        for part in self._all_seeds:
            held, inside = ~part.lost, part.basin
            x, losses = part.rates[held], part.losses[held]
            every = [deviations(x, epoch, part.depth(epoch)) for epoch in losses.T]
            rates.append(x[inside])
            profiles.append(np.array(every).T[inside])
        return np.concatenate(rates), np.concatenate(profiles)
