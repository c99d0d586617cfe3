"""Ends trials that are clearly behind, judged from stored reports alone.

Optuna's PatientPruner asks the pruner it wraps only once a trial has stopped improving. A healthy
trial gets better with every report, so around a MedianPruner it never prunes at all. Here
patience means something else: a trial must be behind at that many reports in a row.

A known limit: steps are compared as they are. With a constant rate high rates look good early and
lose later, with a decaying one it is the other way round, so the floor should be a good part of
the run where rates far apart are compared.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from studies.objective import Objective
from studies.table import Table, places
from studies.trials import best_until


class StudyPruner(BasePruner):
    """A pruner that can say why; without a reason there is no pruning.

    Attributes:
        looks: whether it leaves runs after a look that may be worth going on with later.
    """

    looks = False

    @abstractmethod
    def reason(self, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> str:
        """Says why the trial should end after its last report, "" where it should go on.

        Args:
            trials: all of the study's, as they are now.
            trial: the one that is judged.
        """

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Judges a trial after its last report, by what is stored and nothing else."""
        return bool(self.reason(study.get_trials(deepcopy=False), trial))

    def audit(self, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> str:
        """Why a trial that goes on only to check this pruner would have ended; "" for others."""
        return ""


class NeverPruner(StudyPruner):
    """Lets every trial run to its end."""

    def reason(self, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> str:
        """There is none."""
        return ""


class PatientPruner(StudyPruner):
    """Prunes a trial whose best number so far is behind a quantile of the finished trials'.

    Compared at the same step, at each of the last `patience` reports. A complete trial that ended
    earlier counts with its best, which is final; a pruned one only at the steps it reached; a
    diverged one not at all: its early reports were no sign of a good rate. Never pruned is a trial
    whose last number is the lowest of all at its step.
    """

    def __init__(
        self,
        quantile: float,
        floor: int,
        startup: int,
        patience: int,
        objective: Objective | None = None,
        unit: str = "step",
    ) -> None:
        self._quantile = quantile
        self._unit = unit
        self._floor = floor
        self._startup = max(1, startup)
        self._patience = patience
        self._objective = objective or Objective()

    def reason(self, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> str:
        """Says why the trial should end after its last report, "" where it should go on."""
        step = trial.last_step
        if step is None:
            return ""
        if not math.isfinite(trial.intermediate_values[step]):
            return f"{self._objective.words} is not finite after {self._unit} {step}"
        peers = _sound_peers(trials, trial, self._objective)
        steps = sorted(trial.intermediate_values)[-self._patience :]
        if step < self._floor or len(steps) < self._patience:
            return ""
        complete = sum(peer.state == TrialState.COMPLETE for peer in peers)
        if complete < self._startup or _leads(trial, step, peers):
            return ""
        if all(self._behind(trial, each, peers) for each in steps):
            return self._sentence(trial, step, peers)
        return ""

    def _behind(self, trial: FrozenTrial, step: int, peers: Sequence[FrozenTrial]) -> bool:
        field = _field(peers, step, self._objective)
        best = best_until(trial, step, self._objective)
        return bool(field) and best > self._threshold(field)

    def _threshold(self, field: Sequence[float]) -> float:
        return float(np.quantile(field, self._quantile))

    def _sentence(self, trial: FrozenTrial, step: int, peers: Sequence[FrozenTrial]) -> str:
        objective = self._objective
        field = _field(peers, step, objective)
        best, threshold = (
            objective.format(objective.signed(each))
            for each in (best_until(trial, step, objective), self._threshold(field))
        )
        side = "above" if objective.direction == "minimize" else "below"
        bar = "median" if self._quantile == 0.5 else f"{100 * self._quantile:.0f}th percentile"
        plural = "trial" if len(field) == 1 else "trials"
        lasting = f", for {self._patience} reports" if self._patience > 1 else ""
        return (
            f"{objective.words} {best} after {self._unit} {step} is {side} {threshold}, the {bar} "
            f"of {len(field)} {plural}{lasting}"
        )


def _sound_peers(
    trials: Sequence[FrozenTrial], trial: FrozenTrial, objective: Objective
) -> list[FrozenTrial]:
    table = Table.of(trials).without(trial.number)
    return [table[place] for place in places(table.mask(_is_sound, objective))]


def _is_sound(trial: FrozenTrial, objective: Objective) -> bool:
    values = trial.intermediate_values.values()
    ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return ended and bool(values) and all(objective.least <= value < math.inf for value in values)


def _field(peers: Sequence[FrozenTrial], step: int, objective: Objective) -> list[float]:
    bests = [
        best_until(peer, step, objective)
        for peer in peers
        if peer.state == TrialState.COMPLETE or (peer.last_step or 0) >= step
    ]
    # A trial whose first report came later has no best yet.
    return [best for best in bests if math.isfinite(best)]


def _leads(trial: FrozenTrial, step: int, peers: Sequence[FrozenTrial]) -> bool:
    there = [values[step] for peer in peers if step in (values := peer.intermediate_values)]
    return bool(there) and trial.intermediate_values[step] <= min(there)
