"""Epochs of training that a search takes to a good learning rate, on the recorded curves.

    PYTHONPATH=tests/benchmarks python tests/benchmarks/replay_epochs.py [--searchers own,gp-2]
                                                      [--curves tests/benchmarks/curves-long]

Every searcher is run on each recorded curve (one seed's) several times, with priors whose centre
is right (off by a normal of sd 0.4 in ln rate) or wrong by 3 and 10 either way, with three rules of
which one is right, and with none. A search has come within 1 % when a run at a rate whose final
perplexity, smoothed over the seeds, lies within 1 % of the best has been trained to its end. What
it took until then: epochs, tokens, trainings begun, and seconds where 1, 4 or 8 trials run side by
side, by the measured speed of such cohorts (`costs.json` of `record_curves.py`). A pruned run was
pruned wrongly where it would have ended within 0.5 % of the best one so far. Peers: `pip install
lr-sweep[bench]`.
"""

import argparse
import json
import math
import time
import zlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from epoch_searchers import SEARCHERS, Job, Task
from recorded import Curve, read

from studies.optimum import best_rate

CURVES = Path(__file__).parent / "curves"
WRONG_BY = {"right": 1.0, "3x high": 3.0, "3x low": 1 / 3, "10x high": 10.0, "10x low": 0.1}
RULES, NO_PRIOR = "rules", "none"
SPACING = 6.0  # between two rules' rates, a factor: sqrt for a batch 36 times larger
CENTRE_SD, WIDTH = 0.4, 0.5  # of the right centre's ln rate; what searchers are told of it
TOLERANCES = {"1 %": math.log(1.01), "0.5 %": math.log(1.005)}
NEAR_BEST = math.log(1.005)
MOST = 40  # whole trainings' worth of epochs after which a search is given up
COVERED_AFTER = (4, 8)  # runs that ended


@dataclass(slots=True)
class Spent:
    """What a search has spent so far."""

    epochs: int = 0
    trainings: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Search:
    """What one search came to.

    Attributes:
        found: by tolerance, what was spent until then; missing where it was not found.
        end: what was spent in all.
        prunes: runs that were pruned.
        wrong: of those, the ones that would have ended near the best.
        covered: whether the 90 % interval shown held the optimum, by runs that ended.
    """

    found: dict[str, Spent] = field(default_factory=dict)
    end: Spent = field(default_factory=Spent)
    prunes: int = 0
    wrong: int = 0
    covered: dict[int, bool] = field(default_factory=dict)


class Driver:
    """Runs one searcher on one curve, a cohort of runs side by side, epoch by epoch."""

    def __init__(self, curve: Curve, name: str, task: Task, cohort: int, costs: list[float]):
        self._curve, self._cohort, self._costs = curve, cohort, costs
        self._searcher = SEARCHERS[name](task)
        self._watched = COVERED_AFTER if name == "own" else ()
        self._active: list[Job] = []
        self._runs: set[int] = set()
        self._ended = 0
        self._best = math.inf
        self.search, self._spent = Search(), Spent()

    def run(self) -> Search:
        """Until the closest tolerance is met, or `MOST` trainings' epochs are spent."""
        most = MOST * self._curve.epochs
        while self._spent.epochs < most and not self._done():
            while len(self._active) < self._cohort:
                job = self._searcher.ask()
                self._runs.add(job.run)
                self._active.append(job)
            self._epoch()
        self.search.end = self._spent
        return self.search

    def _done(self) -> bool:
        found = len(self.search.found) == len(TOLERANCES)
        return found and self._ended >= max(self._watched, default=0)

    def _epoch(self) -> None:
        """One epoch of all active runs: all are reported first, then judged."""
        trained = [job for job in self._active if not self._is_over(job)]
        self._spent.epochs += len(trained)
        self._spent.seconds += self._costs[len(trained) - 1] if trained else 0.0
        self._spent.trainings = len(self._runs)
        for job in trained:
            job.losses.append(float(self._curve.losses(job.x)[len(job.losses)]))
            self._searcher.report(job)
        for job in list(self._active):
            if self._is_over(job):
                self._end(job, pruned=False)
            elif self._searcher.stops(job):
                self._end(job, pruned=True)

    def _is_over(self, job: Job) -> bool:
        diverged = bool(job.losses) and not math.isfinite(job.losses[-1])
        return diverged or len(job.losses) >= job.until

    def _end(self, job: Job, *, pruned: bool) -> None:
        self._active.remove(job)
        self._searcher.end(job, pruned=pruned)
        self._ended += 1
        whole = len(job.losses) == self._curve.epochs and math.isfinite(job.losses[-1])
        if pruned:
            self.search.prunes += 1
            final = float(self._curve.losses(job.x).min())
            lost = not np.isfinite(self._curve.losses(job.x)).all()
            self.search.wrong += not lost and final <= self._best + NEAR_BEST
        elif whole:
            self._best = min(self._best, *job.losses)
            for tolerance, nats in TOLERANCES.items():
                if tolerance not in self.search.found and self._curve.excess(job.x) <= nats:
                    spent = self._spent
                    self.search.found[tolerance] = Spent(
                        spent.epochs, spent.trainings, spent.seconds
                    )
        if self._ended in self._watched:
            posterior = self._searcher.sampler.posterior(self._searcher.study)
            _, low, high = best_rate(posterior)  # as the report shows it
            self.search.covered[self._ended] = low <= math.exp(self._curve.optimum) <= high


