"""Searchers that see a training epoch by epoch and may end it early; each at its best settings.

Ours and Optuna's are a sampler and a pruner on an Optuna study. The rates of our priors are
enqueued, for all alike: that is how the product runs. `own-free` is our sampler left to itself.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import optuna
from epoch_peers import STARTUP, IfBO, NePS, RayTune
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import Trial, TrialState
from searching import Job, Searcher, Task

from studies import PARAMETER, LearningRatePruner, remaining
from studies.definition import edge, widen
from studies.observed import Terms, posterior_of
from studies.optimum import best_rate
from studies.patient import NeverPruner
from studies.stopping import by_regret
from studies.strategy import Next, leans_out, next_training
from studies.table import Table
from studies.trials import LOOKED, PAUSED

UNTIL = 0.01  # of perplexity: the promise of a stop


class OnStudy:
    """A sampler and a pruner of Optuna's kind on a study in memory; told nats."""

    resumes = False

    def __init__(
        self, task: Task, sampler: BaseSampler, pruner: BasePruner, *, enqueue: bool = True
    ) -> None:
        self._task = task
        self._space: dict[str, BaseDistribution] = {
            PARAMETER: FloatDistribution(task.low, task.high, log=True)
        }
        self.study = optuna.create_study(sampler=sampler, pruner=pruner)
        for rate in task.centres if enqueue else ():
            self.study.enqueue_trial({PARAMETER: task.within(rate)})

    def ask(self) -> Job:
        trial = self.study.ask(self._space)
        x = math.log(trial.params[PARAMETER])
        return Job(x, trial, trial.number, 0, self._task.epochs)

    def report(self, job: Job) -> None:
        job.key.report(self._shown(job.losses[-1]), len(job.losses))

    def stops(self, job: Job) -> bool:
        trial: Trial = job.key
        return trial.should_prune()

    def end(self, job: Job, *, pruned: bool) -> None:
        if pruned:
            self.study.tell(job.key, state=TrialState.PRUNED)
        else:
            lost = not math.isfinite(job.losses[-1])
            self.study.tell(job.key, self._shown(math.inf if lost else min(job.losses)))

    def recommended(self) -> float | None:
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            return None
        best = min(complete, key=lambda trial: trial.value or math.inf)
        return math.log(best.params[PARAMETER])

    def enough(self) -> bool | None:
        return None

    def interval(self) -> tuple[float, float] | None:
        return None

    def _shown(self, loss: float) -> float:
        return min(loss, self._task.nothing)


