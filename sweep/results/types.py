"""What tables, views and programs are shown of a study: its trials, its rules and itself."""

import math
from dataclasses import dataclass, field

from studies.objective import Objective
from trainers.report import Report

STEP, EPOCH = "step", "epoch"  # what a study's reports are counted by


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial as a table shows it.

    Attributes:
        state: "running", "waiting", "paused", "complete", "pruned" or "failed"; a paused one was
            left after a look, and goes on should its rate be asked for.
        rule: the rule whose rate is nearest in log distance.
        multiple: learning_rate / that rule's rate.
        value: the best so far, None before the first report, infinite where it diverged.
        step: the last one that a finite value was reported at; 0 before there is one.
        steps: of the whole run; 0 where that is unknown.
        trunk: how many of those up to `step` were taken over from a shorter run, not trained.
        unit: what they are counted by: "step", or "epoch" in studies of earlier versions.
        objective: what its value is.
        reason: how it ended, in words; "" while it runs.
        by_hand: added by `sweep add`, not trained by this tool.
        audit: why it would have been pruned, had it not run on to check the pruner; "" for others.
        weight_decay: where that is searched too; None where it is not.
    """

    number: int
    state: str
    learning_rate: float
    rule: str
    multiple: float
    value: float | None
    step: int
    reason: str
    by_hand: bool = False
    audit: str = ""
    steps: int = 0
    trunk: int = 0
    unit: str = STEP
    objective: Objective = field(default_factory=Objective)
    weight_decay: float | None = None

    @property
    def stored(self) -> float:
        """Its value as it is stored, the better the smaller; infinite where there is none."""
        return math.inf if self.value is None else self.objective.signed(self.value)

    @property
    def shown(self) -> str:
        """Its value for people."""
        return "diverged" if self.diverged else self.objective.format(self.value)

    @property
    def diverged(self) -> bool:
        """Whether training was lost."""
        infinite = self.value is not None and not math.isfinite(self.value)
        named = self.reason.startswith(("diverged", "overflowed"))
        return self.state == "pruned" and (infinite or named)


@dataclass(frozen=True, slots=True)
class RatePosterior:
    """Where the best rate lies, as far as the trials tell.

    Attributes:
        rates: increasing, in equal steps of ln rate.
        probabilities: of each to be the best.
        learning_rate, low, high: the median, and the interval that holds it with 90 %.
        weight_decay: the same of the best weight decay; None where that is not searched.
    """

    rates: tuple[float, ...]
    probabilities: tuple[float, ...]
    learning_rate: float
    low: float
    high: float
    weight_decay: tuple[float, float, float] | None = None


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
        baseline: the same in the study's own number; None also where it cannot be told so, and for
            a trainer of the user's own, of whatever text.
        edge: "" or where the best rate leans on the range ("upper" or "lower").
        best: the complete trial with the best value, None before there is one.
        recommended: the one whose rate is expected to cost least at a new seed; None where that was
            not asked.
        total: trials asked for.
        unit: what reports are counted by: "step", or "epoch" in studies of earlier versions.
        steps: of a whole run, so counted; 0 where that is not known yet.
        remaining: what is left to gain, in words; "" where the sweep was not to stop by it.
        forecast_met: how good what was forecast of the study was, in words; "" for no forecast.
        objective: what its trials' values are.
        fixed: given all its rates, as `sweep compare` does: nothing is searched.
        decay_range: the lowest and highest weight decay that is searched; None where that is one.
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
    baseline: float | None = None
    unit: str = STEP
    steps: int = 0
    objective: Objective = field(default_factory=Objective)
    decay_range: tuple[float, float] | None = None

    @property
    def scaled(self) -> Objective:
        """The objective, knowing from the complete trials how much is as much as a nat."""
        whole = [row.stored for row in self.trials if row.state == "complete"]
        return self.objective.scaled_to(whole)

    @property
    def chosen(self) -> TrialRow | None:
        """The trial to go on with, as far as it is known."""
        return self.recommended or self.best

    @property
    def learned_nothing(self) -> bool:
        """Whether no trial came below a model without context: then no rate is an optimum."""
        reached = [row.value for row in self.trials if row.value is not None]
        return self.baseline is not None and bool(reached) and min(reached) >= self.baseline


def counted(report: Report, unit: str) -> int:
    """What a report is stored at: its step, or its epoch in a study by epochs."""
    return report.epoch if unit == EPOCH else report.step


def audited(summary: StudySummary) -> tuple[int, int]:
    """How often the pruner would have been wrong, by the trials that ran on to show it.

    Returns:
        How many of them ran to their end, and how many of those came within 0.5 % of the best.
    """
    objective = summary.scaled
    ended = [row for row in summary.trials if row.audit and row.state == "complete"]
    best = objective.nats(summary.best.stored) if summary.best else -math.inf
    near = [row for row in ended if objective.nats(row.stored) <= best + math.log(1.005)]
    return len(ended), len(near)