def centres(curve: Curve, prior: str, rng: np.random.Generator) -> list[float]:
    """What is believed of the best rate, the centre to be tried first in front."""
    right = math.exp(curve.optimum + rng.normal(0.0, CENTRE_SD))
    place = int(rng.integers(3))
    if prior == NO_PRIOR:
        return []
    if prior != RULES:
        return [right * WRONG_BY[prior]]
    rates = [right * SPACING ** (number - place) for number in range(3)]
    return [rates[1], rates[0], rates[2]]


def search(
    curve: Curve, name: str, prior: str, seed: int, cohort: int, costs: dict[str, list[float]]
) -> Search:
    """Runs one search; `seed` is of the centre's error and of the searcher."""
    rng = _generator(curve, seed)
    rates = centres(curve, prior, rng)
    drawn = int(rng.integers(2**31))
    low, high = math.exp(curve.low), math.exp(curve.high)
    told = curve.baseline, curve.constant_rate
    task = Task(rates, WIDTH, low, high, curve.epochs, drawn, *told)
    return Driver(curve, name, task, cohort, costs[str(curve.batch)]).run()


def summary(name: str, prior: str, curves: list[Curve], searches: list[Search], took: float) -> str:
    """The lines of one searcher and prior: one for each tolerance."""
    lines = []
    prunes, wrong = sum(s.prunes for s in searches), sum(s.wrong for s in searches)
    covered = [
        np.mean([s.covered[n] for s in searches if n in s.covered] or [math.nan])
        for n in COVERED_AFTER
    ]
    for tolerance in TOLERANCES:
        spent = [s.found.get(tolerance, s.end) for s in searches]
        epochs = np.array([each.epochs for each in spent])
        tokens = np.mean([each.epochs * c.tokens for each, c in zip(spent, curves, strict=True)])
        middle, late = np.percentile(epochs, [50, 90])
        missed = np.mean([tolerance not in s.found for s in searches])
        lines.append(
            f"{name:14s} {prior:9s} {tolerance:>6s} {epochs.mean():7.1f} {middle:6.0f} {late:6.0f} "
            f"{tokens / 1e6:8.2f} {np.mean([each.trainings for each in spent]):6.2f} "
            f"{np.mean([each.seconds for each in spent]):7.1f} {missed:6.1%} "
            f"{prunes / len(searches):6.2f} {wrong / max(prunes, 1):6.1%} "
            + " ".join("     -" if math.isnan(share) else f"{share:6.0%}" for share in covered)
        )
    return "\n".join([*lines[:-1], f"{lines[-1]}  ({took:.0f} s)"])


HEAD = (
    f"{'searcher':14s} {'prior':9s} {'within':>6s} {'epochs':>7s} {'median':>6s} {'90 %':>6s} "
    f"{'M tokens':>8s} {'begun':>6s} {'seconds':>7s} {'missed':>6s} {'prunes':>6s} {'wrong':>6s} "
    + " ".join(f"{f'cov@{n}':>6s}" for n in COVERED_AFTER)
)


def knows_the_curve(curves: list[Curve], prior: str, seeds: int) -> float:
    """Mean epochs to 0.5 % of one who knows the curve's shape, but not where it lies.

    It trains the told rate first (with no prior the middle of the range). If that is no hit, it
    knows how far off it is, but not on which side: it begins on either, and learns after an epoch
    whether that is the wrong one.
    """
    epochs = []
    for curve, seed in ((curve, seed) for seed in range(seeds) for curve in curves):
        rates = centres(curve, prior, _generator(curve, seed))
        first = math.log(rates[0]) if rates else (curve.low + curve.high) / 2
        hit = curve.excess(min(max(first, curve.low), curve.high)) <= NEAR_BEST
        epochs.append(curve.epochs if hit else 2 * curve.epochs + 0.5)
    return float(np.mean(epochs))


def _generator(curve: Curve, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, curve.seed, zlib.crc32(curve.name.encode())])


def _costs(folder: Path, cohort: int) -> dict[str, list[float]]:
    """By batch size, the seconds that an epoch of 1, 2, ... runs side by side takes."""
    path = folder / "costs.json"
    if not path.exists():
        return dict.fromkeys(("32", "128", "512", "2048"), [math.nan] * cohort)
    stored = json.loads(path.read_text(encoding="utf-8"))["epoch_s"]
    sizes = range(1, cohort + 1)
    return {
        batch: list(np.interp(sizes, [int(size) for size in by_size], list(by_size.values())))
        for batch, by_size in stored.items()
    }


def main() -> None:
    """Prints two lines for each searcher and prior."""
    options = _options()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves = read(options.curves)
    costs = _costs(options.curves, options.cohort)
    pairs = [(curve, seed) for seed in range(options.seeds) for curve in curves]
    print(
        f"{len(curves)} curves by {options.seeds} seeds = {len(pairs)} searches a line, "
        f"cohort of {options.cohort}"
    )
    print(HEAD, flush=True)
    for name in options.searchers.split(","):
        for prior in options.priors.split(","):
            started = time.perf_counter()
            one = partial(search, name=name, prior=prior, cohort=options.cohort, costs=costs)
            searches = [one(curve, seed=seed) for curve, seed in pairs]
            took = time.perf_counter() - started
            print(summary(name, prior, [c for c, _ in pairs], searches, took), flush=True)
    print("epochs to 0.5 % of one who knows the curve's shape, but not where it lies:")
    for prior in options.priors.split(","):
        print(f"  {prior:9s} {knows_the_curve(curves, prior, seeds=100):5.1f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--searchers", default=",".join(SEARCHERS))
    parser.add_argument("--priors", default=",".join([*WRONG_BY, RULES, NO_PRIOR]))
    parser.add_argument("--seeds", type=int, default=6, help="searches on each curve")
    parser.add_argument("--cohort", type=int, default=1, help="trials side by side")
    return parser.parse_args()


if __name__ == "__main__":
    main()
