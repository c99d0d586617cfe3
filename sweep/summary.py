"""What a study says, read from its storage: rows for tables, the answer at the end."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from sweep.errors import SweepError
from sweep.masking import without_password

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial as a table shows it.

    Attributes:
        state: "running", "waiting", "paused", "complete", "pruned" or "failed"; a paused one was
            left after a look, and goes on should its rate be asked for.
        rule: the rule whose rate is nearest in log distance.
        multiple: learning_rate / that rule's rate.
        perplexity: the lowest so far, None before the first report, infinite where it diverged.
        epochs: epochs reported.
        reason: how it ended, in words; "" while it runs.
        by_hand: added by `sweep add`, not trained by this tool.
        audit: why it would have been pruned, had it not run on to check the pruner; "" for others.
    """

    number: int
    state: str
    learning_rate: float
    rule: str
    multiple: float
    perplexity: float | None
    epochs: int
    reason: str
    by_hand: bool = False
    audit: str = ""

    @property
    def diverged(self) -> bool:
        """Whether training was lost."""
        infinite = self.perplexity is not None and not math.isfinite(self.perplexity)
        named = self.reason.startswith(("diverged", "overflowed"))
        return self.state == "pruned" and (infinite or named)


@dataclass(frozen=True, slots=True)
class Belief:
    """Where the best rate lies, as far as the trials tell.

    Attributes:
        rates: increasing, in equal steps of ln rate.
        probabilities: of each to be the best.
        learning_rate, low, high: the median, and the interval that holds it with 90 %.
    """

    rates: tuple[float, ...]
    probabilities: tuple[float, ...]
    learning_rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A scaling rule's own rate, and how the trial nearest to it did.

    Attributes:
        formula: e.g. "lr0 x (B/B0)^0.5".
        trial: the trial nearest to this rate, within 25 % of it; None where none ran.
    """

    name: str
    learning_rate: float
    formula: str
    source: str
    trial: TrialRow | None = None

    @property
    def own(self) -> bool:
        """Whether that trial ran at this very rate, not at a near one that stood for both."""
        trial = self.trial
        return trial is not None and math.isclose(
            trial.learning_rate, self.learning_rate, rel_tol=1e-3
        )


@dataclass(frozen=True, slots=True)
class StudySummary:
    """A study whole.

    Attributes:
        reference_text: the reference in words ("lr 0.0001 at batch 32 gave 23.34 (fp32)").
        reference_perplexity: None where it is not comparable (another model, data or budget).
        unigram_perplexity: the baseline that a model without context reaches; None if unknown.
        working_range: the lowest and highest rate that is searched.
        edge: "" or where the best rate leans on the range ("upper" or "lower").
        best: the complete trial with the lowest perplexity, None before there is one.
        recommended: the one whose rate is expected to cost least at a new seed; None where that was
            not asked.
        total: trials asked for.
        remaining: what is left to gain, in words; "" where the sweep was not to stop by it.
        forecast_met: how good what was forecast of the study was, in words; "" for no forecast.
        fixed: given all its rates, as `sweep compare` does: nothing is searched.
    """

    name: str
    storage: str
    batch_size: int
    precision: str
    model: str
    parameters: int
    data: str
    epochs: int
    device: str
    reference_text: str
    reference_perplexity: float | None
    unigram_perplexity: float | None
    working_range: tuple[float, float]
    edge: str
    trials: tuple[TrialRow, ...]
    rules: tuple[RuleRow, ...]
    best: TrialRow | None
    total: int
    remaining: str = ""
    seed: int = 0
    fixed: bool = False
    forecast_met: str = ""
    recommended: TrialRow | None = None

    @property
    def chosen(self) -> TrialRow | None:
        """The trial to go on with, as far as it is known."""
        return self.recommended or self.best


# A trial within this factor of a rule's rate speaks for the rule.
RULE_FACTOR = 1.25

_STATES = {
    "RUNNING": "running",
    "WAITING": "waiting",
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
}


PAUSED = "paused"  # as `studies.trials` names it, which need not be loaded here

KEPT = ("nearest_rule", "multiple", "reason", "by_hand", "audit", PAUSED)
"""The attributes of a trial that its row has."""


def make_row(
    number: int,
    state: str,
    rate: float | None,
    lowest: float | None,
    finite: int,
    reported: int,
    *,
    value: float | None,
    attributes: Mapping[str, Any],
) -> TrialRow:
    """One stored trial as a row.

    Args:
        number: the trial's.
        state: Optuna's name of it.
        rate: its learning rate, None where it has none yet.
        lowest: the lowest finite perplexity, None where none was reported.
        finite, reported: how many finite ones, and how many at all.
        value: the trial's own.
        attributes: those of `KEPT` that it has.
    """
    if finite < reported and state == "PRUNED":
        lowest = math.inf  # it diverged: what it reached before is no result
    if lowest is None and state == "COMPLETE":
        lowest = value
    left = attributes.get(PAUSED, "") if state == "RUNNING" else ""
    return TrialRow(
        number=number,
        state="paused" if left else _STATES[state],
        learning_rate=math.nan if rate is None else rate,
        rule=attributes.get("nearest_rule", ""),
        multiple=attributes.get("multiple", math.nan),
        perplexity=lowest,
        epochs=finite,
        reason=f"paused: {left}" if left else attributes.get("reason", ""),
        by_hand=bool(attributes.get("by_hand", False)),
        audit=attributes.get("audit", ""),
    )


def trial_row(trial: "FrozenTrial") -> TrialRow:
    """One stored trial as a row."""
    # Imported here and below: the views read this module's types without loading optuna.
    from studies.trials import rate_of

    values = trial.intermediate_values.values()
    finite = [value for value in values if math.isfinite(value)]
    return make_row(
        trial.number,
        trial.state.name,
        rate_of(trial),
        min(finite, default=None),
        len(finite),
        len(values),
        value=trial.value,
        attributes=trial.user_attrs,
    )


def summarise(study: "Study", storage: str) -> StudySummary:
    """Reads a whole study.

    Args:
        study: one that `sweep run` made.
        storage: its database, as the user names it.

    Raises:
        SweepError: the study was not made by this tool.
    """
    from sweep.rows import rows_of

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
    from studies.prior import nearest_rule

    if row.rule or not rates or not row.learning_rate > 0:
        return row
    name, multiple = nearest_rule(row.learning_rate, rates)
    return replace(row, rule=name, multiple=multiple)


def audited(rows: tuple[TrialRow, ...], best: float) -> tuple[int, int]:
    """How often the pruner would have been wrong, by the trials that ran on to show it.

    Args:
        best: the study's lowest perplexity.

    Returns:
        How many of them ran to their end, and how many of those came within 0.5 % of the best.
    """
    ended = [row for row in rows if row.audit and row.state == "complete"]
    near = [row for row in ended if row.perplexity is not None and row.perplexity <= 1.005 * best]
    return len(ended), len(near)


def _edge(best: TrialRow | None, trials: tuple[TrialRow, ...], low: float, high: float) -> str:
    from studies.definition import edge

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


def trial_detail(study: "Study", trial: "FrozenTrial") -> dict[str, Any]:
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
