"""`sweep predict`: the best rate at a batch, model size or length that was not swept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import optuna
from optuna.storages import RDBStorage
from optuna.study import Study

from studies.exponents import Exponents
from studies.law import WITHIN, Slopes
from studies.numbers import ACCIDENT
from studies.optimum import optimum
from studies.rules import RULES, Setting
from sweep.errors import SweepError
from sweep.results.belief import study_posterior
from sweep.results.family import (
    SEQUENCES,
    TOKENS,
    Family,
    check_family,
    exponents,
    find_family,
    is_finished,
    predict_optimum,
    setting_of,
)
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
        slopes: the law's exponents at the setting.
        exponents: how the best rate scales over the studies; None where they have one setting.
    """

    forecast: Forecast
    model: str
    family: Family
    rules: Mapping[str, float]
    slopes: Slopes
    exponents: Exponents | None


def predict(
    storage: StorageUrl | str,
    name: str | None,
    batch: int,
    parameters: int | None,
    *,
    tokens: float | None = None,
    steps: int | None = None,
) -> Predicted:
    """Forecasts the best rate, and stores what it forecast.

    Args:
        storage: the database, as the user names it.
        name: of a study like those to start from; None takes the finished one that ran last.
        batch: the batch size, in sequences.
        parameters: of the model; None for as many as that study's model has.
        tokens: that a run trains on; None for as many as that study's do.
        steps: of a run, in place of tokens.

    Raises:
        SweepError: there is no finished study to start from, or the studies do not say how long
            their runs are.
    """
    opened = open_storage(storage, create=False)
    base = open_study(storage, name) if name else _newest_finished(opened, storage)
    check_family(base)
    record = read_study(base)
    family = find_family(opened, record.identity)
    size = parameters or record.parameters
    setting = _asked(
        family, replace(setting_of(base), batch_size=batch, parameters=size), tokens, steps
    )
    found = predict_optimum(family, setting)
    if found is None:
        raise SweepError(_nothing_finished(f"study '{base.study_name}' and those like it"))
    said = _as_swept(Forecast.of(found, setting), family, found.setting)
    store(said, family)
    rules = rule_rates(base, batch, size)
    return Predicted(said, record.model, family, rules, found.slopes, exponents(family))


def _asked(family: Family, like: Setting, tokens: float | None, steps: int | None) -> Setting:
    """A setting with the length that was asked for, in the family's unit."""
    if tokens is None and steps is None:
        return like
    per_sequence = family.sequence_tokens
    if steps is not None:
        sequences: float | None = steps * like.batch_size
        tokens = sequences * per_sequence if sequences and per_sequence else None
    else:
        sequences = tokens / per_sequence if tokens and per_sequence else None
    setting = replace(like, tokens=tokens, sequences=sequences)
    if family.swept and family.counted(setting).length is None:
        instead = {SEQUENCES: "give --steps", TOKENS: "give --tokens"}.get(
            family.unit, "leave --tokens and --steps out, or sweep with `sweep run --steps`"
        )
        flag = "--tokens" if steps is None else "--steps"
        raise SweepError(f"{flag}: these studies do not say how many their runs have: {instead}")
    return setting


def _as_swept(said: Forecast, family: Family, setting: Setting) -> Forecast:
    """What was swept there needs no forecast: the newest such study's own answer."""
    for swept, study in zip(reversed(family.swept), reversed(family.studies), strict=True):
        if swept.setting == setting:
            posterior = study_posterior(study)
            found = optimum(posterior)
            lost = float(posterior.lost(np.log([found.learning_rate]))[0]) - ACCIDENT
            width = math.log(found.high / found.low) / (2 * WITHIN)
            return replace(
                said,
                learning_rate=found.learning_rate,
                low=found.low,
                high=found.high,
                width=width,
                safe=found.safe_up_to or said.safe,
                risk=max(lost, 0.0),
                lost_from=found.lost_from or said.lost_from,
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
        if is_finished(study) and read_study(study).decay is None:
            return study
    raise SweepError(_nothing_finished(str(StorageUrl(storage))))


def _nothing_finished(what: str) -> str:
    return (
        f"{what}: no study is finished, with three complete trials or more, to forecast from: "
        "let `sweep run` reach its end"
    )
