"""What a study says, read from its storage: rows for tables, the answer at the end."""

import math
from dataclasses import asdict, replace
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from studies.definition import edge
from studies.prior import nearest_rule
from sweep.errors import SweepError
from sweep.results.rows import rows_of, trial_row
from sweep.results.types import RuleRow, StudySummary, TrialRow
from sweep.storage.url import without_password

# A trial within this factor of a rule's rate speaks for the rule.
RULE_FACTOR = 1.25


def summarise(study: Study, storage: str) -> StudySummary:
    """Reads a whole study.

    Args:
        study: one that `sweep run` made.
        storage: its database, as the user names it.

    Raises:
        SweepError: the study was not made by this tool.
    """
    about = study.user_attrs
    if "identity" not in about:
        raise SweepError(f"study '{study.study_name}' was not made by sweep: choose another one")
    identity = about["identity"]
    rates = {rule["name"]: rule["learning_rate"] for rule in about["rules"]}
    trials = tuple(_with_rule(row, rates) for row in rows_of(study))
    complete = [row for row in trials if row.state == "complete" and row.perplexity is not None]
    best = min(complete, key=lambda row: row.perplexity or math.inf, default=None)
    low, high = about["range"]
    return StudySummary(
        name=study.study_name,
        storage=without_password(storage),
        batch_size=identity["batch_size"],
        precision=identity["precision"],
        model=identity["model.name"],
        parameters=about["parameters"],
        data=identity["data_source"],
        epochs=identity["epochs"],
        device=about["device"],
        reference_text=about["reference_text"],
        reference_perplexity=about["reference_perplexity"],
        unigram_perplexity=about["unigram_perplexity"],
        working_range=(low, high),
        edge=_edge(best, trials, low, high),
        trials=trials,
        rules=tuple(_rule_row(rule, trials) for rule in about["rules"]),
        best=best,
        total=about["trials"],
        remaining=about.get("remaining", ""),
        seed=identity.get("seed", 0),
        fixed=about.get("kind") == "fixed",
        forecast_met=about.get("forecast_met", ""),
    )


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


def _rule_row(rule: dict[str, Any], trials: tuple[TrialRow, ...]) -> RuleRow:
    near = [row for row in trials if _speaks_for(row, rule["learning_rate"])]
    # The rule's own trial where there is one, not the luckiest of its neighbours.
    own = min(near, key=lambda row: _distance(row, rule["learning_rate"]), default=None)
    return RuleRow(**rule, trial=own)


def _speaks_for(row: TrialRow, rate: float) -> bool:
    return row.state != "waiting" and _distance(row, rate) <= math.log(RULE_FACTOR)


def _distance(row: TrialRow, rate: float) -> float:
    return abs(math.log(row.learning_rate / rate)) if row.learning_rate > 0 else math.inf


def trial_detail(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """One trial with its epochs and its multiples of every rule, for `sweep show`."""
    kept = (
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
    return {
        "study": study.study_name,
        **asdict(trial_row(trial)),
        **{key: trial.user_attrs[key] for key in kept if key in trial.user_attrs},
        "perplexities": {str(k): v for k, v in sorted(trial.intermediate_values.items())},
        "rules": {rule["name"]: rule["learning_rate"] for rule in study.user_attrs["rules"]},
        "directory": f"{study.user_attrs['directory']}/{trial.number:04d}",
    }
