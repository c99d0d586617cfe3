"""Searchers of other packages than Optuna, each asked by its own methods.

NePS's PriorBand and ifBO are asked through its ask-and-tell, Ray Tune's ASHA with OptunaSearch
through the scheduler's and the searcher's own methods, which Ray's controller calls: no Ray process
is needed to know what they decide. PriorBand gets the first of the centres as its prior.
"""

import logging
import math
import os
import random
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
from optuna.samplers import TPESampler
from searching import ClaimsNothing, Job, Task

from studies import PARAMETER

STARTUP = 3  # random points of TPE


class UnavailableError(Exception):
    """A searcher cannot be run here; says why."""


class NePS(ClaimsNothing):
    """PriorBand over Hyperband; plain Hyperband where nothing is believed."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        import neps

        _quiet("neps")
        _seed_all(task.seed)
        belief: dict[str, Any] = (
            {"prior": task.within(task.centres[0]), "prior_confidence": "medium"}
            if task.centres
            else {}
        )

        class Space(neps.PipelineSpace):
            learning_rate = neps.Float(lower=task.low, upper=task.high, log=True, **belief)
            epochs = neps.IntegerFidelity(lower=1, upper=task.epochs)

        self._nothing = task.nothing
        self._told = neps.AskAndTell(self._algorithm(Space(), believes=bool(belief)))
        self._losses: dict[str, list[float]] = {}

    def ask(self) -> Job:
        trial = self._told.ask()
        losses = list(self._losses.get(trial.metadata.previous_trial_id, []))
        run = int(trial.id.split("_")[0])
        x = math.log(trial.config["learning_rate"])
        return Job(x, trial, run, len(losses), int(trial.config["epochs"]), losses)

    def report(self, job: Job) -> None:
        pass

    def stops(self, job: Job) -> bool:
        return False

    def end(self, job: Job, *, pruned: bool) -> None:
        self._trained(job)
        self._losses[job.key.id] = job.losses
        self._told.tell(job.key, self._shown(min(*job.losses, self._nothing)))

    def _shown(self, loss: float) -> float:
        return loss

    def _algorithm(self, space: Any, *, believes: bool) -> Any:
        import neps

        if not believes:
            return neps.algorithms.hyperband(space)
        return neps.algorithms.priorband(
            space, sample_prior_first="highest_fidelity", base="hyperband"
        )


class IfBO(NePS):
    """Freeze-thaw by a transformer that was trained on made-up learning curves.

    Rakotoarison et al. 2024, arXiv 2404.16795. The transformer's weights are fetched on first use.
    """

    def _algorithm(self, space: Any, *, believes: bool) -> Any:
        os.environ.setdefault("IFBO_MAX_RETRIES", "1")
        import neps
        import requests

        try:
            return neps.algorithms.ifbo(space, use_priors=believes, sample_prior_first=believes)
        except (requests.RequestException, ValueError) as error:
            reason = type(error).__name__
            raise UnavailableError(
                f"the weights of its surrogate cannot be fetched ({reason}); it looks for them in "
                ".model/ of the working folder first"
            ) from None

    def _shown(self, loss: float) -> float:
        return loss / self._nothing  # it takes what lies between 0 and 1


class RayTune(ClaimsNothing):
    """ASHA with OptunaSearch."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        _quiet("ray")
        _seed_all(task.seed)
        first = [{PARAMETER: task.within(rate)} for rate in task.centres]
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
        self._stop, self._asked, self._task = ASHAScheduler.STOP, 0, task

    def ask(self) -> Job:
        self._asked += 1
        key = SimpleNamespace(trial_id=str(self._asked))
        suggested = self._search.suggest(key.trial_id)
        assert suggested is not None
        self._asha.on_trial_add(None, key)
        return Job(math.log(suggested[PARAMETER]), key, self._asked, 0, self._task.epochs)

    def report(self, job: Job) -> None:
        self._search.on_trial_result(job.key.trial_id, self._result(job))

    def stops(self, job: Job) -> bool:
        return bool(self._asha.on_trial_result(None, job.key, self._result(job)) == self._stop)

    def end(self, job: Job, *, pruned: bool) -> None:
        self._trained(job)
        self._search.on_trial_complete(job.key.trial_id, self._result(job))

    def _result(self, job: Job) -> dict[str, float]:
        loss = min(*job.losses, self._task.nothing)
        return {"loss": loss, "training_iteration": len(job.losses)}


def _seed_all(seed: int) -> None:
    """For the packages that draw from the global generators."""
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _quiet(name: str) -> None:
    logging.getLogger(name).setLevel(logging.ERROR)
