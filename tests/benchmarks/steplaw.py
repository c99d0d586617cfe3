"""Response curves from the Step Law runs (arXiv 2503.04715): the final loss over the learning rate.

Each setting of parameters, tokens and batch size was trained once at each of up to 12 rates, a
factor of sqrt(2) apart. A searcher may ask for any rate from 1e-5 to 1e-1:

- Between the trained rates: local quadratic regression over ln rate (`smoothing`) gives the curve.
  What a searcher sees of a training deviates from it by what a run near there does, drawn at random
  (seed noise, sd 0.003 nats in the median); it is scored without that.
- Below the lowest and above the highest: a parabola that goes on with that end's value and slope.
- From the wall on: the loss of the lost runs, and above those a scatter like theirs. The wall lies
  between the last run that held and the first lost one; where none was lost, as far above the
  optimum as in the others' median. Between the two, chance decides where a training meets it.
"""

import csv
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from smoothing import Array, Smooth, deviations

LOW, HIGH = 1e-5, 1e-1
STEP = 0.02  # of the stored curve, ln rate
LOST = 0.5  # nats above the best run: no longer the basin
NEIGHBOURS = 4  # runs whose deviations a training near them may have
CURVATURE = 0.023  # nats / ln^2, the median of these curves
USUAL_WALL = 2.08  # ln rate above the optimum
LOST_LOSS, LOST_LOSS_SD = 6.7, 0.2  # nats, of the lost runs
SCATTER_STEP = 0.5
HALF_A_STEP = 0.25 * math.log(2)


GRID: Array = np.arange(math.log(LOW), math.log(HIGH) + STEP, STEP)


@dataclass(frozen=True, slots=True)
class Curve:
    """One response curve from `LOW` to `HIGH`.

    Attributes:
        model: (parameters, tokens); all its batch sizes are held out together in a fit.
        batch: sequences of 2,048 tokens a step.
        held: the loss in nats a token without seed noise, every `STEP` of ln rate, of trainings
            that are not lost.
        lost: the loss of those that are.
        wall: between which ln rates it lies.
        runs: (n,) ln rates of the runs that held.
        deviations: (n,) what each of them deviates from the curve.
        optimum: ln rate of the lowest loss.
        best: that loss.
    """

    model: tuple[int, int]
    batch: int
    held: Array
    lost: Array
    wall: tuple[float, float]
    runs: Array
    deviations: Array
    optimum: float
    best: float

    def excess(self, x: float) -> float:
        """How far the loss at ln rate x lies above the best one, in nats and without noise."""
        return self._loss(x, sum(self.wall) / 2) - self.best

    def trained(self, x: float, rng: np.random.Generator) -> float:
        """The loss that a new training at ln rate x shows."""
        near = np.abs(self.runs - x).argsort(kind="stable")[:NEIGHBOURS]
        wall, noise = rng.uniform(*self.wall), rng.choice(self.deviations[near])
        inside = self.runs[0] <= x < min(wall, self.runs[-1])
        return self._loss(x, wall) + (noise - self.deviations[near].mean() if inside else 0.0)

    def _loss(self, x: float, wall: float) -> float:
        return float(np.interp(x, GRID, self.held if x < wall else self.lost))


def read(path: Path) -> list[Curve]:
    """Reads every response curve that has its optimum inside the trained rates.

    Args:
        path: dense_lr_bs_loss.csv of the Step Law authors.

    Returns:
        The curves, by model and batch size.
    """
    curves = []
    for (parameters, tokens, batch), (x, y) in runs(path).items():
        held = int(np.argmax(np.append(y, math.inf) > y.min() + LOST))
        if 0 < int(y.argmin()) < len(y) - 1 and held >= 5:
            curves.append(_curve((parameters, tokens), batch, x, y, held))
    return curves


def runs(path: Path) -> dict[tuple[int, int, int], tuple[Array, Array]]:
    """The runs as they are: ln rates in rising order and losses, by (parameters, tokens, batch)."""
    losses: dict[tuple[int, int, int], dict[float, float]] = defaultdict(dict)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = (int(row["N"]), int(float(row["D"])), int(row["bs"]))
            losses[key][math.log(float(row["lr"]))] = float(row["smooth loss"])
    return {
        key: (np.array(sorted(each)), np.array([each[x] for x in sorted(each)]))
        for key, each in sorted(losses.items())
    }


def _curve(model: tuple[int, int], batch: int, x: Array, y: Array, held: int) -> Curve:
    """`held` is the number of runs, from the lowest rate on, that were not lost."""
    inside, seen = x[:held], y[:held]
    smooth = _continued(inside, seen)
    between = (inside[0] <= GRID) & (inside[-1] >= GRID)
    best = int(np.flatnonzero(between)[smooth[between].argmin()])
    if held < len(x):
        wall = float(x[held - 1]), float(x[held])
    else:
        usual = max(float(GRID[best]) + USUAL_WALL, float(x[-1]) + HALF_A_STEP)
        wall = usual - HALF_A_STEP, usual + HALF_A_STEP
    return Curve(
        model,
        batch,
        held=smooth,
        lost=_lost(x[held:], y[held:], seed=batch),
        wall=wall,
        runs=inside,
        deviations=deviations(inside, seen, LOST),
        optimum=float(GRID[best]),
        best=float(smooth[best]),
    )


def _lost(x: Array, y: Array, seed: int) -> Array:
    """The measured losses of lost runs; above them, every half an ln, as the lost runs scatter."""
    start = float(x[-1]) + SCATTER_STEP if len(x) else math.log(LOW)
    more = np.arange(start, math.log(HIGH) + SCATTER_STEP, SCATTER_STEP)
    drawn = np.random.default_rng(seed).normal(LOST_LOSS, LOST_LOSS_SD, len(more))
    return np.interp(GRID, np.append(x, more), np.append(y, drawn))


def _continued(x: Array, y: Array) -> Array:
    """The curve through the runs over the grid, and on beyond their ends."""
    ends = np.clip(GRID, x[0], x[-1])
    curve = Smooth(x, y)
    values, beyond = curve.values(ends), GRID - ends
    first, second, last_but_one, last = curve.values(
        np.array([x[0], x[0] + STEP, x[-1] - STEP, x[-1]])
    )
    falls, rises = min((second - first) / STEP, 0.0), max((last - last_but_one) / STEP, 0.0)
    slopes = np.where(beyond < 0, falls, rises)
    return np.asarray(values + slopes * beyond + CURVATURE * beyond**2)
