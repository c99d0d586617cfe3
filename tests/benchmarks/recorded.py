"""The recorded response curves (`record_curves.py`), at any learning rate and epoch.

A searcher sees one seed (`seed_runs`). It is scored by the mean over the seeds of the final loss,
smoothed alike and without noise. A final loss is a run's lowest.
"""

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from seed_runs import STEP, Part, SeedRuns
from smoothing import FEWEST, Array, basin, deviations, local_quadratic, smoothed


class Curve:
    """What a searcher meets: one seed's runs, scored by all seeds of the same setting.

    Args:
        part: the seed's.
        all_seeds: every part of the setting, this one included.

    Attributes:
        part: the seed's.
        optimum: ln rate of the lowest mean loss.
        best: that loss.
    """

    def __init__(self, part: Part, all_seeds: list[Part]) -> None:
        self.part = part
        self._runs = SeedRuns(part, all_seeds)
        self._grid = np.arange(part.rates[0], part.rates[-1] + STEP, STEP)
        means = np.mean([each.finals for each in all_seeds], axis=0)
        held = np.isfinite(means)
        self._smooth = smoothed(self._grid, part.rates[held], means[held])
        self._rates, self._means = part.rates[held], means[held]
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

    def doubt(self, x: float) -> float:
        """The standard error of `excess` there, nats: runs differ, and few seeds were recorded.

        The regression is linear in the runs, so the difference of its values at x and at the
        optimum has the noise's variance times the squared length of their weights' difference.
        """
        inside = basin(self._means)
        rates = self._rates[inside]
        near = float(np.clip(x, rates[0], rates[-1]))
        if len(rates) < FEWEST:
            return 0.0
        weights = local_quadratic(rates, np.array([near, self.optimum]))[0]
        noise = deviations(self._rates, self._means)[inside].std()
        return float(noise * np.linalg.norm(weights[0] - weights[1]))

    def run(self, x: float, rng: np.random.Generator) -> Array:
        """(E,) the losses of a new run at ln rate x; infinite from where it diverged."""
        return self._runs.draw(x, rng)


def read(folder: Path) -> list[Curve]:
    """Reads every recorded curve, one for each seed."""
    by_name: dict[str, list[Part]] = defaultdict(list)
    for path in sorted(folder.glob("*-s*.json")):
        part = _part(json.loads(path.read_text(encoding="utf-8")))
        by_name[part.name].append(part)
    return [Curve(part, parts) for parts in by_name.values() for part in parts]


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
