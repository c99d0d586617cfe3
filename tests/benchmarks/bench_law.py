"""How well the best rate and the safe rate are forecast for longer runs and larger models.

    python tests/benchmarks/bench_law.py DATA

DATA holds marin/optimizer_runs.csv and steplaw/dense_lr_bs_loss.csv. Marin: a task is a setting of
4 Chinchillas or more; the forecast rests on that optimizer's studies of at most a quarter of its
tokens and no larger models, one of them of the same model. The numbers of `studies.law` and
`studies.walls` were chosen by the optimizers of `CHOSEN_ON` and by Step Law; the others are held
out. Step Law: from a setting's studies of shorter runs to longer ones; and the exponents, and the
forecasts of large settings, that a part of the grid's cells give, chosen by `sweep plan`, drawn at
random, or as grids: some batch sizes of some settings of model size and length, at the same cost.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import marin
import numpy as np
import steplaw
from bench_transfer import steplaw_optima

from studies.choosing import Candidate, choose
from studies.law import FINEST, MISFIT, WITHIN, Array, Critical, Law, Slopes, Swept
from studies.rules import Setting
from studies.transfer import usual_critical_batch
from studies.walls import Wall

CHOSEN_ON = ("adamw", "lion", "mini", "muon")
SHORTER = 3.9  # times: a grid's lengths are a factor of 2 apart, more or less
SEQUENCE_TOKENS = 2048.0  # of Step Law
LEAST_SD = 0.5  # a Step Law optimum that is known no better is none
RATES_A_CELL = 12  # of Step Law's grid
SHARES, DRAWS = (1 / 16, 1 / 8, 1 / 4), 100  # of the grid's cost; random sets of cells
BEYOND, TARGET_BATCHES = 8, (256, 512, 1024, 2048)  # times the largest model and length
DRAWS_A_TARGET = 12
LARGE, SMALLER = (4.2e8, 1.9e10), 1.2  # parameters and tokens of a target; the others', as a ratio
SIMULATED = 10_000  # times that all runs are lost or not, by the risks said
GRID_BATCHES = 2, 7  # batch sizes of a grid, from and below
AXES = ("batch", "parameters", "length")


@dataclass(frozen=True, slots=True)
class Task:
    """A setting that is forecast from others."""

    target: marin.Study
    seen: list[marin.Study]

    @property
    def nearest(self) -> marin.Study:
        """The longest run seen of the same model."""
        return [study for study in self.seen if study.model == self.target.model][-1]


@dataclass(frozen=True, slots=True)
class Said:
    """A forecast: mean and sd of ln rate, and the wall; None of a rule that knows none."""

    mean: float
    sd: float = math.nan
    wall: Wall | None = None


def main() -> None:
    """Prints Marin's two groups and all of them, then Step Law."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder of marin/ and steplaw/")
    data = parser.parse_args().data
    studies = marin.read(data / "marin" / "optimizer_runs.csv")
    tasks = list(_tasks(studies))
    groups: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("chosen by", lambda optimizer: optimizer in CHOSEN_ON),
        ("held out", lambda optimizer: optimizer not in CHOSEN_ON),
        ("all", lambda optimizer: True),
    )
    for name, within in groups:
        _marin(name, [task for task in tasks if within(task.target.optimizer)])
    optima = _step_law_optima(data / "steplaw" / "dense_lr_bs_loss.csv")
    _step_law(optima)
    _plans(optima)
    for unit in ("runs", "operations"):
        _planned_forecasts(optima, unit)


def _tasks(studies: Sequence[marin.Study]) -> Iterator[Task]:
    for target in studies:
        seen = [
            study
            for study in studies
            if study.optimizer == target.optimizer
            and study.setting.parameters <= target.setting.parameters
            and _tokens(study.setting) <= _tokens(target.setting) / SHORTER
        ]
        if target.chinchilla >= 4 and any(study.model == target.model for study in seen):
            yield Task(target, seen)


def _law(task: Task) -> Said:
    return _by_law(task, [study.swept for study in task.seen])


def _law_from_truths(task: Task) -> Said:
    """The law, were each study's optimum known as the targets' are."""
    optima = [
        replace(study.swept, mean=study.truth[0], sd=max(study.truth[1], FINEST), belief=None)
        if study.truth
        else study.swept
        for study in task.seen
    ]
    return replace(_by_law(task, optima), wall=None)


def _by_law(task: Task, optima: list[Swept]) -> Said:
    law = Law(optima, _critical([each.setting for each in optima]))
    mean, variance = law.at(task.target.setting)
    return Said(mean, math.sqrt(variance + MISFIT**2), Wall(law, task.target.setting))


