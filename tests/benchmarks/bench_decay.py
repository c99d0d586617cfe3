"""How many runs it takes to find a good rate and weight decay together, on MarinFold's runs.

python tests/benchmarks/bench_decay.py --data marinfold_lr_wd_batch_epochs.csv

The 42 runs of a model of 1.5 billion parameters over eight epochs (rate x weight decay x batch
size, val_loss in nats) are a pool. The search may train those alone: of the runs that are left it
takes the one that it expects to gain most by. Counted is how many it takes until one is within
0.025 nats of the pool's best, and how far the best of the first five lies above it; of random draws
both are what is expected.

Batch sizes are one pool by their timescale, B / (rate x decay x D): a rate counts as that at batch
128 with the same one. They are also three studies of their own. What is believed beforehand is a
rate at a decay of 0.1: that of the four-epoch sweep of the same table ("four"), one that is right
here, one 10 times too high or too low, each drawn (`SEEDS` draws, sd of ln 0.4); or nothing.
"""

import argparse
import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from studies.decay import DECAY, WIDE_DECAY, DecaySearch
from studies.definition import PARAMETER, WIDE
from studies.objective import VALIDATION_LOSS, Objective
from studies.observed import Terms, posterior_of
from studies.prior import Prior
from studies.table import Array

MODEL, EPOCHS, USUAL_BATCH = 1471371264, 8, 128
CLOSE = 0.025  # nats
FEW = 5  # runs
# Rates at a decay of 0.1 and batch 128: the best of four epochs was 1e-3, at 0.05.
BELIEVED = {"four": 1e-3, "right": 3e-3, "high": 3e-2, "low": 3e-4}
SEARCH = DecaySearch(0.02, 3.2, 0.1, 1.5)
LOW, HIGH = 3e-5, 3e-2
SEEDS, DRAWN_SD = 6, 0.4
ROW = "{:>6} {:>5} {:>5}  {:>7}  {:>7} {:>7} {:>7} {:>7} {:>7}"


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the pool; its rate is that at batch 128 of the same timescale."""

    rate: float
    decay: float
    loss: float
    batch: int


def read(path: Path) -> list[Run]:
    """The 42 runs."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Run(
            float(row["learning_rate"]) * USUAL_BATCH / int(row["batch_size"]),
            float(row["weight_decay"]),
            float(row["val_loss"]),
            int(row["batch_size"]),
        )
        for row in rows
        if int(row["num_params"]) == MODEL and int(row["epochs"]) == EPOCHS
    ]


def search(pool: Sequence[Run], priors: Mapping[str, Prior]) -> tuple[int, float]:
    """How many runs until one is close to the best, and the nats left after `FEW` of them."""
    best = min(run.loss for run in pool)
    terms = Terms(
        LOW, HIGH, priors, objective=Objective(VALIDATION_LOSS), decay=SEARCH, pauses=False
    )
    left, above = list(pool), list[float]()
    trials: list[FrozenTrial] = []
    while len(trials) < FEW or min(above) > CLOSE:
        posterior = posterior_of(trials, terms)
        run = left.pop(int(posterior.improvement(_places(left)).argmax()))
        trials.append(_trial(len(trials), run))
        above.append(run.loss - best)
    until = next(i for i, each in enumerate(above, 1) if each <= CLOSE)
    return until, min(above[:FEW])


def by_chance(pool: Sequence[Run]) -> tuple[float, float]:
    """The same of random draws, as expected."""
    losses = sorted(run.loss for run in pool)
    close = sum(loss <= losses[0] + CLOSE for loss in losses)
    n = len(losses)
    chances = [math.comb(n - 1 - rank, FEW - 1) / math.comb(n, FEW) for rank in range(n)]
    left = sum(c * (loss - losses[0]) for c, loss in zip(chances, losses, strict=True))
    return (n + 1) / (close + 1), left


def _places(runs: Sequence[Run]) -> Array:
    return np.log([[run.rate, run.decay] for run in runs])


def _trial(number: int, run: Run) -> FrozenTrial:
    spaces: dict[str, FloatDistribution] = {PARAMETER: WIDE, DECAY: WIDE_DECAY}
    trial = create_trial(
        state=TrialState.COMPLETE,
        value=run.loss,
        params={PARAMETER: run.rate, DECAY: run.decay},
        distributions=dict(spaces),
    )
    trial.number = number
    return trial


def main() -> None:
    """Prints a line for each pool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="MarinFold's table of runs.")
    runs = read(parser.parse_args().data)
    batches = sorted({run.batch for run in runs})
    pools = {"all": runs} | {str(b): [run for run in runs if run.batch == b] for b in batches}
    drawn = np.exp(np.random.default_rng(0).normal(0.0, DRAWN_SD, SEEDS)).tolist()
    print(f"runs until within {CLOSE} nats of the best; nats left after {FEW}")
    print(ROW.format("batch", "runs", "close", "random", *BELIEVED, "none"))
    for name, pool in pools.items():
        best = min(run.loss for run in pool)
        close = sum(run.loss <= best + CLOSE for run in pool)
        found = [
            [search(pool, {"told": Prior(rate * each, 0.8)}) for each in drawn]
            for rate in BELIEVED.values()
        ]
        found += [[search(pool, {})]]
        means = [tuple(map(statistics.mean, zip(*each, strict=True))) for each in found]
        every = [by_chance(pool), *means]
        print(ROW.format(name, len(pool), close, *(f"{runs:.2f}" for runs, _ in every)))
        print(ROW.format("", "", "", *(f"{left:.3f}" for _, left in every)), flush=True)


if __name__ == "__main__":
    main()
