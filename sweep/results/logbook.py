"""A family of studies as a logbook: what was asked and found, the law, and the forecasts."""

from dataclasses import dataclass

from optuna.storages import BaseStorage
from optuna.study import Study

from studies.exponents import Exponents
from studies.law import Law, Slopes, Swept
from studies.optimum import Optimum, optimum
from sweep.errors import SweepError
from sweep.results.belief import study_posterior
from sweep.results.family import Family, check_family, exponents, find_family
from sweep.results.forecast import Forecast, own
from sweep.results.record import StudyRecord, read_study, stored_forecasts


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A finished study.

    Attributes:
        swept: its setting and its best rate by its trials alone.
        found: its best rate with all that it knew, as its report has it.
        trials: that it started.
    """

    swept: Swept
    record: StudyRecord
    found: Optimum
    trials: int


@dataclass(frozen=True, slots=True)
class LogForecast:
    """A forecast, and what a study there has found since; None: none was made yet."""

    forecast: Forecast
    found: Swept | None


@dataclass(frozen=True, slots=True)
class Logbook:
    """All of a family.

    Attributes:
        entries: in the order in which they ran last.
        slopes: the law's exponents at the largest study.
        exponents: None where all studies have one setting.
        forecasts: in the order in which they were made.
    """

    family: Family
    entries: tuple[LogEntry, ...]
    slopes: Slopes
    exponents: Exponents | None
    forecasts: tuple[LogForecast, ...]


def build_logbook(study: Study, storage: BaseStorage) -> Logbook:
    """Reads the family of a study.

    Raises:
        SweepError: no study of it is finished.
    """
    check_family(study)
    family = find_family(storage, read_study(study).identity)
    if not family.swept:
        raise SweepError(
            f"study '{study.study_name}' and those like it: none is finished, so there is nothing "
            "to log: let `sweep run` reach its end"
        )
    pairs = zip(family.swept, family.studies, strict=True)
    entries = sorted((_entry(*pair) for pair in pairs), key=lambda entry: entry.record.ran)
    return Logbook(
        family,
        tuple(entries),
        Law(family.swept, family.critical).slopes(family.swept[-1].setting),
        exponents(family),
        tuple(_forecasts(family)),
    )


def _entry(swept: Swept, study: Study) -> LogEntry:
    trials = len(study.get_trials(deepcopy=False))
    return LogEntry(swept, read_study(study), optimum(study_posterior(study)), trials)


def _forecasts(family: Family) -> list[LogForecast]:
    """Of `sweep predict`, `sweep run --plan`, and what each study was started from."""
    made = [Forecast.read(each) for study in family.studies for each in stored_forecasts(study)]
    made += [forecast for study in family.studies if (forecast := own(study)) is not None]
    by_setting = {swept.setting: swept for swept in family.swept}
    begun = {study.study_name: _begun(study) for study in family.studies}
    found = []
    for forecast in sorted(made, key=lambda each: each.made):
        met = by_setting.get(family.counted(forecast.setting))
        # What was swept before is no forecast's proof.
        later = met is not None and begun[met.study] >= forecast.made
        found.append(LogForecast(forecast, met if later else None))
    return found


def _begun(study: Study) -> float:
    """When a study's first trial began, seconds since 1970."""
    trials = study.get_trials(deepcopy=False)
    return min((t.datetime_start.timestamp() for t in trials if t.datetime_start), default=0.0)
