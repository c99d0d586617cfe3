"""Searchers that see a training epoch by epoch and may end it early; each at its best settings.

Ours and Optuna's are a sampler and a pruner on an Optuna study. NePS's PriorBand is asked through
its own ask-and-tell, Ray Tune's ASHA with OptunaSearch through the scheduler's and the searcher's
own methods, which Ray's controller calls: no Ray process is needed to know what they decide. A peer
gets the centres of our priors as its first points; PriorBand gets the first as its prior. Peers are
told the loss, at most that of a model that knows nothing: perplexities of diverging runs would
swamp what they model.
"""

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import Trial, TrialState

from studies import PARAMETER, LearningRatePruner, LearningRateSampler
from studies.prior import Prior

KNOWS_NOTHING = math.log(500)  # nats: every word of the recorded vocabulary is as likely
STARTUP = 3  # random points of TPE, and trials before the median counts


@dataclass(slots=True)
class Job:
    """A run at one rate, from one epoch to another.

    Attributes:
        x: ln rate.
        key: the searcher's own handle.
        run: the same for jobs that carry one run on.
        done: epochs that are behind it.
        until: epochs after which the job is done.
    """

    x: float
    key: Any
    run: int
    done: int
    until: int
    losses: list[float] = field(default_factory=list)


class Searcher(Protocol):
    """One search under way; the driver is `epochs.search`."""

    def ask(self) -> Job:
        """The next job."""
        ...

    def report(self, job: Job) -> None:
        """Tells a job's last loss (`job.losses[-1]`; infinite: it diverged)."""
        ...

    def stops(self, job: Job) -> bool:
        """Whether the searcher ends the job after its last report."""
        ...

    def end(self, job: Job, *, pruned: bool) -> None:
        """The job is over: at `until`, pruned or diverged."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """What every searcher is told.

    Attributes:
        centres: rates, the one to be tried first in front; none where nothing is believed.
        width: sd of ln rate around the centres.
        low: the lowest rate.
        high: the highest.
        epochs: of a whole run.
        seed: of the searcher.
        baseline: perplexity of a model without context, which the peers cannot be told.
        constant_rate: whether the runs' rate does not decay; nor can they be told that.
    """

    centres: Sequence[float]
    width: float
    low: float
    high: float
    epochs: int
    seed: int
    baseline: float | None = None
    constant_rate: bool = False


class OnStudy:
    """A sampler and a pruner of Optuna's kind on a study in memory."""

    def __init__(
        self, task: Task, sampler: BaseSampler, pruner: BasePruner, *, own: bool, enqueue: bool
    ) -> None:
        self._space = {PARAMETER: FloatDistribution(task.low, task.high, log=True)}
        self._own, self._epochs = own, task.epochs
        self.sampler = sampler
        self.study = optuna.create_study(sampler=sampler, pruner=pruner)
        for rate in task.centres if enqueue else ():
            self.study.enqueue_trial({PARAMETER: min(max(rate, task.low), task.high)})

    def ask(self) -> Job:
        trial = self.study.ask(self._space)
        x = math.log(trial.params[PARAMETER])
        return Job(x, trial, trial.number, 0, self._epochs)

    def report(self, job: Job) -> None:
        job.key.report(self._shown(job.losses[-1]), len(job.losses))

    def stops(self, job: Job) -> bool:
        trial: Trial = job.key
        return trial.should_prune()

    def end(self, job: Job, *, pruned: bool) -> None:
        if pruned or (self._own and not math.isfinite(job.losses[-1])):
            self.study.tell(job.key, state=TrialState.PRUNED)
        else:
            self.study.tell(job.key, min(self._shown(loss) for loss in job.losses))

    def _shown(self, loss: float) -> float:
        if not self._own:
            return min(loss, KNOWS_NOTHING)
        return math.exp(loss) if loss < 700 else math.inf


class NePS:
    """PriorBand over Hyperband; plain Hyperband where nothing is believed."""

    def __init__(self, task: Task, **options: Any) -> None:
        import neps

        _quiet("neps")
        _seed_all(task.seed)
        belief: dict[str, Any] = (
            {"prior": min(max(task.centres[0], task.low), task.high), "prior_confidence": "medium"}
            if task.centres
            else {}
        )

        class Space(neps.PipelineSpace):
            learning_rate = neps.Float(lower=task.low, upper=task.high, log=True, **belief)
            epochs = neps.IntegerFidelity(lower=1, upper=task.epochs)

        build = neps.algorithms.priorband if belief else neps.algorithms.hyperband
        if belief:
            options = {"sample_prior_first": "highest_fidelity", "base": "hyperband", **options}
        self._told = neps.AskAndTell(build(Space(), **options))
        self._losses: dict[str, list[float]] = {}

    def ask(self) -> Job:
        trial = self._told.ask()
        before = trial.metadata.previous_trial_id
        losses = list(self._losses.get(before, []))
        run = int(trial.id.split("_")[0])
        x = math.log(trial.config["learning_rate"])
        return Job(x, trial, run, len(losses), int(trial.config["epochs"]), losses)

    def report(self, job: Job) -> None:
        pass

    def stops(self, job: Job) -> bool:
        return False

    def end(self, job: Job, *, pruned: bool) -> None:
        self._losses[job.key.id] = job.losses
        self._told.tell(job.key, min(*job.losses, KNOWS_NOTHING))


