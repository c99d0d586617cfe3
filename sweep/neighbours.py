"""Studies that differ from one another in batch size or precision alone, and their best rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState

from studies.noise import with_noise
from studies.observed import observe
from studies.optimum import best_rate
from studies.response import Posterior

VARIED = ("batch_size", "precision", "seed")
LEAST_COMPLETE = 3  # before that a study's best rate is anywhere


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The best rate of one study.

    Attributes:
        learning_rate, low, high: of its optimum, by its trials alone: what the rules say is left
            out, since it is the rules that these rates are compared with.
        itself: whether it is the study that the report is about.
    """

    study: str
    batch_size: int
    precision: str
    learning_rate: float
    low: float
    high: float
    itself: bool


def neighbours(study: Study, others: Sequence[Study]) -> tuple[Neighbour, ...]:
    """The study and those like it, by batch size; those with under three complete trials left out.

    Args:
        study: one that `sweep run` made.
        others: studies that may be like it; the study itself may be among them.
    """
    about = study.user_attrs
    found = [_neighbour(study, about, itself=True)] if _is_known(study) else []
    for other in others:
        if other.study_name != study.study_name:
            there = other.user_attrs
            if _fixed(there) == _fixed(about) and _is_known(other):
                found.append(_neighbour(other, there, itself=False))
    return tuple(sorted(found, key=lambda each: (each.batch_size, each.precision, each.study)))


def _fixed(about: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in about["identity"].items() if key not in VARIED}


def _is_known(study: Study) -> bool:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return len(complete) >= LEAST_COMPLETE


def _neighbour(study: Study, about: Mapping[str, Any], *, itself: bool) -> Neighbour:
    trials = study.get_trials(deepcopy=False)
    found = best_rate(Posterior(with_noise(observe(trials)), {}, *about["range"]))
    identity = about["identity"]
    return Neighbour(
        study.study_name, identity["batch_size"], identity["precision"], *found, itself
    )
