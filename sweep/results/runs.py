"""Runs that were trained whole, whatever study they are stored in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from studies.definition import Identity
from studies.objective import Objective
from studies.trials import diverged, rate_of, sound
from sweep.results.record import made_by_sweep, read_study, read_trial, without_spelling
from sweep.results.types import EPOCH


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """One rate trained whole, as it is stored.

    Attributes:
        study, trial: where.
        state: "complete", "diverged", or "failed".
        value: the best, infinite where it diverged, None where it failed.
        curve: the value at each reported step.
        reason, outcome: how it ended, in words and in one; "" where that was not stored.
        steps: tried over the whole run, skipped ones among them; None where it was not stored.
        skipped_steps, tokens_per_second, peak_memory_bytes: over the whole run, likewise. The last
            two are kept of a trial that was trained alone only.
    """

    study: str
    trial: int
    learning_rate: float
    seed: int
    precision: str
    state: str
    value: float | None
    curve: dict[int, float]
    reason: str
    steps: int | None
    skipped_steps: int | None
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    outcome: str = ""

    def has(self, rate: float) -> bool:
        """Whether a rate is this run's: written and read again it may differ in its last bits."""
        return math.isclose(self.learning_rate, rate)


def stored_runs(storage: RDBStorage, mine: Identity, *, failed: bool = False) -> list[TrainedRun]:
    """Every run of an identity that was trained to its end, whatever it was trained for.

    Args:
        storage: the opened database.
        mine: the identity.
        failed: also those that failed, as the last of the list.
    """
    found: list[TrainedRun] = []
    for stored in filter(made_by_sweep, storage.get_all_studies()):
        record = read_study(stored)
        if without_spelling(record.identity) != without_spelling(mine.fields):
            continue
        study = optuna.load_study(study_name=stored.study_name, storage=storage)
        no_cohort = (record.cohort or 1) == 1
        in_steps = (record.steps_per_epoch or 1) if record.unit == EPOCH else 1
        trials = study.get_trials(deepcopy=False)
        found += [
            _run(study.study_name, mine, trial, no_cohort, in_steps, record.objective)
            for trial in trials
            if _whole(trial, record.objective)
        ]
        if failed:
            lost = [trial for trial in trials if trial.state == TrialState.FAIL]
            found += [
                _run(study.study_name, mine, trial, no_cohort, in_steps, record.objective)
                for trial in lost
            ]
    return sorted(found, key=lambda run: run.state == "failed")


def find_run(runs: Sequence[TrainedRun], rate: float) -> TrainedRun | None:
    """The first run of a rate."""
    return next((run for run in runs if run.has(rate)), None)


def _whole(trial: FrozenTrial, objective: Objective) -> bool:
    """Whether a trial was trained by this tool until there was no more to train."""
    ended = sound(trial, objective) or (trial.state == TrialState.PRUNED and diverged(trial))
    return ended and not read_trial(trial).by_hand


def _run(
    study: str,
    mine: Identity,
    trial: FrozenTrial,
    no_cohort: bool,
    in_steps: int,
    objective: Objective,
) -> TrainedRun:
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "diverged"}
    state = states.get(trial.state, "failed")
    stored = {"complete": trial.value, "diverged": math.inf}.get(state)
    whole = read_trial(trial).whole_run
    reports = sorted(trial.intermediate_values.items())
    curve = {step * in_steps: objective.signed(value) for step, value in reports}
    return TrainedRun(
        study=study,
        trial=trial.number,
        learning_rate=rate_of(trial) or math.nan,
        seed=int(str(mine.fields["seed"])),
        precision=str(mine.fields["precision"]),
        state=state,
        value=None if stored is None else objective.signed(stored),
        curve=curve,
        reason=read_trial(trial).reason,
        steps=whole.get("steps"),
        skipped_steps=whole.get("skipped_steps"),
        tokens_per_second=whole.get("tokens_per_second") if no_cohort else None,
        peak_memory_bytes=whole.get("peak_memory_bytes") if no_cohort else None,
        outcome=read_trial(trial).outcome,
    )
