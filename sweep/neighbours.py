"""Studies that differ from one another in batch size or precision alone, and their best rates."""

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.study import Study
from optuna.trial import TrialState

from studies.noise import with_noise
from studies.observed import observe
from studies.optimum import optimum
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
    same = [study, *(each for each in others if _is_like(each, study))]
    found = [_neighbour(each, each is study) for each in same if _is_known(each)]
    return tuple(sorted(found, key=lambda each: (each.batch_size, each.precision, each.study)))


def _is_like(other: Study, study: Study) -> bool:
    if other.study_name == study.study_name:
        return False
    mine, theirs = (
        {key: value for key, value in each.user_attrs["identity"].items() if key not in VARIED}
        for each in (study, other)
    )
    return bool(mine == theirs)


def _is_known(study: Study) -> bool:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return len(complete) >= LEAST_COMPLETE


def _neighbour(study: Study, itself: bool) -> Neighbour:
    identity, trials = study.user_attrs["identity"], study.get_trials(deepcopy=False)
    found = optimum(Posterior(with_noise(observe(trials)), {}, *study.user_attrs["range"]))
    return Neighbour(
        study.study_name,
        identity["batch_size"],
        identity["precision"],
        found.learning_rate,
        found.low,
        found.high,
        itself,
    )
