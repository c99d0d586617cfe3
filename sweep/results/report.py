"""What a study found, as one structure that every renderer reads: terminal, Markdown, JSON, HTML,
pictures, the dashboard. Nothing in it is rounded but the optimum's rates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from studies.curve import Curve, fitted_curve
from studies.exponents import Exponents
from studies.objective import Objective
from studies.optimum import Optimum, optimum
from studies.posterior import Posterior
from studies.prior import MERGE_FACTOR, Prior, log_distance
from studies.ridge import RidgePosterior
from studies.transfer import FORECAST
from sweep.results.baseline import ADAMS, optimizer_words, schedule_words
from sweep.results.belief import prior_of, priors_of, recommended, study_posterior
from sweep.results.confirmation import Confirmation, stored_confirmation
from sweep.results.decay_finding import DecayFinding, decay_finding
from sweep.results.family import exponents
from sweep.results.neighbours import Neighbour, family_of, neighbours
from sweep.results.record import StudyRecord, read_study
from sweep.results.summary import summarise, with_recommended
from sweep.results.types import RuleRow, StudySummary, TrialRow, audited
from sweep.url import StorageUrl

Density = tuple[tuple[float, ...], tuple[float, ...]]

LEAST_FOR_NOISE = 4  # runs; fewer measure nothing
DECIDED = 0.8  # a rule is named where it has this posterior weight
GRID_STEP = 1.44  # of a full grid: with 1.2 squared, every rate is within 20 % of one on it
CURVE_POINTS = 120


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """What became of a scaling rule.

    Attributes:
        weight: how much it is believed after all trials; with the others and "no rule" 1. Rules
            that ask for the same rate share it.
        inside: whether its rate lies in the optimum's interval.
        cost: what its rate costs over the recommended one, a share of the perplexity (0.01: 1 %),
            of another number as many nats as that is: seen where a trial ran there to its end, else
            expected at a new seed; None before that is known.
        row: its formula, and the trial nearest to its rate.
    """

    name: str
    learning_rate: float
    weight: float
    inside: bool
    cost: float | None
    row: RuleRow


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """The rules that are believed most; they ask for the same rate.

    Attributes:
        rules: their names; empty where no rule is.
        weight: theirs together.
        decided: whether that is at least 80 %.
    """

    rules: tuple[str, ...]
    weight: float
    decided: bool


@dataclass(frozen=True, slots=True)
class AdamScaling:
    """What the rules ask for beside the rate, at k = B / B0.

    beta becomes beta^k, so that the half-life of Adam's averages stays the same in tokens (Marek et
    al. 2025, arXiv 2507.07101, for beta2); near 1 that is the square-root rule's 1 - k (1 - beta).
    eps becomes eps / sqrt(k) by the square-root rule (Malladi et al. 2022, arXiv 2205.10287).
    """

    k: float
    betas: tuple[float, float]
    eps: float
    asked_betas: tuple[float, float]
    asked_eps: float


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where training is lost: the lowest rate that was, the highest that was not, None for none."""

    lowest_diverged: float | None
    highest_complete: float | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What the search took, runs made by hand not counted.

    Attributes:
        trials: started.
        steps_spent: by their last reports, the one at which a run diverged included; without
            what was taken over from shorter runs.
        trunk_steps: that was.
        whole_steps: of one run to its end.
        pruned_steps: left out by the pruner.
        audited, audited_near: trials that ran on to check the pruner, and how many of them came
            within 0.5 % of the best: pruning those would have been wrong.
        grid_rates, grid_steps: of a full grid over the searched range, a factor of 1.44 apart.
        grid_decays: likewise, a factor of 2 apart where they are searched too.
    """

    trials: int
    pruner: str
    complete: int
    pruned: int
    diverged: int
    failed: int
    steps_spent: int
    trunk_steps: int
    whole_steps: int
    pruned_steps: int
    audited: int
    audited_near: int
    grid_rates: int
    grid_steps: int
    grid_decays: int = 1


@dataclass(frozen=True, slots=True)
class History:
    """A trial's values by step; infinite where it diverged."""

    number: int
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A study's answer.

    Attributes:
        optimum: None before any trial is complete, and where none learned more than the words'
            frequencies.
        noise: sd in nats between runs at nearly the same rate; None where not measured.
        verdict: None likewise.
        companions: None where the study does not say which batch size it started from, and of an
            optimizer that is not Adam's kind.
        optimizer, schedule: in words; "" for Adam and a constant rate.
        curve: fitted to the trials; None before any has a value.
        density: ln rates and the probability of each to be the best.
        prior: the same before any trial: what the rules say.
        neighbours: this study and those that differ from it in batch, model size or length alone.
        length_unit: what their lengths are counted in; "" where they are unknown.
        exponents: how the best rate scales over them; None where they are of one setting.
        held: what they have in common, in words.
        confirmation: what new seeds said of the best rates; None where `sweep confirm` has not run.
        reference: where the rules start from: learning_rate, batch_size, ...; {} where unknown.
        objective: what the values are, and how much of them the search takes for a nat.
        decay: the best weight decay; None where it was not searched, or nothing is known yet.
    """

    study: StudySummary
    optimum: Optimum | None
    noise: float | None
    rules: tuple[RuleFinding, ...]
    verdict: RuleVerdict | None
    companions: AdamScaling | None
    optimizer: str
    schedule: str
    divergence: Divergence
    cost: Cost
    curve: Curve | None
    density: Density
    prior: Density
    histories: tuple[History, ...]
    neighbours: tuple[Neighbour, ...]
    length_unit: str
    exponents: Exponents | None
    held: str
    confirmation: Confirmation | None
    reference: Mapping[str, Any]
    objective: Objective
    decay: DecayFinding | None = None


def build(study: Study, storage: StorageUrl | str, others: Sequence[Study] = ()) -> Report:
    """Reads a study.

    Args:
        study: one that `sweep run` made.
        storage: its database, as the user names it.
        others: further studies of the same database.

    Raises:
        SweepError: the study was not made by this tool.
    """
    summary, record = summarise(study, storage), read_study(study)
    trials = study.get_trials(deepcopy=False)
    priors = priors_of(record)
    posterior = study_posterior(study)
    objective = posterior.seen.objective
    summary = with_recommended(summary, next(iter(recommended(study)), None))
    posterior = _at_recommended(posterior, summary)
    found = optimum(posterior) if summary.best and not summary.learned_nothing else None
    family = family_of(study, others)
    ruled = study_posterior(study, rule_priors_of(priors))
    rules = _rules(summary, ruled, found)
    x = np.log(np.geomspace(*posterior.range, CURVE_POINTS))
    return Report(
        study=summary,
        optimum=found,
        noise=posterior.noise if len(posterior.seen.y) >= LEAST_FOR_NOISE else None,
        rules=rules,
        verdict=_verdict(rules) if found and rules else None,
        companions=_companions(record),
        optimizer=optimizer_words(record.train, searched=record.decay is not None),
        schedule=schedule_words(record.train),
        divergence=_divergence(summary.trials),
        cost=_cost(summary, trials, record.pruner),
        curve=fitted_curve(posterior, x),
        density=_density(posterior),
        prior=_density(prior_of(record)),
        histories=tuple(each for trial in trials if (each := _history(trial, objective)).steps),
        neighbours=neighbours(study, family),
        length_unit=family.unit,
        exponents=exponents(family),
        held=family.held,
        confirmation=stored_confirmation(study),
        reference=record.reference or {},
        objective=objective,
        decay=decay_finding(posterior, summary) if found else None,
    )


def rule_priors_of(priors: Mapping[str, Prior]) -> dict[str, Prior]:
    """The rules' alone: a forecast from other studies is no rule, and would outdo them all."""
    return {name: prior for name, prior in priors.items() if name != FORECAST}