class Own(OnStudy):
    """The product: our search, whose runs are left and go on, on a study as its ledger keeps it."""

    resumes = True

    def __init__(self, task: Task, *, enqueue: bool = True, looks: bool = True) -> None:
        terms = Terms(
            task.low,
            task.high,
            task.priors,
            task.baseline,
            task.constant_rate,
            task.epochs,
            pauses=looks,
            step_size=task.steps / task.epochs,
        )
        self._terms, self._jobs = terms, dict[int, Job]()
        self._queue = [task.within(rate) for rate in task.centres] if enqueue else []
        super().__init__(task, RandomSampler(), NopPruner(), enqueue=False)

    def ask(self) -> Job:
        queued = Next(self._queue.pop(0)) if self._queue else None
        if queued is None:
            self._widen()
        found = queued or next_training(*self._known())
        rate, goes_on = found.rate, found.number
        if goes_on is not None:
            before = self._jobs[goes_on]
            before.key.set_user_attr(PAUSED, "")
            losses = before.losses
            return Job(before.x, before.key, goes_on, len(losses), before.until, losses)
        self.study.enqueue_trial({PARAMETER: rate})
        job = super().ask()
        self._jobs[job.run] = job
        return job

    def stops(self, job: Job) -> bool:
        table, terms = self._known()
        trial = next(each for each in table if each.number == job.run)
        seed = self._task.seed
        pruner = LearningRatePruner(terms=terms, seed=seed) if terms.pauses else NeverPruner()
        reason = pruner.reason(table, trial)
        if reason:
            job.key.set_user_attr(LOOKED, len(job.losses))
            job.key.set_user_attr(PAUSED, reason)
        return bool(reason)

    def end(self, job: Job, *, pruned: bool) -> None:
        self._jobs[job.run] = job
        if not math.isfinite(job.losses[-1]):
            super().end(job, pruned=True)
        elif not pruned:
            super().end(job, pruned=False)

    def recommended(self) -> float | None:
        table, terms = self._known()
        found = by_regret(posterior_of(table, terms), table)
        return math.log(table[found[0][1]].params[PARAMETER]) if found else None

    def enough(self) -> bool:
        if self._queue:
            return False  # the product stops only once every rule's rate was tried
        table, terms = self._known()
        return remaining(posterior_of(table, terms), table, UNTIL).enough

    def interval(self) -> tuple[float, float]:
        _, low, high = best_rate(posterior_of(*self._known()))  # as the report shows it
        return low, high

    def _widen(self) -> None:
        """As the ledger does it, but before it asks which run goes on; within what was recorded."""
        (table, terms), task = self._known(), self._task
        finished = [trial for trial in table if trial.state == TrialState.COMPLETE]
        tried = [trial.params[PARAMETER] for trial in table]
        if not finished:
            return
        best = min(finished, key=lambda trial: trial.value or math.inf).params[PARAMETER]
        side = edge(best, terms.low, terms.high, tried) or leans_out(table, terms, tried)
        if side:
            low, high = widen(terms.low, terms.high, side)
            low, high = max(low, task.lowest), min(high, task.highest)
            self._terms = dataclasses.replace(terms, low=low, high=high)
            self._space = {PARAMETER: FloatDistribution(low, high, log=True)}

    def _known(self) -> tuple[Table, Terms]:
        return Table(self.study.get_trials(deepcopy=False)), self._terms

    def _shown(self, loss: float) -> float:
        return math.exp(loss) if loss < 700 else math.inf


def _peer(task: Task, build: Callable[..., BaseSampler], pruner: BasePruner, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of them are called experimental
        sampler = build(seed=task.seed, **options)
    return OnStudy(task, sampler, pruner)


def _cma(task: Task) -> Any:
    """From the centre, with a sixth of the range as its step (its default)."""
    rate = task.centres[0] if task.centres else math.sqrt(task.low * task.high)
    first = {PARAMETER: task.within(rate)}
    return _peer(task, CmaEsSampler, NopPruner(), x0=first, n_startup_trials=1)


def _hyperband(task: Task) -> BasePruner:
    return HyperbandPruner(min_resource=1, max_resource=task.epochs, reduction_factor=3)


def _median() -> BasePruner:
    return MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=2)


SEARCHERS: dict[str, Callable[[Task], Searcher]] = {
    "own": Own,
    "own-free": lambda task: Own(task, enqueue=False),
    "own-whole": lambda task: Own(task, looks=False),
    "gp-2": lambda task: _peer(
        task, GPSampler, NopPruner(), n_startup_trials=2, deterministic_objective=False
    ),
    "gp": lambda task: _peer(task, GPSampler, NopPruner(), deterministic_objective=False),
    "cma-es": _cma,
    "tpe": lambda task: _peer(task, TPESampler, NopPruner(), n_startup_trials=STARTUP),
    "tpe+hyperband": lambda task: _peer(
        task, TPESampler, _hyperband(task), n_startup_trials=STARTUP
    ),
    "tpe+median": lambda task: _peer(task, TPESampler, _median(), n_startup_trials=STARTUP),
    "random+sh": lambda task: _peer(
        task, RandomSampler, SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    ),
    "neps": NePS,
    "ifbo": IfBO,
    "ray": RayTune,
}
