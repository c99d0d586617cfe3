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

from studies.law import LEVEL
from studies.rules import Setting
from studies.transfer import Prediction
from sweep.formatting import format_fitted
from sweep.results.family import Family, find_family, is_known, make_family, setting_of
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
        tokens, steps: of a run, as far as they are known; earlier versions forecast for the length
            of the studies alone.
        length_ratio: as batch_ratio.
        safe: the highest rate at which training is lost with a probability of 5 % at most.
        risk: the probability that it is lost at `learning_rate`.
        lost_from: the rate from which on it is lost as likely as not.
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
    tokens: float | None = None
    steps: float | None = None
    length_ratio: float = 1.0
    safe: float | None = None
    risk: float | None = None
    lost_from: float | None = None

    @property
    def setting(self) -> Setting:
        """Where it holds."""
        sequences = None if self.steps is None else self.steps * self.batch_size
        return Setting(self.batch_size, self.parameters, self.tokens, sequences)

    @classmethod
    def of(cls, prediction: Prediction, asked: Setting | None = None) -> Self:
        """A prediction made now.

        Args:
            prediction: the forecast.
            asked: its setting with every length that is known, not in the family's unit alone.
        """
        low, high = prediction.interval
        setting, wall = asked or prediction.setting, prediction.wall
        return cls(
            batch_size=setting.batch_size,
            parameters=setting.parameters,
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
            tokens=setting.tokens,
            steps=setting.sequences / setting.batch_size if setting.sequences else None,
            length_ratio=prediction.length_ratio,
            safe=wall.safe,
            risk=wall.risk(math.log(prediction.rate)),
            lost_from=math.exp(wall.mean),
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
    write_forecast(family.studies[-1], family.counted(forecast.setting), forecast.stored())


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
    (found,) = make_family([study], read_study(study).identity).swept
    return "; ".join(_judged(each, found.rate) for each in _distinct(made))


def _earlier(study: Study, storage: BaseStorage, started: float) -> Iterable[Forecast]:
    """What `sweep predict` said of this setting before the study began."""
    family = find_family(storage, read_study(study).identity)
    here = family.counted(setting_of(study))
    for other in family.studies:
        same_length = family.counted(setting_of(other)).length == here.length
        stored = stored_forecast(other, here, unsaid=same_length)
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