def _at_recommended(posterior: Posterior, summary: StudySummary) -> Posterior:
    """What is known of rates at the decay of the trial to go on with, where that was searched."""
    chosen = summary.chosen
    if not isinstance(posterior, RidgePosterior) or chosen is None or chosen.weight_decay is None:
        return posterior
    return posterior.at(chosen.weight_decay)


def _density(posterior: Posterior) -> Density:
    mu, probability = posterior.density
    return tuple(mu.tolist()), tuple(probability.tolist())


def _rules(
    summary: StudySummary, posterior: Posterior, found: Optimum | None
) -> tuple[RuleFinding, ...]:
    weights, objective = posterior.rule_weights(), posterior.seen.objective
    rates = np.array([row.learning_rate for row in summary.rules])
    costs = posterior.regret(np.log(rates)) if found is not None else np.full(len(rates), np.nan)
    return tuple(
        RuleFinding(
            row.name,
            row.learning_rate,
            weights.get(row.name, 0.0),
            found is not None and found.low <= row.learning_rate <= found.high,
            _seen_cost(row, summary, objective) or (None if math.isnan(cost) else math.expm1(cost)),
            row,
        )
        for row, cost in zip(summary.rules, costs.tolist(), strict=True)
    )


def _seen_cost(rule: RuleRow, summary: StudySummary, objective: Objective) -> float | None:
    trial, chosen = rule.trial, summary.chosen
    if trial is None or not rule.own or trial.state != "complete" or chosen is None:
        return None
    assert trial.value is not None
    assert chosen.value is not None
    return max(math.expm1(objective.nats_between(trial.value, chosen.value)), 0.0)