def _carried(exponent: float) -> Callable[[Task], Said]:
    """From the longest run of the same model, by a power of the tokens."""

    def said(task: Task) -> Said:
        near = task.nearest
        start = near.truth[0] if near.truth else near.best
        ratio = _tokens(task.target.setting) / _tokens(near.setting)
        return Said(start + exponent * math.log(ratio))

    return said


def _marin(name: str, tasks: list[Task]) -> None:
    known = [task for task in tasks if task.target.truth]
    own = [task.target.truth[1] for task in known if task.target.truth]
    print(f"\nMarin, {name}: {len(tasks)} settings, {len(known)} with an optimum")
    print(f"the truth's own error {_rms(own):.2f} ln, and a tenth: {1.1 * _rms(own):.2f}")
    heads = ("rms", "bias", "90 % holds", "width", "rms in sds", "median cost", "failed")
    print(f"{'forecast':22s}" + "".join(f"{head:>13s}" for head in heads))
    rules = {"the old rate": 0.0, "D^-0.2": -0.2, "D^-0.32": -0.32}
    said = [_law(task) for task in known]
    _marin_row("the law", known, said)
    _marin_row("the law, from truths", known, [_law_from_truths(task) for task in known])
    for rule, exponent in rules.items():
        _marin_row(rule, known, [_carried(exponent)(task) for task in known])
    _risks(tasks, [_law(task) for task in tasks])


def _marin_row(name: str, tasks: list[Task], said: list[Said]) -> None:
    truths = np.array([task.target.truth for task in tasks])
    errors = np.array([each.mean for each in said]) - truths[:, 0]
    sd = np.array([each.sd for each in said])
    costs = [task.target.cost(each.mean) for task, each in zip(tasks, said, strict=True)]
    holds, width, in_sds = "-", "-", "-"
    if not np.isnan(sd).any():
        z = errors / np.hypot(sd, truths[:, 1])
        holds = f"{100 * np.mean(np.abs(z) < WITHIN):.0f} %"
        width, in_sds = f"{sd.mean():.2f}", f"{_rms(z):.2f}"
    print(
        f"{name:22s}{_rms(errors):13.2f}{errors.mean():13.2f}{holds:>13s}{width:>13s}{in_sds:>13s}"
        f"{np.median(costs):13.4f}{np.isinf(costs).sum():13d}"
    )


def _risks(tasks: list[Task], said: list[Said]) -> None:
    """The risk of every rate that was trained, in fifths, and the 5 % rate."""
    pairs, above, distance = [], 0, []
    for task, each in zip(tasks, said, strict=True):
        assert each.wall is not None
        target, safe = task.target, math.log(each.wall.safe)
        lost = set(target.lost.tolist())
        pairs += [(each.wall.risk(x), x in lost) for x in target.tried.tolist()]
        above += bool(len(lost)) and min(lost) <= safe
        distance.append(safe - each.mean)
    risk = np.array(sorted(pairs), dtype=float)
    fifths = np.array_split(risk, 5)
    print(f"risk of {len(risk)} runs, said and seen by fifths:", end="")
    for fifth in fifths:
        error = math.sqrt(max(float((fifth[:, 0] * (1 - fifth[:, 0])).sum()), 0.0)) / len(fifth)
        said_mean, seen_mean = fifth.mean(0)
        print(f"  {said_mean:.2f} {seen_mean:.2f} (+- {error:.2f})", end="")
    chance = 100 * _chance_within(fifths, 0.05)
    print(f"\nall within 5 points: {chance:.0f} % where every risk is true")
    print(
        f"the 5 % rate lies above a lost one in {above} of {len(tasks)}, on average "
        f"{np.mean(distance):.2f} ln above the forecast"
    )


def _chance_within(fifths: list[Array], points: float) -> float:
    """How often every fifth is seen within so many points of what is said, were all risks true."""
    rng, within = np.random.default_rng(0), np.ones(SIMULATED, dtype=bool)
    for said in (fifth[:, 0] for fifth in fifths):
        seen = (rng.random((SIMULATED, len(said))) < said).mean(1)
        within &= np.abs(seen - said.mean()) <= points
    return float(within.mean())


def _step_law_optima(path: Path) -> list[Swept]:
    return [
        Swept(each.study, _with_sequences(each.setting), each.mean, max(each.sd, FINEST))
        for by_batch in steplaw_optima(steplaw.read(path), steplaw.runs(path)).values()
        for each in by_batch.values()
        if each.sd < LEAST_SD
    ]


