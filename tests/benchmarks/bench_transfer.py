"""How well the optimum is forecast at 4 to 8 times the batch, on the Step Law runs.

    python tests/benchmarks/bench_transfer.py dense_lr_bs_loss.csv

A task: from the optima at three neighbouring batch sizes of one setting (parameters, tokens), say
the one at 4 to 8 times the largest of them. Errors are in ln rate. The optimum of a batch size is

- "grid": the posterior mean from all its runs (up to 12 rates), as a finished study gives it;
- "parabola": of the runs within 0.06 nats of the best one, as a check by other means;
- "sweep": what a study of a few trainings says; tasks start from these, and are still scored by
  the grid's.

"Held out" refits the level and the width of the usual critical batch for every setting without it.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from searchers import Searcher
from steplaw import HIGH, LOW, Array, Curve, read, runs

from studies.exponents import fit_exponents
from studies.law import WITHIN, Critical, Estimate, Swept
from studies.likelihood import Observations
from studies.observed import Terms, posterior_of
from studies.posterior import Posterior
from studies.rules import Setting
from studies.transfer import predict, usual_critical_batch

SEQUENCE_TOKENS = 2048.0
NEAR = 0.06  # nats, of the parabola
SHIFTS, WIDTHS = np.linspace(-0.6, 0.6, 7), (0.3, 0.4, 0.5)  # of the prior of ln Bc
REACH = np.linspace(-8.0, 8.0, 321)
NOTHING = np.zeros(0)

Model = tuple[int, int]
Optima = dict[Model, dict[int, Swept]]
Runs = tuple[Array, Array]
Forecast = tuple[float, float]  # mean and sd of ln rate


@dataclass(frozen=True, slots=True)
class Task:
    """Three batch sizes of one setting, and the one that is wanted."""

    model: Model
    seen: tuple[int, int, int]
    wanted: int


def main() -> None:
    """Prints the table, then the exponents."""
    options = _options()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves = read(options.csv)
    raw = runs(options.csv)
    grid = steplaw_optima(curves, raw)
    vertices = {(c.model, c.batch): _parabola(*raw[*c.model, c.batch]) for c in curves}
    tasks = list(_tasks(grid))
    print(f"{len(curves)} optima of {len(grid)} settings, {len(tasks)} tasks; rms in ln rate")
    print(f"{'forecast':34s} {'grid':>6s} {'parabola':>9s} {'90 % holds':>11s} {'width':>6s}")
    for name, forecast in _forecasters(grid, tasks).items():
        _row(name, tasks, grid, vertices, forecast)
    if options.trainings:
        swept = _optima(curves, lambda curve: _swept(curve, options.trainings))
        name = f"this, sweeps of {options.trainings} trainings"
        _row(name, tasks, grid, vertices, lambda task: _shipped(swept, task))
    _print_exponents(grid)


def steplaw_optima(curves: Iterable[Curve], raw: dict[tuple[int, int, int], Runs]) -> Optima:
    """Each batch size's optimum from all its runs, by setting."""
    return _optima(curves, lambda curve: _posterior(*raw[*curve.model, curve.batch]))


def _optima(curves: Iterable[Curve], find: Callable[[Curve], Posterior]) -> Optima:
    found: Optima = defaultdict(dict)
    for curve in curves:
        x, weight = find(curve).density
        mean = float(x @ weight)
        sd = math.sqrt(float(weight @ (x - mean) ** 2))
        found[curve.model][curve.batch] = Swept("", Setting(curve.batch, *curve.model), mean, sd)
    return dict(found)


def _posterior(x: Array, y: Array) -> Posterior:
    return Posterior(Observations(x, y, NOTHING, NOTHING), {}, LOW, HIGH)


def _swept(curve: Curve, trainings: int) -> Posterior:
    searcher = Searcher("own", None, LOW, HIGH, seed=0)
    noise = np.random.default_rng([*curve.model, curve.batch])
    for _ in range(trainings):
        searcher.train(partial(curve.trained, rng=noise))
    return posterior_of(searcher.study.trials, Terms(LOW, HIGH))


def _parabola(x: Array, y: Array) -> float:
    near = y < y.min() + NEAR
    if near.sum() < 4:
        return math.nan
    square, slope, _ = np.polyfit(x[near], y[near], 2)
    return float(-0.5 * slope / square) if square > 0 else math.nan


def _tasks(optima: Optima) -> Iterator[Task]:
    for model, batches in sorted(optima.items()):
        sizes = sorted(batches)
        for a, b, c in zip(sizes, sizes[1:], sizes[2:], strict=False):
            for wanted in sizes:
                if 4 <= wanted / c <= 8:
                    yield Task(model, (a, b, c), wanted)