def _verdict(rules: Sequence[RuleFinding]) -> RuleVerdict:
    groups = [tuple(other for other in rules if _alike(rule, other)) for rule in rules]
    weights = {tuple(r.name for r in group): sum(r.weight for r in group) for group in groups}
    weights[()] = 1.0 - sum(rule.weight for rule in rules)
    names = max(weights, key=lambda each: weights[each])
    return RuleVerdict(names, weights[names], weights[names] >= DECIDED)


def _alike(rule: RuleFinding, other: RuleFinding) -> bool:
    return log_distance(rule.learning_rate, other.learning_rate) <= math.log(MERGE_FACTOR)


def _companions(record: StudyRecord) -> AdamScaling | None:
    reference, train = record.reference, record.train
    if reference is None or train.optimizer not in ADAMS:
        return None
    k = train.batch_size / reference["batch_size"]
    first, second = train.betas
    return AdamScaling(
        k,
        (first, second),
        train.eps,
        (first**k, second**k),
        train.eps / math.sqrt(k),
    )


def _divergence(rows: Sequence[TrialRow]) -> Divergence:
    diverged = [row.learning_rate for row in rows if row.diverged]
    complete = [row.learning_rate for row in rows if row.state == "complete"]
    return Divergence(min(diverged, default=None), max(complete, default=None))


def _cost(summary: StudySummary, trials: Sequence[FrozenTrial], pruner: str) -> Cost:
    own = [row for row in summary.trials if not row.by_hand and row.state != "waiting"]
    last = {trial.number: trial.last_step or 0 for trial in trials}
    pruned = [row for row in own if row.state == "pruned" and not row.diverged]
    ended, near = audited(summary)
    low, high = summary.working_range
    grid, decays = math.ceil(math.log(high / low) / math.log(GRID_STEP)) + 1, 1
    if summary.decay_range is not None:
        decays = math.ceil(math.log2(summary.decay_range[1] / summary.decay_range[0])) + 1
    return Cost(
        trials=len(own),
        pruner=pruner,
        complete=sum(row.state == "complete" for row in own),
        pruned=len(pruned),
        diverged=sum(row.diverged for row in own),
        failed=sum(row.state == "failed" for row in own),
        steps_spent=sum(last[row.number] - row.trunk for row in own),
        trunk_steps=sum(row.trunk for row in own),
        whole_steps=summary.steps,
        pruned_steps=sum(max(0, summary.steps - last[row.number]) for row in pruned),
        audited=ended,
        audited_near=near,
        grid_rates=grid,
        grid_steps=grid * decays * summary.steps,
        grid_decays=decays,
    )


def _history(trial: FrozenTrial, objective: Objective) -> History:
    reports = trial.intermediate_values.items()
    values = sorted(each for each in reports if objective.valid(each[1]))
    steps = tuple(step for step, _ in values)
    return History(trial.number, steps, tuple(objective.signed(stored) for _, stored in values))
