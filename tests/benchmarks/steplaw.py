"""Response curves from the Step Law runs (arXiv 2503.04715): the final loss over the learning rate.

Each setting of parameters, tokens and batch size was trained once at each of up to 12 rates, a
factor of sqrt(2) apart. A searcher may ask for any rate from 1e-5 to 1e-1:

- Between the trained rates: local quadratic regression over ln rate (Cleveland 1979, tricube
  weights) gives the curve; what the runs deviate from it (seed noise, sd 0.0025 nats in the median)
  is interpolated and added to what a searcher sees, not to what it is scored by.
- Below the lowest and above the highest: a parabola that goes on with that end's value and slope.
- From the wall on: the loss of the lost runs, and above those a scatter like theirs. The wall lies
  between the last run that held and the first lost one; where none was lost, as far above the
  optimum as in the others' median.
"""

import csv
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LOW, HIGH = 1e-5, 1e-1
STEP = 0.02  # of the stored curve, ln rate
LOST = 0.5  # nats above the best run: no longer the basin
WINDOW = 1.2  # half width of the regression's window, ln rate
CURVATURE = 0.023  # nats / ln^2, the median of these curves
USUAL_WALL = 2.08  # ln rate above the optimum
LOST_LOSS, LOST_LOSS_SD = 6.7, 0.2  # nats, of the lost runs
SCATTER_STEP = 0.5
HALF_A_STEP = 0.25 * math.log(2)


@dataclass(frozen=True, slots=True)
class Curve:
    """One response curve from `LOW` to `HIGH`.

    Attributes:
        model: (parameters, tokens); all its batch sizes are held out together in a fit.
        batch: sequences of 2,048 tokens a step.
        smooth: the loss in nats a token without seed noise, every `STEP` of ln rate.
        noise: what a training deviates from it.
        optimum: ln rate of the lowest smooth loss.
        best: that loss.
    """

    model: tuple[int, int]
    batch: int
    smooth: Array
    noise: Array
    optimum: float
    best: float

    def excess(self, x: float) -> float:
        """How far the loss at ln rate x lies above the best one, in nats and without noise."""
        return float(np.interp(x, GRID, self.smooth)) - self.best

    def trained(self, x: float) -> float:
        """The loss that a training at ln rate x shows."""
        return float(np.interp(x, GRID, self.smooth + self.noise))


GRID: Array = np.arange(math.log(LOW), math.log(HIGH) + STEP, STEP)


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
    smooth = np.array([_continued(inside, seen, at) for at in GRID])
    at_runs = np.array([_local_quadratic(inside, seen, at)[0] for at in inside])
    noise = np.interp(GRID, inside, seen - at_runs, left=0.0, right=0.0)
    between = (inside[0] <= GRID) & (inside[-1] >= GRID)
    best = int(np.flatnonzero(between)[smooth[between].argmin()])
    if held < len(x):
        wall = 0.5 * float(x[held - 1] + x[held])
    else:
        wall = max(float(GRID[best]) + USUAL_WALL, float(x[-1]) + HALF_A_STEP)
    beyond = wall <= GRID
    smooth[beyond], noise[beyond] = _lost(x[held:], y[held:], seed=batch)[beyond], 0.0
    return Curve(model, batch, smooth, noise, float(GRID[best]), float(smooth[best]))


def _lost(x: Array, y: Array, seed: int) -> Array:
    """The measured losses of lost runs; above them, every half an ln, as the lost runs scatter."""
    start = float(x[-1]) + SCATTER_STEP if len(x) else math.log(LOW)
    more = np.arange(start, math.log(HIGH) + SCATTER_STEP, SCATTER_STEP)
    drawn = np.random.default_rng(seed).normal(LOST_LOSS, LOST_LOSS_SD, len(more))
    return np.interp(GRID, np.append(x, more), np.append(y, drawn))


def _continued(x: Array, y: Array, at: float) -> float:
    end = min(max(at, x[0]), x[-1])
    value, slope = _local_quadratic(x, y, end)
    slope = min(slope, 0.0) if at < x[0] else max(slope, 0.0)
    return value + slope * (at - end) + CURVATURE * (at - end) ** 2


def _local_quadratic(x: Array, y: Array, at: float) -> tuple[float, float]:
    """Value and slope at a rate, from at least the five nearest runs."""
    distance = np.abs(x - at)
    width = max(WINDOW, float(np.sort(distance)[4]) * 1.1)
    weight = np.clip(1 - (distance / width) ** 3, 0, None) ** 1.5
    fitted = np.polyfit(x - at, y, 2, w=weight)
    return float(fitted[2]), float(fitted[1])
