"""What is left to learn: our search told the curve's shape, so that only its place is unknown.

    OMP_NUM_THREADS=1 PYTHONPATH=tests/benchmarks python tests/benchmarks/known_shape.py
        [--set long] [--columns product,right]

The shape of each recorded curve is that of the likeliest hypothesis when all its runs are known:
B, D, a, r and the noise. Told those, the search counts epochs as `replay_epochs.py` does; a line a
column, the mean and its standard error over settings. What it needs then is a bound to what better
priors of the shape can bring.
"""

import argparse
import math
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import optuna
from clusters import clustered
from columns import COLUMNS, task
from driver import Driver, Search
from recorded import Curve
from replay_epochs import SETS, curves_of

from studies import likelihood, numbers, observed, posterior
from studies.likelihood import Cells, Observations
from studies.posterior import Posterior
from studies.table import Array, Mask

NOT_ZERO = 1e-12
FOUND = "0.5 %"


@dataclass(frozen=True, slots=True)
class Shape:
    """Of the likeliest hypothesis: B, D, a, r, and the noise's place in `numbers.NOISES`."""

    baseline: float
    depth: float
    curvature: float
    steeper: float
    noise: int


def shape_of(curve: Curve) -> Shape:
    """What all runs of one recorded seed say."""
    part, none = curve.part, np.zeros(0)
    held = np.isfinite(part.finals)
    baseline = math.log(part.baseline) if part.baseline else math.inf
    seen = Observations(
        part.rates[held], part.finals[held], part.rates[~held], none, baseline, steps=part.steps
    )
    known = Posterior(seen, {}, math.exp(curve.low), math.exp(curve.high))
    cells, weights = known._cells, known._weights
    place = int(weights.sum((1, 2)).argmax())
    levels = float(cells.baseline[place]), float(cells.depth[place])
    form = float(cells.curvature[place]), float(cells.steeper[place])
    return Shape(*levels, *form, int(weights.sum((0, 2)).argmax()))


def epochs_told(curve: Curve, column: str, curves: list[Curve]) -> int | None:
    """Epochs until a rate near the best was trained whole; None where the column says nothing."""
    told = task(curve, column, 0, curves)
    if told is None:
        return None
    shape = shape_of(curve)
    level = np.array([shape.baseline]), np.array([shape.depth]), np.ones(1)
    curvature = np.stack([_only(np.isclose(numbers.CURVATURES, shape.curvature))] * 2)
    noise = np.tile(_only(np.arange(len(numbers.NOISES)) == shape.noise), (curvature.shape[1], 1))

    def cells_of(seen: Observations, mu: Array, prior: Array, thin: int = 1) -> Cells:
        if seen.steps != curve.part.steps:  # early reports lie on a curve of another shape
            return likelihood.cells_of(seen, mu, prior, thin)
        with (
            patch.object(likelihood, "_levels", lambda _: level),
            patch.object(likelihood, "_curvature_classes", lambda: curvature),
            patch.object(likelihood, "noise_prior", lambda: noise),
            patch.object(likelihood, "STEEPER_WEIGHTS", _only(shape.steeper == numbers.STEEPER)),
        ):
            return likelihood.cells_of(seen, mu, prior, thin)

    with (
        patch.object(posterior, "cells_of", cells_of),
        patch.object(observed, "with_forms", lambda bump: bump),
    ):
        kept = Search("own", column, curve.part.name, curve.part.seed, 0, curve.epochs)
        found = Driver(curve, told, kept, [math.nan]).run()
    return found.found.get(FOUND, found.end).epochs


def _only(which: Mask) -> Array:
    """All weight to one hypothesis."""
    return np.where(which, 1.0, NOT_ZERO)


def main() -> None:
    """Prints a line a column."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--set", choices=SETS, default="long")
    parser.add_argument("--columns", default=",".join(COLUMNS))
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves = curves_of(SETS[options.set].absolute())
    for column in options.columns.split(","):
        found = [(each.part.name, epochs_told(each, column, curves)) for each in curves]
        epochs = [(name, number) for name, number in found if number is not None]
        names, spent = [name for name, _ in epochs], [number for _, number in epochs]
        mean, error = clustered(spent, [1.0] * len(epochs), names)
        print(f"{column:10s} {mean:6.1f} +- {error:.1f}", flush=True)


if __name__ == "__main__":
    main()
