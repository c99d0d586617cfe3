"""What a study knows of the best rate: one belief, which every command and view speaks of."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from studies.definition import WIDE
from studies.likelihood import Observations, Repeat
from studies.objective import Objective
from studies.observed import Terms, posterior_of
from studies.optimum import best_decay, best_rate
from studies.posterior import Posterior
from studies.prior import Prior
from studies.pruner import LEARNING_RATE
from studies.ridge import RidgePosterior
from studies.stopping import by_regret
from studies.trials import sound
from sweep.execution.protocol import SHARED_TRAINER
from sweep.results.baseline import at_constant_rate, stored_baseline, warmup_share
from sweep.results.confirmation import values_of
from sweep.results.lookup import best_trial, find_trial
from sweep.results.record import StudyRecord, read_study
from sweep.results.types import STEP, RatePosterior

NOTHING = Observations(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0))


def terms_of(record: StudyRecord) -> Terms:
    """What a search is told beside its trials, as a study has stored it."""
    train = record.train
    low, high = record.range
    return Terms(
        low,
        high,
        priors_of(record),
        stored_baseline(record),
        constant_rate=at_constant_rate(record.trainer, train),
        steps=record.length,
        floor=first_comparable(record),
        unit=record.unit,
        repeats=tuple(_repeats(record)),
        pauses={record.sampler, record.pruner} == {LEARNING_RATE},
        lenient=True,
        objective=record.objective,
        decay=record.decay,
        step_size=1.0 if record.trainer == SHARED_TRAINER and record.unit == STEP else math.inf,
    )


def first_comparable(record: StudyRecord) -> float:
    """The share of a run that a trial trains before it is compared: the floor, and the warm-up."""
    floor = record.floor if record.floor < 1 else record.floor / record.epochs
    settled = warmup_share(record.train, record.steps_per_epoch, record.steps)
    return max(floor, settled + 1 / (record.length or record.epochs)) if settled else floor


def priors_of(record: StudyRecord) -> dict[str, Prior]:
    """What each rule says; of a study of an older version only the rules' rates are known."""
    return record.priors or {name: Prior(rate) for name, rate in record.rule_rates.items()}


def study_posterior(study: Study, priors: Mapping[str, Prior] | None = None) -> Posterior:
    """What a study's trials, and those that confirmed them, say of the best rate.

    Args:
        study: one that `sweep run` made.
        priors: other ones than the study's own.
    """
    terms = terms_of(read_study(study))
    if priors is not None:
        terms = dataclasses.replace(terms, priors=priors)
    return posterior_of(study.get_trials(deepcopy=False), terms)


def prior_of(record: StudyRecord) -> Posterior:
    """What was known of the best rate before any trial."""
    if record.decay is None:
        return Posterior(NOTHING, priors_of(record), *record.range)
    return posterior_of([], dataclasses.replace(terms_of(record), repeats=()))


def recommended(study: Study) -> list[int]:
    """The complete trials by what their rates are expected to cost at a new seed, the least first.

    Walls are counted: a rate that is lost at every fifth seed is a bad one, whatever it once gave.
    """
    trials = study.get_trials(deepcopy=False)
    return [number for _, number in by_regret(study_posterior(study), trials)]


def chosen_trial(study: Study) -> FrozenTrial:
    """The trial to go on with: the one that is recommended.

    Raises:
        SweepError: no trial is complete.
    """
    best = best_trial(study)
    return find_trial(study, next(iter(recommended(study)), best.number))


def belief(trials: Sequence[FrozenTrial], terms: Terms) -> RatePosterior | None:
    """Where the best rate lies, by the trials so far, as `sweep report` would say it.

    Args:
        trials: of the study.
        terms: what is known beside them.

    Returns:
        None before a trial is complete: until then it is the rules' rates and nothing else.
    """
    if not any(sound(trial, terms.objective) for trial in trials):
        return None
    posterior = posterior_of(trials, terms)
    mu, probability = posterior.density
    rates = tuple(math.exp(each) for each in mu)
    decay = best_decay(posterior) if isinstance(posterior, RidgePosterior) else None
    return RatePosterior(rates, tuple(probability.tolist()), *best_rate(posterior), decay)


def _repeats(record: StudyRecord) -> list[Repeat]:
    """The runs of `sweep confirm`; one that failed says nothing of its rate."""
    found = record.confirmation or {"seeds": [], "finalists": []}
    return [
        Repeat(
            seed,
            math.log(finalist["learning_rate"]),
            _stored(state, value, record.objective),
            _ln(finalist.get("weight_decay")),
        )
        for finalist in found["finalists"]
        for seed, state, value in zip(
            found["seeds"],
            finalist.get("states", ()),  # not so in the first versions' notes
            values_of(finalist),
            strict=False,
        )
        if state in ("complete", "diverged") and WIDE.low <= finalist["learning_rate"] <= WIDE.high
    ]


def _ln(decay: float | None) -> float | None:
    return None if decay is None else math.log(decay)


def _stored(state: str, value: float | None, objective: Objective) -> float:
    return objective.signed(value) if state == "complete" and value is not None else math.inf
