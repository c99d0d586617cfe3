"""The learning-rate pruner: ends a trial that will not come near the best one.

A running trial's final perplexity is predicted (see `studies.forecast`) and the trial is pruned
where

    P(final perplexity within 0.5 % of the best trial's) < alpha / checks,

`checks` being the reports at which a trial can be pruned: by Bonferroni's inequality a trial that
belongs near the best is then pruned with a probability of alpha at most, however often it is
looked at. Epochs are never compared as they are, so neither high nor low rates are favoured.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from studies.errors import StudyError, unknown_name
from studies.forecast import Falls, Forecast, forecast
from studies.patient import NeverPruner, PatientPruner, StudyPruner, shown
from studies.student import student_t_cdf
from studies.table import Table
from studies.trials import best_until, diverged, last_epoch, ln_rate, sound, value_of

NEAR_BEST = 0.005  # of perplexity
ALPHA = 0.01
AUDITED = 0.1  # share of the trials that are let run on where they would be pruned
LEAST_EPOCHS, LEAST_SHARE, LEAST_FINISHED = 2, 0.25, 3

LEARNING_RATE, NONE = "learning-rate", "none"
QUANTILES = {"patient-median": 0.5, "percentile": 0.75}
PRUNERS = (LEARNING_RATE, *QUANTILES, NONE)


def make_pruner(
    name: str, *, floor: int, startup: int, patience: int = 2, seed: int = 0
) -> StudyPruner:
    """Builds a pruner.

    Args:
        name: "learning-rate", "patient-median", "percentile" (only the worst quarter is pruned) or
            "none".
        floor: epochs that every sound trial gets, counted from 1.
        startup: complete trials needed before any is pruned; at least 1 is always needed, and 3 by
            "learning-rate".
        patience: reports in a row that a trial must be behind at; not for "learning-rate".
        seed: chooses the trials that "learning-rate" audits.

    Raises:
        StudyError: an unknown name or a number out of its bounds.
    """
    if name not in PRUNERS:
        raise unknown_name("pruner", name, PRUNERS)
    if name == NONE:
        return NeverPruner()
    for field, value, least in (
        ("floor", floor, 1),
        ("startup", startup, 0),
        ("patience", patience, 1),
    ):
        if value < least:
            raise StudyError(f"pruner {field} must be at least {least}, got {value}")
    if name == LEARNING_RATE:
        return LearningRatePruner(floor=floor, startup=startup, seed=seed)
    return PatientPruner(QUANTILES[name], floor, startup, patience)


class LearningRatePruner(StudyPruner):
    """Prunes by the predicted final perplexity.

    Never pruned is a trial before its floor of epochs or before three trials are complete, one in
    the best third at its epoch, and one above the highest rate that ran to its end: nothing is
    known up there, only divergence ends it. Of those to be pruned 1 in 10 run on all the same
    (`audit`), which shows how often the pruner is wrong.

    Args:
        floor: epochs that every sound trial gets; None for a quarter of the longest trial's, at
            least 2.
        startup: complete trials needed before any is pruned, at least 3.
        alpha: how likely a trial that belongs within 0.5 % of the best may be pruned.
        seed: chooses, with the trial's number, who is audited.
    """

    def __init__(
        self,
        *,
        floor: int | None = None,
        startup: int = LEAST_FINISHED,
        alpha: float = ALPHA,
        seed: int = 0,
    ) -> None:
        self._floor, self._alpha, self._seed = floor, alpha, seed
        self._startup = max(startup, LEAST_FINISHED)

    def reason(self, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> str:
        """Says why the trial should end after its last report, "" where it should go on."""
        if diverged(trial):
            return f"perplexity is not finite after epoch {trial.last_step}"
        return "" if self._is_audited(trial) else self._behind(trials, trial)

    def audit(self, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> str:
        """Why an audited trial would have been pruned after its last report; "" for any other."""
        if diverged(trial) or not self._is_audited(trial):
            return ""
        behind = self._behind(trials, trial)
        return behind and f"audit, runs on to check the pruner: {behind}"

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Judges a trial after its last report, and stores the reason as an attribute of it."""
        trials = study.get_trials(deepcopy=False)
        found = {"reason": self.reason(trials, trial), "audit": self.audit(trials, trial)}
        for key, words in found.items():
            if words and key not in trial.user_attrs:
                study._storage.set_trial_user_attr(trial._trial_id, key, words)
        return bool(found["reason"])

    def _is_audited(self, trial: FrozenTrial) -> bool:
        digest = hashlib.sha256(f"{self._seed} {trial.number}".encode()).digest()
        return int.from_bytes(digest[:4], "big") < AUDITED * 2**32

    def _behind(self, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> str:
        epoch = trial.last_step
        peers = Table.of(trials).without(trial.number)
        complete = peers.mask(sound)
        if epoch is None or complete.sum() < self._startup:
            return ""
        last = int(peers.column(last_epoch)[complete].max())
        floor = self._floor or math.ceil(LEAST_SHARE * last)
        if epoch < max(floor, LEAST_EPOCHS) or _is_protected(trial, epoch, peers):
            return ""
        predicted = forecast(trial, Falls(peers))
        if predicted is None:
            return ""
        best = float(peers.column(value_of)[complete].min())
        chance = _chance(predicted, best)
        checks = max(1, last - max(floor, LEAST_EPOCHS))
        return _sentence(trial, epoch, predicted, best) if chance < self._alpha / checks else ""


def _is_protected(trial: FrozenTrial, epoch: int, peers: Table) -> bool:
    """Whether it is in the best third at its epoch, or above every rate that ran to its end."""
    complete, mine = peers.mask(sound), ln_rate(trial)
    finished = peers.column(ln_rate)[complete]
    if not mine <= np.fmax.reduce(finished, initial=-math.inf):
        return True
    there = complete | (peers.column(last_epoch) >= epoch)
    rung = peers.column(best_until, epoch)[there & ~peers.mask(diverged)]
    ahead = int((rung < best_until(trial, epoch)).sum())
    return ahead < (len(rung) + 1) / 3


def _chance(predicted: Forecast, best: float) -> float:
    """P(final perplexity within 0.5 % of the best)."""
    near = math.log(best) + math.log1p(NEAR_BEST)
    return student_t_cdf((near - predicted.mean) / predicted.scale, round(predicted.dof))


def _sentence(trial: FrozenTrial, epoch: int, predicted: Forecast, best: float) -> str:
    final = shown(math.exp(predicted.mean))
    chance = 100 * _chance(predicted, best)
    bound = "under 0.01" if chance < 0.01 else f"{chance:.2g}"
    return (
        f"perplexity {shown(best_until(trial, epoch))} after epoch {epoch} should end near "
        f"{final}, by {predicted.trials} finished trials; within 0.5 % of the best, "
        f"{shown(best)}, with a chance of {bound} %"
    )
