"""A study's place among those that differ from it in batch, model size or length alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.study import Study

from studies.law import Swept
from studies.optimum import two_digits
from sweep.results.family import Family, comparable, is_known, make_family
from sweep.results.record import WITH, read_study


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The best rate of one study.

    Attributes:
        length: of a run, in tokens, or where not all know them in sequences; None: unknown.
        learning_rate, low, high: of its optimum, by its trials alone: what the rules say is left
            out, since it is the rules that these rates are compared with.
        itself: whether it is the study that the report is about.
    """

    study: str
    batch_size: int
    parameters: int
    length: float | None
    precision: str
    learning_rate: float
    low: float
    high: float
    itself: bool


def family_of(study: Study, others: Sequence[Study]) -> Family:
    """The study and those comparable with it; without those of under three complete trials.

    Args:
        study: one that `sweep run` made.
        others: studies that may be like it; the study itself may be among them.
    """
    identity = read_study(study).identity
    if WITH in identity:
        return make_family((), identity)
    different = [each for each in others if each.study_name != study.study_name]
    like = [each for each in different if comparable(read_study(each).identity, identity)]
    return make_family((each for each in (study, *like) if is_known(each)), identity)


def neighbours(study: Study, family: Family) -> tuple[Neighbour, ...]:
    """The best rate of each study of a family, by model size and batch size."""
    pairs = zip(family.swept, family.studies, strict=True)
    return tuple(_neighbour(swept, each, study.study_name) for swept, each in pairs)


def _neighbour(swept: Swept, study: Study, name: str) -> Neighbour:
    low, high = map(two_digits, swept.interval)
    return Neighbour(
        swept.study,
        swept.setting.batch_size,
        swept.setting.parameters,
        swept.setting.length,
        read_study(study).precision,
        two_digits(swept.rate),
        low,
        high,
        itself=swept.study == name,
    )
