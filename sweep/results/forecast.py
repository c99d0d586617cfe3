"""Forecasts of the best rate: as they are stored, and how good they turned out to be.

`sweep predict` stores one among the attributes of the largest study that it rests on, a study keeps
the one that it was started from. A study that ends at that batch and model size says how good both
were.
"""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from optuna.storages import BaseStorage
from optuna.study import Study

from studies.transfer import LEVEL, Prediction
from sweep.formatting import format_fitted
from sweep.results.family import Family, find_family, is_known, make_family
from sweep.results.record import read_study, stored_forecast, write_forecast
from sweep.storage.retry import behind_cache

SAME = 0.01  # ln rate: two forecasts nearer than this are one


@dataclass(frozen=True, slots=True)
class Forecast:
    """A forecast of the best rate.

    Attributes:
        low, high: the interval that holds it with a probability of `level`.
        width: sd of ln rate.
        batch_ratio, parameter_ratio: how far it lies beyond what was swept; 1: within.
        studies: names of those it rests on.
        batches: their batch sizes, in the same order.
        made: seconds since 1970.
    """

    batch_size: int
    parameters: int
    learning_rate: float
    low: float
    high: float
    level: float
    width: float
    batch_ratio: float
    parameter_ratio: float
    studies: tuple[str, ...]
    batches: tuple[int, ...]
    made: float

    @classmethod
    def of(cls, prediction: Prediction) -> Self:
        """A prediction made now."""
        low, high = prediction.interval
        return cls(
            batch_size=prediction.setting.batch_size,
            parameters=prediction.setting.parameters,
            learning_rate=prediction.rate,
            low=low,
            high=high,
            level=LEVEL,
            width=prediction.width,
            batch_ratio=prediction.batch_ratio,
            parameter_ratio=prediction.parameter_ratio,
            studies=tuple(each.study for each in prediction.optima),
            batches=tuple(each.setting.batch_size for each in prediction.optima),
            made=time.time(),
        )

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """One as it is stored."""
        lists = {name: tuple(stored[name]) for name in ("studies", "batches")}
        return cls(**{**stored, **lists})

    def stored(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "studies": list(self.studies), "batches": list(self.batches)}


def store(forecast: Forecast, family: Family) -> None:
    """Keeps a forecast beside the studies it rests on, in place of an earlier one.

    A database that can only be read keeps none.
    """
    if getattr(behind_cache(family.studies[-1]._storage), "read_only", False):
        return
    setting = forecast.batch_size, forecast.parameters
    write_forecast(family.studies[-1], *setting, forecast.stored())


def own(study: Study) -> Forecast | None:
    """The forecast that a study was started from; None where it was started without."""
    stored = read_study(study).transfer
    return Forecast.read(stored) if stored else None


def verdict(study: Study, storage: BaseStorage) -> str:
    """How good the forecasts for a study were, now that it has ended.

    Returns:
        A sentence for each; "" where there were none, or too few trials are complete.

    What it found is read under a uniform prior: the forecast is not judged by itself.
    """
    if not is_known(study):
        return ""
    started = [t.datetime_start.timestamp() for t in study.trials if t.datetime_start]
    made = [*filter(None, [own(study)]), *_earlier(study, storage, min(started, default=0.0))]
    if not made:
        return ""
    (found,) = make_family([study]).swept
    return "; ".join(_judged(each, found.rate) for each in _distinct(made))


def _earlier(study: Study, storage: BaseStorage, started: float) -> Iterable[Forecast]:
    """What `sweep predict` said of this setting before the study began."""
    record = read_study(study)
    for other in find_family(storage, record.identity).studies:
        stored = stored_forecast(other, record.batch_size, record.parameters)
        if stored and stored["made"] < started:
            yield Forecast.read(stored)


def _distinct(forecasts: Iterable[Forecast]) -> list[Forecast]:
    kept: list[Forecast] = []
    for each in forecasts:
        if all(abs(math.log(each.learning_rate / k.learning_rate)) > SAME for k in kept):
            kept.append(each)
    return kept


def _judged(forecast: Forecast, found: float) -> str:
    side = "inside"
    if found < forecast.low:
        side = "below it"
    elif found > forecast.high:
        side = "above it"
    return (
        f"forecast {format_fitted(forecast.learning_rate)} ({format_fitted(forecast.low)} to "
        f"{format_fitted(forecast.high)}), found {format_fitted(found)}: {side}"
    )
