"""Marin's optimizer runs (arXiv 2509.02046) as studies, and what their optima are known to.

A study is what one optimizer's runs of one model, length and batch say of the rate. Its grid has a
factor of 2, two to five rates, so what its optimum is must itself be found: from a parabola whose
curvature is that of the optimizer's runs (`Study.truth`), by other means than the search's model.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from studies.law import FINEST, Array, Swept
from studies.likelihood import Observations
from studies.posterior import Posterior
from studies.rules import Setting
from studies.transfer import read_optimum

PARAMETERS = {"130m": 134e6, "300m": 302e6, "520m": 537e6, "1.2b": 1208e6}
CHINCHILLA = 20.0  # tokens a parameter
SEQUENCE_TOKENS = 4096.0
BASELINE = 7.7  # nats, where runs end that learned nothing
LOST = 0.7  # nats above the best run: no longer the basin
AROUND = 4.0  # the range of a study reaches so far beyond its grid
NOTHING = np.zeros(0)

RATES = np.arange(-11.0, 0.0, 0.02)
CURVATURES = np.geomspace(0.008, 0.12, 12)
CURVATURE, CURVATURE_SD = 0.022, 0.5  # of all, and sd of ln between optimizers
AMONG = 0.35  # sd of ln curvature within an optimizer
STEEPER = 1.3  # above the optimum
NOISE, FORM = 0.002, 0.15  # nats; the form's error as a share of the rise
BASIN = 0.1  # nats above the best run: the parabola holds


@dataclass(frozen=True, slots=True)
class Study:
    """One optimizer's runs at one setting.

    Attributes:
        chinchilla: tokens over 20 a parameter.
        held: ln rates that held, rising; losses: their losses in nats.
        lost: ln rates that were lost.
        swept: what the search's model makes of them.
        truth: mean and sd of the optimum's ln rate; None with fewer than two rates that held.
    """

    optimizer: str
    model: str
    chinchilla: float
    setting: Setting
    held: Array
    losses: Array
    lost: Array
    swept: Swept
    truth: tuple[float, float] | None

    @property
    def best(self) -> float:
        """ln rate of the lowest loss."""
        return float(self.held[self.losses.argmin()])

    @property
    def tried(self) -> Array:
        """All ln rates, rising."""
        return np.sort(np.concatenate([self.held, self.lost]))

    def cost(self, x: float) -> float:
        """Nats of the rate of the grid that is nearest to ln rate x; infinite where it was lost."""
        rate = self.tried[np.abs(self.tried - x).argmin()]
        if rate in self.lost:
            return math.inf
        return float(self.losses[self.held == rate][0] - self.losses.min())


def read(path: Path) -> list[Study]:
    """All studies, by optimizer, parameters and tokens."""
    runs: dict[tuple[str, str, float, int], list[tuple[float, float]]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["changed"] in ("", "learning_rate"):
                batch = int(float(row["batch"]))
                key = row["optimizer"], row["model"], float(row["chinchilla"]), batch
                loss = float(row["loss"]) if row["loss"] else math.nan
                runs[key].append((math.log(float(row["learning_rate"])), loss))
    sorted_runs = {key: _sorted(each) for key, each in runs.items()}
    known = {key: each for key, each in sorted_runs.items() if len(each[0])}
    curvatures = {
        optimizer: _curvature(each for key, each in known.items() if key[0] == optimizer)
        for optimizer in {key[0] for key in known}
    }
    studies = [_study(*key, *each, curvatures[key[0]]) for key, each in known.items()]
    return sorted(
        studies,
        key=lambda s: (s.optimizer, s.setting.parameters, s.chinchilla, s.setting.batch_size),
    )


def _sorted(runs: list[tuple[float, float]]) -> tuple[Array, Array, Array]:
    """ln rates that held, their losses, and ln rates that were lost.

    A run without a loss was lost where it is above all that held; elsewhere it was not kept.
    """
    x, y = np.array(sorted(runs)).T
    known = np.isfinite(y)
    if not known.any():
        return NOTHING, NOTHING, NOTHING
    held = known & (y < np.nanmin(y) + LOST)
    lost = (known & ~held) | (~known & (x > x[held].max()))
    return x[held], y[held], x[lost]


def _study(
    optimizer: str,
    model: str,
    chinchilla: float,
    batch: int,
    held: Array,
    losses: Array,
    lost: Array,
    curvature: float,
) -> Study:
    parameters = PARAMETERS[model]
    tokens = CHINCHILLA * chinchilla * parameters
    setting = Setting(batch, int(parameters), tokens, tokens / SEQUENCE_TOKENS)
    rates = np.exp(np.concatenate([held, lost]))
    seen = Observations(held, losses, lost, NOTHING, baseline=BASELINE)
    posterior = Posterior(seen, {}, rates.min() / AROUND, rates.max() * AROUND)
    swept = _searched(
        read_optimum(f"{optimizer} {model} {chinchilla:g}x", setting, posterior),
        held[losses.argmin()],
    )
    truth = None
    if len(held) >= 2:
        weight = np.exp(-0.5 * (np.log(CURVATURES / curvature) / AMONG) ** 2)
        likely = np.exp([_fit(held, losses, lost, a) for a in CURVATURES])
        density = weight @ likely
        density /= density.sum()
        mean = float(density @ RATES)
        truth = mean, math.sqrt(float(density @ (RATES - mean) ** 2))
    return Study(optimizer, model, chinchilla, setting, held, losses, lost, swept, truth)


def _searched(swept: Swept, best: float) -> Swept:
    """A study whose authors went on until no neighbour on the grid was better than the best rate.

    They kept few of those runs: the optimum lies within about a factor of 2 of that rate.
    """
    assert swept.belief is not None
    x, joint = swept.belief
    joint = joint * _near(x, best)[:, None]
    weight = joint.sum(1) / joint.sum()
    mean = float(x @ weight)
    sd = math.sqrt(float(weight @ (x - mean) ** 2))
    return replace(swept, mean=mean, sd=max(sd, FINEST), belief=(x, joint / joint.sum()))


def _near(x: Array, best: float) -> Array:
    return np.asarray(np.exp(-0.5 * ((x - best) / math.log(2)) ** 2))


def _curvature(studies: Iterable[tuple[Array, Array, Array]]) -> float:
    """An optimizer's, by its studies of three rates or more."""
    belief = -0.5 * (np.log(CURVATURES / CURVATURE) / CURVATURE_SD) ** 2
    for held, losses, lost in studies:
        if len(held) >= 3:
            # Half of each: within an optimizer they differ.
            belief += 0.5 * np.array(
                [np.logaddexp.reduce(_fit(held, losses, lost, a)) for a in CURVATURES]
            )
    weight = np.exp(belief - belief.max())
    return math.exp(float(weight @ np.log(CURVATURES)) / weight.sum())


def _fit(held: Array, losses: Array, lost: Array, curvature: float) -> Array:
    """ln likelihood of each optimum of `RATES`, near the best rate as `_searched` has it."""
    basin = losses < losses.min() + BASIN
    x, y = held[basin], losses[basin]
    distance = x - RATES[:, None]
    rise = curvature * distance**2 * np.where(distance > 0, STEEPER, 1.0)
    sd = np.hypot(NOISE, FORM * rise)
    weight = sd**-2
    level = ((y - rise) * weight).sum(1, keepdims=True) / weight.sum(1, keepdims=True)
    fit = -0.5 * ((y - rise - level) ** 2 * weight).sum(1)
    fit -= np.log(sd).sum(1) + 0.5 * np.log(weight.sum(1))
    fit += np.log(_near(RATES, x[y.argmin()]) + 1e-300)
    if len(lost):
        fit -= np.where(lost.min() - 0.1 > RATES, 0.0, 20.0)
    return np.asarray(fit)
