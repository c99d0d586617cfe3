"""What a study says, read from its storage: rows for tables, the answer at the end."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from studies.definition import edge
from studies.prior import nearest_rule
from sweep.errors import SweepError
from sweep.results.baseline import stored_baseline
from sweep.results.place import place_of
from sweep.results.record import RuleRecord, StudyRecord, read_study, read_trial
from sweep.results.rows import rows_of, trial_row
from sweep.results.types import RuleRow, StudySummary, TrialRow
from sweep.url import StorageUrl
from trainers.naming import OUTPUT_FILE

# A trial within this factor of a rule's rate speaks for the rule.
RULE_FACTOR = 1.25

# What `sweep show` says of a trial beside its row.
DETAILS = (
    "multiples",
    "outcome",
    "train_loss",
    "accuracy",
    "tokens_per_second",
    "peak_memory_bytes",
    "skipped_steps",
    "micro_batch",
    "metrics",
    "setbacks",
)


def summarise(study: Study, storage: StorageUrl | str) -> StudySummary:
    """Reads a whole study.

    Args:
        study: one that `sweep run` made.
        storage: its database, as the user names it.

    Raises:
        SweepError: the study was not made by this tool.
    """
    record = read_study(study)
    trials = tuple(
        with_length(_with_rule(row, record.rule_rates), record) for row in rows_of(study)
    )
    complete = [row for row in trials if row.state == "complete" and row.value is not None]
    best = min(complete, key=lambda row: row.stored, default=None)
    return StudySummary(
        name=study.study_name,
        storage=str(StorageUrl(storage)),
        batch_size=record.batch_size,
        precision=record.precision,
        model=record.model,
        parameters=record.parameters,
        data=record.data_source,
        epochs=record.epochs,
        unit=record.unit,
        steps=record.length or _longest(trials),
        device=record.device,
        reference_text=record.reference_text,
        reference_perplexity=record.reference_perplexity,
        unigram_perplexity=record.unigram_perplexity,
        working_range=record.range,
        edge=_edge(best, trials, *record.range),
        trials=trials,
        rules=tuple(_rule_row(rule, _at_middle(trials, record)) for rule in record.rules),
        decay_range=None if record.decay is None else (record.decay.low, record.decay.high),
        best=best,
        total=record.trials,
        remaining=record.remaining,
        seed=record.seed,
        fixed=record.fixed,
        forecast_met=record.forecast_met,
        baseline=stored_baseline(record),
        objective=record.objective,
    )


def with_length(row: TrialRow, record: StudyRecord) -> TrialRow:
    """A row with its unit, and with the length of the whole run where the study knows it."""
    return replace(row, unit=record.unit, steps=record.length or row.steps)


def _longest(trials: Sequence[TrialRow]) -> int:
    said = max((row.steps for row in trials), default=0)
    return said or max((row.step for row in trials if row.state == "complete"), default=0)


def with_recommended(summary: StudySummary, number: int | None) -> StudySummary:
    """The same with a trial named as the one to go on with.

    Args:
        number: the trial's; None where there is none.
    """
    row = next((row for row in summary.trials if row.number == number), None)
    return replace(summary, recommended=row)


def _with_rule(row: TrialRow, rates: dict[str, float]) -> TrialRow:
    """A row with the rule that it stands for, which a trial that waits has not stored yet."""
    if row.rule or not rates or not row.learning_rate > 0:
        return row
    name, multiple = nearest_rule(row.learning_rate, rates)
    return replace(row, rule=name, multiple=multiple)


def _edge(best: TrialRow | None, trials: tuple[TrialRow, ...], low: float, high: float) -> str:
    if best is None:
        return ""
    tried = [row.learning_rate for row in trials if row.state not in ("waiting", "failed")]
    return edge(best.learning_rate, low, high, tried)


def _rule_row(rule: RuleRecord, trials: tuple[TrialRow, ...]) -> RuleRow:
    near = [row for row in trials if _speaks_for(row, rule.learning_rate)]
    # The rule's own trial where there is one, not the luckiest of its neighbours.
    own = min(near, key=lambda row: _distance(row, rule.learning_rate), default=None)
    return RuleRow(**rule.model_dump(), trial=own)


def _at_middle(trials: tuple[TrialRow, ...], record: StudyRecord) -> tuple[TrialRow, ...]:
    """Those that were tried at the weight decay at which a rule's rate is meant."""
    if record.decay is None:
        return trials
    middle = record.decay.middle
    return tuple(row for row in trials if math.isclose(row.weight_decay or 0.0, middle))


def _speaks_for(row: TrialRow, rate: float) -> bool:
    return row.state != "waiting" and _distance(row, rate) <= math.log(RULE_FACTOR)


def _distance(row: TrialRow, rate: float) -> float:
    return abs(math.log(row.learning_rate / rate)) if row.learning_rate > 0 else math.inf


def read_log(directory: Path) -> str:
    """What a trial and all that it started have printed.

    Args:
        directory: the trial's.

    Raises:
        SweepError: there is none.
    """
    try:
        return (directory / OUTPUT_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SweepError(
            f"there is no output of that trial: {directory / OUTPUT_FILE}: {error.strerror}"
        ) from None


def trial_detail(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """One trial with its epochs and its multiples of every rule, for `sweep show`."""
    record, said = read_study(study), read_trial(trial).model_dump(mode="json", exclude_unset=True)
    objective, reports = record.objective, sorted(trial.intermediate_values.items())
    row = asdict(with_length(trial_row(trial, objective), record))
    del row["objective"]
    return {
        "study": study.study_name,
        **row,
        **{key: said[key] for key in DETAILS if key in said},
        "metric": objective.name,
        "direction": objective.direction,
        "values": {str(step): objective.signed(stored) for step, stored in reports},
        "rules": record.rule_rates,
        "directory": str(place_of(study) / f"{trial.number:04d}"),
    }