class RayTune:
    """ASHA with OptunaSearch."""

    def __init__(self, task: Task) -> None:
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        _quiet("ray")
        _seed_all(task.seed)
        first = [{PARAMETER: min(max(rate, task.low), task.high)} for rate in task.centres]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._search = OptunaSearch(
                space={PARAMETER: tune.loguniform(task.low, task.high)},
                metric="loss",
                mode="min",
                points_to_evaluate=first or None,
                sampler=TPESampler(n_startup_trials=STARTUP, seed=task.seed),
            )
        self._asha = ASHAScheduler(
            metric="loss", mode="min", max_t=task.epochs, grace_period=1, reduction_factor=3
        )
        self._stop, self._epochs, self._asked = ASHAScheduler.STOP, task.epochs, 0

    def ask(self) -> Job:
        self._asked += 1
        key = SimpleNamespace(trial_id=str(self._asked))
        suggested = self._search.suggest(key.trial_id)
        assert suggested is not None
        self._asha.on_trial_add(None, key)
        return Job(math.log(suggested[PARAMETER]), key, self._asked, 0, self._epochs)

    def report(self, job: Job) -> None:
        self._search.on_trial_result(job.key.trial_id, self._result(job))

    def stops(self, job: Job) -> bool:
        return bool(self._asha.on_trial_result(None, job.key, self._result(job)) == self._stop)

    def end(self, job: Job, *, pruned: bool) -> None:
        self._search.on_trial_complete(job.key.trial_id, self._result(job))

    def _result(self, job: Job) -> dict[str, float]:
        loss = min(*job.losses, KNOWS_NOTHING)
        return {"loss": loss, "training_iteration": len(job.losses)}


def _own(task: Task, *, enqueue: bool = False, pruner: BasePruner | None = None) -> OnStudy:
    priors = {str(number): Prior(rate, task.width) for number, rate in enumerate(task.centres)}
    sampler = LearningRateSampler(
        priors, seed=task.seed, baseline=task.baseline, constant_rate=task.constant_rate
    )
    pruner = pruner or LearningRatePruner(seed=task.seed)
    return OnStudy(task, sampler, pruner, own=True, enqueue=enqueue)


def _peer(task: Task, build: Callable[..., BaseSampler], pruner: BasePruner, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of them are called experimental
        sampler = build(seed=task.seed, **options)
    return OnStudy(task, sampler, pruner, own=False, enqueue=True)


def _cma(task: Task) -> Any:
    """From the centre, with a sixth of the range as its step (its default)."""
    rate = task.centres[0] if task.centres else math.sqrt(task.low * task.high)
    first = {PARAMETER: min(max(rate, task.low), task.high)}
    return _peer(task, CmaEsSampler, NopPruner(), x0=first, n_startup_trials=1)


def _hyperband(task: Task) -> BasePruner:
    return HyperbandPruner(min_resource=1, max_resource=task.epochs, reduction_factor=3)


def _median() -> BasePruner:
    return MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=2)


SEARCHERS: dict[str, Callable[[Task], Any]] = {
    "own": _own,
    "own-queue": lambda task: _own(task, enqueue=True),
    "own-whole": lambda task: _own(task, pruner=NopPruner()),
    "tpe+hyperband": lambda task: _peer(
        task, TPESampler, _hyperband(task), n_startup_trials=STARTUP
    ),
    "tpe+median": lambda task: _peer(task, TPESampler, _median(), n_startup_trials=STARTUP),
    "gp": lambda task: _peer(task, GPSampler, NopPruner(), deterministic_objective=False),
    "gp-2": lambda task: _peer(
        task, GPSampler, NopPruner(), n_startup_trials=2, deterministic_objective=False
    ),
    "cma-es": _cma,
    "random+sh": lambda task: _peer(
        task, RandomSampler, SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    ),
    "neps": NePS,
    "ray": RayTune,
}


def _seed_all(seed: int) -> None:
    """For the packages that draw from the global generators."""
    import random

    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _quiet(name: str) -> None:
    logging.getLogger(name).setLevel(logging.ERROR)