def _forecasters(grid: Optima, tasks: list[Task]) -> dict[str, Callable[[Task], Forecast]]:
    def power(p: float) -> Callable[[Task], Forecast]:
        return lambda task: (
            grid[task.model][task.seen[2]].mean + p * math.log(task.wanted / task.seen[2]),
            math.nan,
        )

    held_out = _held_out(grid, tasks)
    return {
        "unscaled": power(0.0),
        "p = 0.25": power(0.25),
        "sqrt": power(0.5),
        "linear": power(1.0),
        "power law, p ~ N(0.5, 0.35)": lambda task: _power_law(grid, task),
        "saturating, Bc free": lambda task: _saturating(grid, task),
        "this": lambda task: _shipped(grid, task),
        "this, held out": lambda task: _forecast(grid, task, *held_out[task.model]),
    }


def _shipped(optima: Optima, task: Task) -> Forecast:
    return _forecast(optima, task, 0.0, None)


def _forecast(optima: Optima, task: Task, shift: float, width: float | None) -> Forecast:
    usual = usual_critical_batch(task.model[1], SEQUENCE_TOKENS)
    critical = Critical(usual.median + shift, width or usual.sd)
    seen = [optima[task.model][batch] for batch in task.seen]
    there = predict(seen, replace(seen[0].setting, batch_size=task.wanted), critical)
    return math.log(there.rate), there.width


def _held_out(grid: Optima, tasks: list[Task]) -> dict[Model, tuple[float, float]]:
    """For each setting, the shift and the width that do best on all the others."""
    choices = [(float(shift), width) for shift in SHIFTS for width in WIDTHS]
    errors = {
        choice: np.array(
            [_forecast(grid, t, *choice)[0] - grid[t.model][t.wanted].mean for t in tasks]
        )
        for choice in choices
    }
    models = [task.model for task in tasks]
    best = {}
    for model in grid:
        others = np.array([other != model for other in models])
        best[model] = min(choices, key=lambda c: float((errors[c][others] ** 2).mean()))
    return best


def _power_law(grid: Optima, task: Task) -> Forecast:
    seen = [grid[task.model][batch] for batch in task.seen]
    fitted = fit_exponents(seen).batch
    assert fitted is not None
    centre = np.mean(np.log(task.seen)), np.mean([each.mean for each in seen])
    return float(centre[1] + fitted.value * (math.log(task.wanted) - centre[0])), math.nan


def _saturating(grid: Optima, task: Task) -> Forecast:
    """ln lr = c - ln(1 + Bc/B) by least squares."""
    seen = np.array([grid[task.model][batch].mean for batch in task.seen])
    bc = math.log(task.seen[1]) + REACH
    level = seen[:, None] + np.logaddexp(0.0, bc - np.log(task.seen)[:, None])
    best = int(level.var(axis=0).argmin())
    there = level[:, best].mean() - np.logaddexp(0.0, bc[best] - math.log(task.wanted))
    return float(there), math.nan


def _row(
    name: str,
    tasks: list[Task],
    grid: Optima,
    vertices: dict[tuple[Model, int], float],
    forecast: Callable[[Task], Forecast],
) -> None:
    said = np.array([forecast(task) for task in tasks])
    by_grid = said[:, 0] - [grid[task.model][task.wanted].mean for task in tasks]
    by_parabola = said[:, 0] - [vertices[task.model, task.wanted] for task in tasks]
    rms = math.sqrt(np.mean(by_grid**2)), math.sqrt(np.nanmean(by_parabola**2))
    inside, width = "-", "-"
    if not np.isnan(said[:, 1]).any():
        inside = f"{100 * np.mean(np.abs(by_grid) < WITHIN * said[:, 1]):.0f} %"
        width = f"{np.mean(said[:, 1]):.2f}"
    print(f"{name:34s} {rms[0]:6.2f} {rms[1]:9.2f} {inside:>11s} {width:>6s}", flush=True)


def _print_exponents(grid: Optima) -> None:
    print("\nparameters  tokens   p (tokens held fixed)    Bc")
    for (parameters, tokens), optima in sorted(grid.items()):
        found = fit_exponents(list(optima.values()))
        line = f"{parameters / 1e6:8.0f} M {tokens / 1e9:6.1f} G  "
        print(line + f"{_shown(found.batch):24s} {_shown(found.critical_batch, '.0f')}")
    print("\nq, tokens for each parameter held fixed")
    groups: dict[float, list[Swept]] = defaultdict(list)
    for (parameters, tokens), optima in grid.items():
        groups[round(tokens / parameters, -1)] += optima.values()
    for ratio, several in sorted(groups.items()):
        q = fit_exponents(several).parameters
        if q is not None:
            models = len({each.setting.parameters for each in several})
            print(f"{ratio:8.0f}  {_shown(q)}  ({models} sizes)")


def _shown(found: Estimate | None, form: str = ".2f") -> str:
    if found is None:
        return "-"
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("csv", type=Path, help="dense_lr_bs_loss.csv of the Step Law authors")
    parser.add_argument("--trainings", type=int, default=8, help="of each sweep; 0: no sweeps")
    return parser.parse_args()


if __name__ == "__main__":
    main()
