"""`sweep predict`: the best rate at a batch or model size that was not swept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import optuna
from optuna.storages import RDBStorage
from optuna.study import Study

from studies.exponents import Exponents
from studies.optimum import best_rate
from studies.rules import RULES, Setting
from sweep.errors import SweepError
from sweep.results.belief import study_posterior
from sweep.results.family import Family, exponents, find_family, is_finished, predict_optimum
from sweep.results.forecast import Forecast, store
from sweep.results.lookup import open_study, study_names
from sweep.results.record import read_study
from sweep.storage.connect import open_storage
from sweep.url import StorageUrl


@dataclass(frozen=True, slots=True)
class Predicted:
    """A forecast and what stands beside it.

    Attributes:
        model: the model's name.
        family: the finished studies that it rests on.
        rules: each scaling rule's rate there, by the rule's name.
        exponents: how the best rate scales over the studies; None where they have one setting.
    """

    forecast: Forecast
    model: str
    family: Family
    rules: Mapping[str, float]
    exponents: Exponents | None


def predict(
    storage: StorageUrl | str, name: str | None, batch: int, parameters: int | None
) -> Predicted:
    """Forecasts the best rate, and stores what it forecast.

    Args:
        storage: the database, as the user names it.
        name: of a study like those to start from; None takes the finished one that ran last.
        batch: the batch size, in sequences.
        parameters: of the model; None for as many as that study's model has.

    Raises:
        SweepError: there is no finished study to start from.
    """
    opened = open_storage(storage, create=False)
    base = open_study(storage, name) if name else _newest_finished(opened, storage)
    record = read_study(base)
    family = find_family(opened, record.identity)
    size = parameters or record.parameters
    found = predict_optimum(family, Setting(batch, size))
    if found is None:
        raise SweepError(_nothing_finished(f"study '{base.study_name}' and those like it"))
    said = _as_swept(Forecast.of(found), family, found.setting)
    store(said, family)
    return Predicted(said, record.model, family, rule_rates(base, batch, size), exponents(family))


def _as_swept(said: Forecast, family: Family, setting: Setting) -> Forecast:
    """What was swept there needs no forecast: the newest such study's own answer."""
    for swept, study in zip(reversed(family.swept), reversed(family.studies), strict=True):
        there = swept.setting
        if (there.batch_size, there.parameters) == (setting.batch_size, setting.parameters):
            rate, low, high = best_rate(study_posterior(study))
            return replace(
                said, learning_rate=rate, low=low, high=high, width=math.log(high / low) / 3.29
            )
    return said


def rule_rates(study: Study, batch: int, parameters: int) -> dict[str, float]:
    """Each rule's rate at another setting, carried on from the study's own.

    A rule of the user's own is left out where the study does not say how it scales.
    """
    record = read_study(study)
    known = {rule.name: (rule.batch_exponent, rule.parameter_exponent) for rule in RULES}
    known |= record.exponents
    batches, sizes = batch / record.batch_size, parameters / record.parameters
    return {
        rule.name: rule.learning_rate * batches**p * sizes**q
        for rule in record.rules
        if (scales := known.get(rule.name))
        for p, q in [scales]
    }


def _newest_finished(opened: RDBStorage, storage: StorageUrl | str) -> Study:
    for name in reversed(study_names(opened)):
        study = optuna.load_study(study_name=name, storage=opened)
        if is_finished(study):
            return study
    raise SweepError(_nothing_finished(str(StorageUrl(storage))))


def _nothing_finished(what: str) -> str:
    return (
        f"{what}: no study is finished, with three complete trials or more, to forecast from: "
        "let `sweep run` reach its end"
    )
