"""Epochs of training that a search takes to a good learning rate, on the recorded curves.

    OMP_NUM_THREADS=1 PYTHONPATH=tests/benchmarks python tests/benchmarks/replay_epochs.py
        [--set long] [--searchers own,gp-2] [--columns product,right] [--seeds 2] [--jobs 2]

Every searcher is run on each recorded curve (one seed's) several times, with what each of
`columns` believes. A search goes on until a run at a rate whose final perplexity, smoothed over the
seeds, lies within 0.5 % of the best has been trained to its end, for ten whole runs' worth of
epochs at least, and until the searcher has said that enough is known, if it ever does. What it came
to on its way (`driver.Search`) makes the `tables`. Curves of one setting are alike: standard errors
are over settings. Peers: `pip install lr-sweep[bench]`.
"""

import argparse
import dataclasses
import json
import math
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import optuna
import taskset
from columns import COLUMNS, task
from driver import NEAR_BEST, TOLERANCES, Search, Spent, Stop, search
from epoch_peers import UnavailableError
from epoch_searchers import SEARCHERS
from recorded import Curve, read
from tables import tables

HERE = Path(__file__).parent
SETS = {
    "short": HERE / "curves",
    "long": HERE / "curves-long",
    "held-out": HERE / "curves-held-out",
    "packed": HERE / "curves-packed",
    "bytes": HERE / "curves-bytes",
}

Job = tuple[Path, str, str, int, int, int]  # folder, searcher, column, curve, seed, cohort


@cache
def curves_of(folder: Path) -> list[Curve]:
    """A folder's curves, read once by each process."""
    return taskset.read(folder) if taskset.files(folder) else read(folder)


def one(job: Job) -> Search | None:
    """One search; None where its column says nothing of its curve."""
    folder, name, column, number, seed, cohort = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves = curves_of(folder)
    curve = curves[number]
    costs = _costs(folder, curve.part.batch, cohort)
    return search(curve, name, column, seed, curves, costs)


def knows_the_curve(curves: Sequence[Curve], column: str, seeds: int) -> float:
    """Mean epochs to 0.5 % of one who knows the curve's shape, but not where it lies.

    It trains the told rate first (with no prior the middle of the range). If that is no hit, it
    knows how far off it is, but not on which side: it begins on either, and learns after an epoch
    whether that is the wrong one.
    """
    epochs = []
    for curve, seed in ((curve, seed) for seed in range(seeds) for curve in curves):
        told = task(curve, column, seed, curves)
        if told is not None:
            rate = told.centres[0] if told.centres else math.sqrt(told.low * told.high)
            hit = curve.excess(math.log(told.within(rate))) <= NEAR_BEST
            epochs.append(curve.epochs if hit else 2 * curve.epochs + 0.5)
    return float(np.mean(epochs)) if epochs else math.nan


def main() -> None:
    """Prints the tables, and keeps every search where it is asked to."""
    options = _options()
    folder = (options.curves or SETS[options.set]).absolute()
    curves = curves_of(folder)
    if not curves:
        raise SystemExit(f"no recorded curves in {folder}")
    columns = options.columns.split(",")
    names = [name for name in options.searchers.split(",") if name]
    searches: list[Search] = []
    print(f"{len(curves)} curves by {options.seeds} seeds, cohort of {options.cohort}")
    for name in names:
        started = time.perf_counter()
        jobs = [
            (folder, name, column, number, seed, options.cohort)
            for column in columns
            for number in range(len(curves))
            for seed in range(options.seeds)
        ]
        try:
            searches += [each for each in _results(jobs, options.jobs) if each is not None]
            print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
        except UnavailableError as error:
            print(f"{name} was not run: {error}", flush=True)
        if options.json:
            _write(options.json, searches)
    for path in options.beside:
        searches += [each for each in _stored(path) if each.searcher not in names]
    if searches:
        print("", tables(searches), "", sep="\n")
    print("Epochs of one who knows the curve's shape, but not where it lies:")
    known = {name: knows_the_curve(curves, name, seeds=100) for name in columns}
    print(", ".join(f"{name} {mean:.1f}" for name, mean in known.items() if not math.isnan(mean)))
    over = np.mean([curve.excess_of_own() > TOLERANCES["1 %"] for curve in curves])
    print(f"Seeds whose own best rate lies over 1 % above the best: {100 * over:.0f} %")


def _results(jobs: list[Job], processes: int) -> Iterator[Search | None]:
    if processes == 1:
        yield from map(one, jobs)
        return
    # Not forked: a forked process of torch's threads may hang.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(one, jobs)


def _write(path: Path, searches: Sequence[Search]) -> None:
    rows = ",\n".join(json.dumps(dataclasses.asdict(each)) for each in searches)
    path.write_text(f"[\n{rows}\n]\n", encoding="utf-8")


def _stored(path: Path) -> Iterator[Search]:
    for row in json.loads(path.read_text(encoding="utf-8")):
        row["found"] = {tolerance: Spent(**spent) for tolerance, spent in row["found"].items()}
        row["end"] = Spent(**row["end"])
        row["stop"] = Stop(**row["stop"]) if row["stop"] else None
        for key in ("excess", "covered"):
            row[key] = {int(number): value for number, value in row[key].items()}
        yield Search(**row)


@cache
def _costs(folder: Path, batch: int, cohort: int) -> list[float]:
    """The seconds that an epoch of 1, 2, ... runs side by side takes; NaN where none is known."""
    path = folder / "costs.json"
    stored = json.loads(path.read_text(encoding="utf-8"))["epoch_s"] if path.exists() else {}
    by_size = stored.get(str(batch), {"1": math.nan})
    sizes = range(1, cohort + 1)
    return list(np.interp(sizes, [int(size) for size in by_size], list(by_size.values())))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--set", choices=SETS, default="short")
    parser.add_argument("--curves", type=Path, help="another folder, or one of TaskSet's files")
    parser.add_argument("--searchers", default="own,gp-2", help=f"of {','.join(SEARCHERS)}")
    parser.add_argument("--columns", default=",".join(COLUMNS))
    parser.add_argument("--seeds", type=int, default=6, help="searches on each curve")
    parser.add_argument("--cohort", type=int, default=1, help="trials side by side")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, help="a file for every search's results")
    parser.add_argument(
        "--beside", type=Path, nargs="*", default=[], help="such files of other searchers to show"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
