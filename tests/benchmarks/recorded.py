"""The recorded response curves (`record_curves.py`), at any learning rate and epoch.

A searcher sees one seed (`seed_runs`). It is scored by the mean over the seeds of the final loss,
smoothed alike and without noise; where the rates near the best were trained at more seeds
(`near.json`), by the mean over these too. A final loss is a run's lowest.
"""

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from seed_runs import STEP, Part, SeedRuns
from smoothing import Array, of_basin, smoothed


class Curve:
    """What a searcher meets: one seed's runs, scored by all seeds of the same setting.

    Args:
        part: the seed's.
        all_seeds: every part of the setting, this one included.
        near: (seeds, R) finals of more seeds at some of the rates, infinite where one diverged; NaN
            at the others.

    Attributes:
        part: the seed's.
        optimum: ln rate of the lowest mean loss.
        best: that loss.
    """

    def __init__(self, part: Part, all_seeds: list[Part], near: Array | None = None) -> None:
        self.part = part
        self._runs = SeedRuns(part, all_seeds)
        self._grid = np.arange(part.rates[0], part.rates[-1] + STEP, STEP)
        finals = np.nan_to_num([each.finals for each in all_seeds], nan=np.inf)
        if near is not None:
            finals = np.vstack([finals, near])
        held = ~np.isinf(finals).any(0)  # a rate at which one seed diverged is none to recommend
        self._rates, finals = part.rates[held], finals[:, held]
        self._means, self._seeds = np.nanmean(finals, axis=0), np.isfinite(finals).sum(0)
        self._smooth = smoothed(self._grid, self._rates, self._means, seeds=self._seeds)
        lowest = int(self._smooth.argmin())
        self.optimum, self.best = float(self._grid[lowest]), float(self._smooth[lowest])

    @property
    def epochs(self) -> int:
        """A whole run's."""
        return int(self.part.losses.shape[1])

    @property
    def low(self) -> float:
        """The lowest recorded rate, ln."""
        return float(self.part.rates[0])

    @property
    def high(self) -> float:
        """The highest recorded rate, ln."""
        return float(self.part.rates[-1])

    @property
    def worst(self) -> float:
        """How far a model without context, or one that knows nothing, lies above the best, nats."""
        baseline = self.part.baseline
        return (math.log(baseline) if baseline else self.part.nothing) - self.best

    def excess(self, x: float) -> float:
        """How far a run's final loss at ln rate x lies above the best, in nats, without noise."""
        return float(np.interp(x, self._grid, self._smooth)) - self.best

    def excess_of_own(self) -> float:
        """How far the best rate of this seed alone lies above the best over the seeds, nats."""
        held = np.isfinite(self.part.finals)
        own = smoothed(self._grid, self.part.rates[held], self.part.finals[held])
        return self.excess(float(self._grid[own.argmin()]))

    def doubt(self, x: float) -> float:
        """The standard error of `excess` there, nats: runs differ, and few seeds were recorded."""
        inside, curve = of_basin(self._rates, self._means, seeds=self._seeds)
        low, high = self._rates[inside][[0, -1]]
        return curve.doubt(float(np.clip(x, low, high)), self.optimum) if curve else 0.0

    def run(self, x: float, rng: np.random.Generator) -> Array:
        """(E,) the losses of a new run at ln rate x; infinite from where it diverged."""
        return self._runs.draw(x, rng)


def read(folder: Path) -> list[Curve]:
    """Reads every recorded curve, one for each seed."""
    by_name: dict[str, list[Part]] = defaultdict(list)
    for part in parts_in(folder):
        by_name[part.name].append(part)
    path = folder / "near.json"
    near = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return [
        Curve(part, parts, _near(near.get(name), part.rates))
        for name, parts in by_name.items()
        for part in parts
    ]


def parts_in(folder: Path) -> list[Part]:
    """Every recorded seed of every setting, by their names."""
    paths = sorted(folder.glob("*-s*.json"))
    return [_part(json.loads(path.read_text(encoding="utf-8"))) for path in paths]


def _near(stored: dict[str, Any] | None, rates: Array) -> Array | None:
    if stored is None:
        return None
    found = np.full((len(stored["seeds"]), len(rates)), np.nan)
    finals = np.nan_to_num(np.array(stored["finals"], float), nan=np.inf)
    found[:, np.isin(rates, np.log(stored["rates"]))] = finals
    return found


def _part(stored: dict[str, Any]) -> Part:
    runs, config = stored["runs"], stored["config"]
    losses = np.full((len(runs), config["epochs"]), np.nan)
    for row, run in zip(losses, runs, strict=True):
        row[: len(run["losses"])] = run["losses"]
    return Part(
        kind=stored["slice"],
        batch=stored["batch"],
        seed=stored["seed"],
        rates=np.log([run["rate"] for run in runs]),
        losses=losses,
        parameters=stored["parameters"],
        nothing=math.log(config["data"]["vocabulary_size"]),
        baseline=stored["unigram_perplexity"],
        constant_rate=config["lr_schedule"]["name"] == "constant",
        steps=stored["steps"],
    )