def _step_law(optima: list[Swept]) -> None:
    print("\nStep Law, 3.4 times the tokens or more: every batch size of a setting")
    print(f"{'from':34s}{'optima':>8s}{'rms':>8s}{'bias':>8s}{'90 % holds':>12s}{'width':>8s}")
    kinds: dict[str, Callable[[Setting, Setting], bool]] = {
        "the same model": lambda seen, to: seen.parameters == to.parameters,
        "it and smaller models": lambda seen, to: seen.parameters <= to.parameters,
        "half its size or less": lambda seen, to: seen.parameters <= to.parameters / 1.9,
    }
    for name, like in kinds.items():
        found = []
        for to in {(s.setting.parameters, s.setting.tokens) for s in optima}:
            targets = [s for s in optima if (s.setting.parameters, s.setting.tokens) == to]
            there = targets[0].setting
            seen = [
                each
                for each in optima
                if like(each.setting, there) and _tokens(each.setting) <= _tokens(there) / 3.4
            ]
            if seen:
                law = Law(seen, _critical([each.setting for each in seen], SEQUENCE_TOKENS))
                found += [(*law.at(each.setting), each.mean, each.sd) for each in targets]
        mean, variance, truth, own = np.array(found).T
        errors, sd = mean - truth, np.sqrt(variance + MISFIT**2)
        holds = 100 * np.mean(np.abs(errors) < WITHIN * np.hypot(sd, own))
        print(
            f"{name:34s}{len(errors):8d}{_rms(errors):8.2f}{errors.mean():8.2f}{holds:10.0f} %"
            f"{sd.mean():8.2f}"
        )


