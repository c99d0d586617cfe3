"""What moves when one of the search's numbers is doubled: each of `studies.numbers` in turn.

    OMP_NUM_THREADS=1 PYTHONPATH=tests/benchmarks python tests/benchmarks/doubled.py
        [--numbers ACCIDENT,SEED_SHIFT] [--set short] [--columns right,10x high] [--seeds 1]

A line a number, each in a process of its own: mean epochs until a rate within 0.5 % of the best was
trained to its end, the excess of the reported rate after 50 epochs, and how often the 90 % interval
held the best rate after four runs.
"""

import argparse
import multiprocessing

import numpy as np

import studies.numbers

NUMBERS = [name for name in vars(studies.numbers) if name.isupper()]
UNDOUBLED = "none"


def measured(name: str, folder: str, columns: list[str], seeds: int) -> str:
    """One line; run in a fresh process, before anything has read the number."""
    if name != UNDOUBLED:
        setattr(studies.numbers, name, _doubled(getattr(studies.numbers, name)))
    from driver import Search
    from replay_epochs import SETS, curves_of, one

    path = SETS[folder].absolute()
    jobs = [
        (path, "own", column, number, seed, 1)
        for column in columns
        for number in range(len(curves_of(path)))
        for seed in range(seeds)
    ]
    found: list[Search] = [each for each in map(one, jobs) if each is not None]
    epochs = np.mean([each.found.get("0.5 %", each.end).epochs for each in found])
    excess = np.mean([each.excess[5] for each in found])
    covered = np.mean([each.covered[4] for each in found if 4 in each.covered])
    return f"{name:20s} {epochs:8.1f} {excess:10.1%} {covered:10.0%}"


def _doubled(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(_doubled(each) for each in value)
    return 2 * value  # type: ignore[operator]


def main() -> None:
    """Prints a line a number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--numbers", default=",".join([UNDOUBLED, *NUMBERS]))
    parser.add_argument("--set", default="short")
    parser.add_argument("--columns", default="right,10x high,none")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    print(f"{'doubled':20s} {'epochs':>8s} {'excess@50':>10s} {'covered@4':>10s}", flush=True)
    context = multiprocessing.get_context("spawn")
    for name in options.numbers.split(","):
        with context.Pool(1) as pool:
            told = name, options.set, options.columns.split(","), options.seeds
            print(pool.apply(measured, told), flush=True)


if __name__ == "__main__":
    main()
