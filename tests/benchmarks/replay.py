"""Trainings that each searcher needs on the Step Law response curves.

    python tests/benchmarks/replay.py dense_lr_bs_loss.csv --searchers own,tpe,gp-2 --seeds 2

A searcher is told what a training at a rate shows, seed noise and lost runs included, and counted
until it has trained at a rate whose loss without noise is within 0.2 % (of perplexity) of the best.
The prior's centre is the curve's optimum off by a normal of sd 0.4 (ln), times what it is wrong by.
Curves of one model are alike: standard errors are over models.
GPSampler needs scipy and torch, CmaEsSampler needs cmaes.
"""

import argparse
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from clusters import clustered
from searchers import NAMES, Belief, Searcher
from steplaw import HIGH, LOW, Curve, read

WRONG_BY = {"right": 1.0, "3x high": 3.0, "3x low": 1 / 3, "10x high": 10.0, "10x low": 0.1}
NO_PRIOR = "none"
CENTRE_SD = 0.4
WIDTH = 0.5  # what the searchers are told of the centre's sd
TOLERANCE = math.log(1.002)
MOST = 40  # trainings after which a search is given up and counted as this many
COVERED_AFTER = (4, 8)  # trainings
ROW = "{:9s} {:9s} {:>12s} {:>6s} {:>5s} {:>9s} {:>9s} {:>9s} {:>9s}"


@dataclass(frozen=True, slots=True)
class Search:
    """What one search came to.

    Attributes:
        model: the curve's.
        trainings: until the first rate within the tolerance; `MOST` where none was.
        covered: whether the 90 % interval held the optimum, by the number of trainings.
    """

    model: tuple[int, int]
    trainings: int
    covered: dict[int, bool]


def search(curve: Curve, name: str, prior: str, seed: int, shift: float) -> Search:
    """Runs one search on one curve.

    Args:
        prior: a key of `WRONG_BY`, or `NO_PRIOR`.
        seed: of the centre's error, of the range's shift, of the sampler and of the noise.
        shift: the range is moved by up to this much in ln, so that its middle says nothing.
    """
    rng = np.random.default_rng([seed, *curve.model, curve.batch])
    error, moved = rng.normal(0.0, CENTRE_SD), math.exp(rng.uniform(-shift, shift))
    belief = None
    if prior != NO_PRIOR:
        belief = Belief(math.exp(curve.optimum + error) * WRONG_BY[prior], WIDTH)
    drawn = int(rng.integers(2**31))
    searcher = Searcher(name, belief, LOW * moved, HIGH * moved, drawn)
    least = max(COVERED_AFTER) if name == "own" else 0
    found, covered = MOST, {}
    for trainings in range(1, MOST + 1):
        noise = np.random.default_rng([seed, *curve.model, curve.batch, trainings])
        x = searcher.train(partial(curve.trained, rng=noise))
        if found == MOST and curve.excess(x) <= TOLERANCE:
            found = trainings
        if name == "own" and trainings in COVERED_AFTER:
            low, high = searcher.sampler.posterior(searcher.study).interval(0.9)
            covered[trainings] = low <= math.exp(curve.optimum) <= high
        if found < MOST and trainings >= least:
            break
    return Search(curve.model, found, covered)


def main() -> None:
    """Prints one line for each searcher and prior."""
    options = _options()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves = read(options.csv)[:: options.every]
    print(f"{len(curves)} curves, {options.seeds} seeds, range moved by up to {options.shift:g}")
    coverage = [f"cover@{after}" for after in COVERED_AFTER]
    print(ROW.format("searcher", "prior", "mean", "median", "90 %", "missed", *coverage, "ms/ask"))
    for name in options.searchers.split(","):
        for prior in options.priors.split(","):
            started = time.perf_counter()
            searches = list(_searches(curves, name, prior, options.seeds, options.shift))
            print(_row(name, prior, searches, time.perf_counter() - started), flush=True)


def _searches(
    curves: Iterable[Curve], name: str, prior: str, seeds: int, shift: float
) -> Iterator[Search]:
    for curve in curves:
        for seed in range(seeds):
            yield search(curve, name, prior, seed, shift)


def _row(name: str, prior: str, searches: list[Search], seconds: float) -> str:
    trainings = [found.trainings for found in searches]
    models = [str(found.model) for found in searches]
    mean, error = clustered(trainings, [1] * len(trainings), models)
    covered = [
        f"{100 * np.mean([found.covered[after] for found in searches]):.0f} %"
        if all(after in found.covered for found in searches)
        else "-"
        for after in COVERED_AFTER
    ]
    missed = f"{100 * np.mean([count == MOST for count in trainings]):.1f} %"
    middle, late = np.percentile(trainings, [50, 90])
    asks = sum(max(count, *COVERED_AFTER) if name == "own" else count for count in trainings)
    return ROW.format(
        name,
        prior,
        f"{mean:.2f} +-{error:.2f}",
        f"{middle:.0f}",
        f"{late:.0f}",
        missed,
        *covered,
        f"{1e3 * seconds / asks:.1f}",
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("csv", type=Path, help="dense_lr_bs_loss.csv of the Step Law authors")
    parser.add_argument("--searchers", default=",".join(NAMES), help=f"some of {','.join(NAMES)}")
    parser.add_argument("--priors", default=",".join([*WRONG_BY, NO_PRIOR]))
    parser.add_argument("--seeds", type=int, default=1, help="searches on each curve")
    parser.add_argument("--every", type=int, default=1, help="only every n-th curve")
    parser.add_argument("--shift", type=float, default=0.0, help="moves the range, ln rate")
    return parser.parse_args()


if __name__ == "__main__":
    main()