def _plans(optima: list[Swept]) -> None:
    """Exponents from a part of the runs: within the intervals of all of them, or not."""
    costs = _costs(optima, "runs")
    by_setting = {each.setting: each for each in optima}
    candidates = [Candidate(s.setting, cost) for s, cost in zip(optima, costs, strict=True)]
    largest = max(optima, key=lambda s: (s.setting.parameters, _tokens(s.setting))).setting
    middle = _middle(optima)
    targets = [
        Setting(batch, BEYOND * largest.parameters, BEYOND * _tokens(largest))
        for batch in TARGET_BATCHES
    ]
    whole = Law(optima, usual_critical_batch(_tokens(middle), SEQUENCE_TOKENS)).slopes(middle)
    rng = np.random.default_rng(0)
    print("\nStep Law's exponents from a share of its runs: rms from the whole grid's, and within")
    print("the whole grid's intervals")
    heads = ("cells", *AXES, *AXES, "all")
    print(f"{'share':>6s}{'':>10s}" + "".join(f"{head:>11s}" for head in heads))
    for share in SHARES:
        critical = usual_critical_batch(_tokens(middle), SEQUENCE_TOKENS)
        found: dict[str, list[list[float]]] = {"planned": [], "random": [], "grid": []}
        for target in targets:
            steps = choose(
                [],
                critical,
                candidates,
                target,
                share * sum(costs),
                trials=RATES_A_CELL,
                most=len(optima),
                sure=1.0,
            )
            chosen = [by_setting[step.candidate.setting] for step in steps]
            sets = [("planned", chosen)]
            for _ in range(DRAWS // len(targets)):
                sets.append(("random", _random_cells(optima, costs, share * sum(costs), rng)))
                sets.append(("grid", _grid_cells(optima, costs, share * sum(costs), rng)))
            for name, cells in sets:
                slopes = Law(cells, critical).slopes(middle)
                found[name].append([len(cells), *_off(whole, slopes), *_within(whole, slopes)])
        for name, rows in found.items():
            held = np.array(rows, float)[:, 4:]
            off = "".join(f"{_rms(each):11.2f}" for each in np.array(rows, float).T[1:4])
            shares = "".join(f"{100 * each:9.0f} %" for each in [*held.mean(0), held.all(1).mean()])
            print(f"{share:6.3f}{name:>10s}{np.mean([row[0] for row in rows]):11.0f}{off}{shares}")


def _planned_forecasts(optima: list[Swept], unit: str) -> None:
    """The optimum of a large setting, from smaller and shorter ones alone."""
    critical = usual_critical_batch(_tokens(_middle(optima)), SEQUENCE_TOKENS)
    rng = np.random.default_rng(0)
    print(f"\nStep Law's large settings from a share of the smaller ones' {unit}")
    print(f"{'share':>6s}{'':>10s}{'cells':>8s}{'rms':>8s}{'90 % holds':>12s}{'width':>8s}")
    for share in SHARES:
        found: dict[str, list[list[float]]] = {"planned": [], "random": [], "grid": []}
        for target, pool in _large(optima):
            costs = _costs(pool, unit)
            budget = share * sum(costs)
            pairs = zip(pool, costs, strict=True)
            candidates = [Candidate(each.setting, cost) for each, cost in pairs]
            by_setting = {each.setting: each for each in pool}
            steps = choose(
                [], critical, candidates, target.setting, budget, trials=RATES_A_CELL, sure=1.0
            )
            cells = [by_setting[step.candidate.setting] for step in steps]
            found["planned"].append(_missed(cells, critical, target))
            spent = sum(step.candidate.cost for step in steps)
            for _ in range(DRAWS_A_TARGET):
                for name, draw in (("random", _random_cells), ("grid", _grid_cells)):
                    found[name].append(_missed(draw(pool, costs, spent, rng), critical, target))
        for name, rows in found.items():
            errors, sd, own, cells_taken = np.array(rows).T
            holds = 100 * np.mean(np.abs(errors) < WITHIN * np.hypot(sd, own))
            print(
                f"{share:6.3f}{name:>10s}{cells_taken.mean():8.0f}{_rms(errors):8.2f}"
                f"{holds:10.0f} %{sd.mean():8.2f}",
                flush=True,
            )


def _large(optima: list[Swept]) -> Iterator[tuple[Swept, list[Swept]]]:
    """Every third batch size of the large settings, and all that is smaller and shorter."""
    for to in sorted({(s.setting.parameters, _tokens(s.setting)) for s in optima}):
        if to[0] < LARGE[0] or to[1] < LARGE[1]:
            continue
        pool = [
            each
            for each in optima
            if each.setting.parameters <= to[0] / SMALLER
            and _tokens(each.setting) <= to[1] / SMALLER
        ]
        there = [s for s in optima if (s.setting.parameters, _tokens(s.setting)) == to]
        for target in there[1::3]:
            yield target, pool


def _missed(cells: list[Swept], critical: Critical, target: Swept) -> list[float]:
    mean, variance = Law(cells, critical).at(target.setting)
    return [mean - target.mean, math.sqrt(variance + MISFIT**2), target.sd, len(cells)]


def _costs(optima: list[Swept], unit: str) -> list[float]:
    if unit == "runs":
        return [1.0] * len(optima)
    return [each.setting.parameters * _tokens(each.setting) for each in optima]


def _within(whole: Slopes, part: Slopes) -> list[bool]:
    pairs = [(getattr(whole, axis), getattr(part, axis)) for axis in AXES]
    return [all_of.low <= found.value <= all_of.high for all_of, found in pairs]


def _off(whole: Slopes, part: Slopes) -> list[float]:
    return [getattr(part, axis).value - getattr(whole, axis).value for axis in AXES]


def _middle(optima: list[Swept]) -> Setting:
    """The geometric mean of the grid, where its exponents are asked for."""
    of = [(s.setting.batch_size, s.setting.parameters, _tokens(s.setting)) for s in optima]
    batch, parameters, tokens = np.exp(np.log(of).mean(0)).tolist()
    return Setting(round(batch), round(parameters), tokens)


def _random_cells(
    optima: list[Swept], costs: list[float], budget: float, rng: np.random.Generator
) -> list[Swept]:
    cells, left = [], budget
    for place in rng.permutation(len(optima)):
        if costs[place] <= left:
            cells.append(optima[place])
            left -= costs[place]
    return cells


def _grid_cells(
    optima: list[Swept], costs: list[float], budget: float, rng: np.random.Generator
) -> list[Swept]:
    """A few batch sizes of as many settings as the budget pays."""
    sizes = sorted({each.setting.batch_size for each in optima})
    settings = sorted({(each.setting.parameters, _tokens(each.setting)) for each in optima})
    cells: list[Swept] = []
    while not cells:
        left = budget
        batches = rng.choice(sizes, min(len(sizes), rng.integers(*GRID_BATCHES)), replace=False)
        for place in rng.permutation(len(settings)):
            row = [
                (each, cost)
                for each, cost in zip(optima, costs, strict=True)
                if (each.setting.parameters, _tokens(each.setting)) == settings[place]
                and each.setting.batch_size in batches
            ]
            if row and (spent := sum(cost for _, cost in row)) <= left:
                cells += [each for each, _ in row]
                left -= spent
    return cells


def _with_sequences(setting: Setting) -> Setting:
    tokens = _tokens(setting)
    return Setting(setting.batch_size, setting.parameters, tokens, tokens / SEQUENCE_TOKENS)


def _critical(
    settings: Sequence[Setting], sequence_tokens: float = marin.SEQUENCE_TOKENS
) -> Critical:
    middle = math.exp(float(np.mean(np.log([_tokens(each) for each in settings]))))
    return usual_critical_batch(middle, sequence_tokens)


def _tokens(setting: Setting) -> float:
    assert setting.tokens is not None
    return setting.tokens


def _rms(errors: Array | Sequence[float]) -> float:
    return math.sqrt(float(np.mean(np.square(errors))))


if __name__ == "__main__":
    main()
