"""A study's trials as rows."""

import math

from optuna.study import Study
from optuna.trial import FrozenTrial

from studies.decay import DECAY, decay_of
from studies.definition import PARAMETER
from studies.objective import Objective
from studies.trials import as_rate, rate_of, why_no_result
from sweep.results.record import TrialRecord, read_study, read_trial, trial_record
from sweep.results.types import TrialRow
from sweep.storage.brief import brief_trials


def rows_of(study: Study) -> list[TrialRow]:
    """Every trial of a study, by number: what `trial_row` says of each.

    Args:
        study: one of this tool's, in one of its storages.
    """
    objective = read_study(study).objective
    return [
        make_row(
            brief.number,
            brief.state,
            as_rate(brief.parameters.get(PARAMETER)),
            brief.lowest,
            brief.last_finite,
            diverged=brief.finite < brief.reported,
            value=brief.value,
            record=trial_record(brief.attributes),
            objective=objective,
            decay=as_rate(brief.parameters.get(DECAY)),
        )
        for brief in brief_trials(study, (PARAMETER, DECAY), KEPT, least=objective.least)
    ]


_STATES = {
    "RUNNING": "running",
    "WAITING": "waiting",
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
}

KEPT = ("nearest_rule", "multiple", "reason", "by_hand", "audit", "paused", "steps", "trunk")
"""The attributes of a trial that its row has."""


def make_row(
    number: int,
    state: str,
    rate: float | None,
    lowest: float | None,
    step: int,
    *,
    diverged: bool,
    value: float | None,
    record: TrialRecord,
    objective: Objective,
    decay: float | None = None,
) -> TrialRow:
    """One stored trial as a row.

    Args:
        number: the trial's.
        state: Optuna's name of it.
        rate: its learning rate, None where it has none yet.
        lowest: the lowest number as it is stored, None where none was reported.
        step: the last one with a finite number, 0 for none.
        diverged: whether one is not finite.
        value: the trial's own.
        record: what it says of itself, the fields of `KEPT` at least.
        objective: what its numbers are.
        decay: its weight decay, where that is searched; None where it is not.
    """
    reason = record.reason
    if state == "COMPLETE" and value == math.inf:
        state = "PRUNED"
    elif state == "COMPLETE" and (
        fault := why_no_result(rate, value, objective)
    ):  # another program's
        state, reason = "FAIL", f"failed: {fault}"
    if state == "PRUNED" and (diverged or value == math.inf):
        lowest = math.inf  # it diverged: what it reached before is no result
    if lowest is None and state == "COMPLETE":
        lowest = value
    left = record.paused if state == "RUNNING" else ""
    return TrialRow(
        number=number,
        state="paused" if left else _STATES[state],
        learning_rate=math.nan if rate is None else rate,
        rule=record.nearest_rule,
        multiple=math.nan if record.multiple is None else record.multiple,
        value=None if lowest is None else objective.signed(lowest),
        step=step,
        steps=record.steps,
        trunk=min(record.trunk, step),
        reason=f"paused: {left}" if left else reason,
        by_hand=record.by_hand,
        audit=record.audit,
        objective=objective,
        weight_decay=decay,
    )


def trial_row(trial: FrozenTrial, objective: Objective) -> TrialRow:
    """One stored trial as a row; the objective is its study's."""
    values = trial.intermediate_values
    finite = {step: value for step, value in values.items() if math.isfinite(value)}
    lowest = min(filter(objective.valid, finite.values()), default=None)
    return make_row(
        trial.number,
        trial.state.name,
        rate_of(trial),
        lowest,
        max(finite, default=0),
        diverged=len(finite) < len(values),
        value=trial.value,
        record=read_trial(trial),
        objective=objective,
        decay=decay_of(trial),
    )
