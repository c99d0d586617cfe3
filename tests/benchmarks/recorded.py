"""The recorded response curves (`record_curves.py`), at any learning rate and epoch.

Near its lowest value an epoch's loss over ln rate is a local quadratic regression of the 24 runs
(Cleveland 1979, tricube weights), plus what each run deviates from it (seed noise), interpolated;
further out the runs are interpolated as they are. A run diverges where the nearest recorded one
did, after as many epochs. A searcher sees one seed. It is scored by the mean over the seeds of the
final loss, smoothed alike and without the deviations. A final loss is a run's lowest.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from steplaw import _local_quadratic

Array = npt.NDArray[np.float64]

STEP = 0.02  # of the stored curves, ln rate
BASIN = 0.5  # nats above the lowest: no longer the basin
FEWEST = 5  # runs in a basin that a regression can follow


@dataclass(frozen=True, slots=True)
class Part:
    """One recorded file: every rate's losses with one seed.

    Attributes:
        name: slice and batch size, "small-b32".
        seed: of the trainings.
        rates: (R,) ln rate.
        losses: (R, E) nats a token after each epoch; NaN from where a run diverged.
        tokens: an epoch's.
        batch: sequences a step.
        unigram_perplexity: of its text.
        constant_rate: whether the rate did not decay.
    """

    name: str
    seed: int
    rates: Array
    losses: Array
    tokens: int
    batch: int
    unigram_perplexity: float
    constant_rate: bool

    @property
    def finals(self) -> Array:
        """(R,) the lowest loss of each run; NaN where it diverged."""
        return np.asarray(self.losses.min(axis=1))


class Curve:
    """What a searcher meets: one seed's runs, scored by all seeds of the same setting.

    Args:
        part: the seed's.
        all_seeds: every part of the setting, this one included.
    """

    def __init__(self, part: Part, all_seeds: list[Part]) -> None:
        self.name, self.seed = part.name, part.seed
        self.tokens, self.batch = part.tokens, part.batch
        self.baseline, self.constant_rate = part.unigram_perplexity, part.constant_rate
        self._part = part
        self._grid = np.arange(part.rates[0], part.rates[-1] + STEP, STEP)
        means = np.mean([each.finals for each in all_seeds], axis=0)
        held = np.isfinite(means)
        self._smooth = _at(self._grid, part.rates[held], means[held], noise=False)
        lowest = int(self._smooth.argmin())
        self.optimum, self.best = float(self._grid[lowest]), float(self._smooth[lowest])

    @property
    def epochs(self) -> int:
        """A whole run's."""
        return self._part.losses.shape[1]

    @property
    def low(self) -> float:
        """The lowest recorded rate, ln."""
        return float(self._part.rates[0])

    @property
    def high(self) -> float:
        """The highest recorded rate, ln."""
        return float(self._part.rates[-1])

    def excess(self, x: float) -> float:
        """How far a run's final loss at ln rate x lies above the best, in nats, without noise."""
        return float(np.interp(x, self._grid, self._smooth)) - self.best

    def losses(self, x: float) -> Array:
        """(E,) the losses of a run at ln rate x; infinite from where it diverged."""
        losses = np.array([np.interp(x, self._grid, values) for values in self._seen])
        nearest = self._part.losses[np.abs(self._part.rates - x).argmin()]
        return np.where(np.isfinite(nearest), losses, np.inf)

    @cached_property
    def _seen(self) -> list[Array]:
        rates, losses = self._part.rates, self._part.losses
        return [
            _at(self._grid, rates[held], epoch[held], noise=True)
            for epoch in losses.T
            if (held := np.isfinite(epoch)).any()
        ]


def read(folder: Path) -> list[Curve]:
    """Reads every recorded curve, one for each seed, whose optimum lies inside the rates."""
    by_name: dict[str, list[Part]] = defaultdict(list)
    for path in sorted(folder.glob("*-s*.json")):
        part = _part(json.loads(path.read_text(encoding="utf-8")))
        by_name[part.name].append(part)
    return [Curve(part, parts) for parts in by_name.values() for part in parts]


def _part(stored: dict[str, Any]) -> Part:
    runs, epochs = stored["runs"], stored["config"]["epochs"]
    losses = np.full((len(runs), epochs), np.nan)
    for row, run in zip(losses, runs, strict=True):
        row[: len(run["losses"])] = run["losses"]
    return Part(
        name=f"{stored['slice']}-b{stored['batch']}",
        seed=stored["seed"],
        rates=np.log([run["rate"] for run in runs]),
        losses=losses,
        tokens=stored["tokens_an_epoch"],
        batch=stored["batch"],
        unigram_perplexity=stored["unigram_perplexity"],
        constant_rate=stored["config"]["lr_schedule"]["name"] == "constant",
    )


def _at(grid: Array, x: Array, y: Array, *, noise: bool) -> Array:
    """The curve through runs x, y on the grid; without their deviations where it is smoothed."""
    values = np.interp(grid, x, y)
    first, last = _basin(y)
    if last - first < FEWEST:
        return values
    inside, seen = x[first:last], y[first:last]
    there = (inside[0] <= grid) & (grid <= inside[-1])
    values[there] = [_local_quadratic(inside, seen, at)[0] for at in grid[there]]
    if noise:
        deviation = seen - [_local_quadratic(inside, seen, at)[0] for at in inside]
        values[there] += np.interp(grid[there], inside, deviation)
    return values


def _basin(y: Array) -> tuple[int, int]:
    """The neighbours of the lowest run that are not far above it, as a half-open range."""
    near = np.append(y <= y.min() + BASIN, False)
    first = last = int(y.argmin())
    while first > 0 and near[first - 1]:
        first -= 1
    while near[last]:
        last += 1
    return first, last
