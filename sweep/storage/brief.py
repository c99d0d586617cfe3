"""A study's trials in brief, counted by the database itself.

10,000 trials of 20 reports are some 300,000 stored values. Optuna makes objects of them all, which
takes tens of seconds; a table of trials needs the lowest of each trial's reports and their number.
"""

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from optuna.storages._rdb import models
from optuna.study import Study

from sweep.storage.retry import behind_cache, retry_on

_Reported = models.TrialIntermediateValueModel
_FINITE = _Reported.intermediate_value_type == _Reported.TrialIntermediateValueType.FINITE
_loads = functools.lru_cache(json.loads)  # thousands of trials name the same rule and reason


@dataclass(frozen=True, slots=True)
class BriefTrial:
    """A stored trial.

    Attributes:
        state: Optuna's name of it.
        parameters: as they were suggested, else as they were enqueued, whatever that is.
        lowest: the lowest finite report of at least `least`.
        last_finite: the last step with a finite report, 0 for none.
        finite, reported: how many finite reports, and how many at all.
        attributes: those of the user's that were asked for.
    """

    number: int
    state: str
    parameters: dict[str, object]
    lowest: float | None
    last_finite: int
    finite: int
    reported: int
    value: float | None
    attributes: dict[str, Any]


def brief_trials(
    study: Study, parameters: Sequence[str], keys: Sequence[str], *, least: float
) -> list[BriefTrial]:
    """Every trial of a study, by number.

    Args:
        study: in one of this tool's storages.
        parameters: the names of those to read.
        keys: of the attributes to read.
        least: what a report must be at least to be the lowest one; another program's may be lower.
    """
    storage, study_id = behind_cache(study._storage), study._study_id
    return retry_on(storage, lambda: _read(storage.engine, study_id, parameters, keys, least))


def _read(
    engine: sa.Engine, study_id: int, names: Sequence[str], keys: Sequence[str], least: float
) -> list[BriefTrial]:
    trial = models.TrialModel
    mine = sa.select(trial.trial_id).where(trial.study_id == study_id)

    def of(model: Any, *columns: Any) -> "sa.Select[Any]":
        return sa.select(model.trial_id, *columns).where(model.trial_id.in_(mine))

    high_enough = sa.and_(_FINITE, _Reported.intermediate_value >= least)
    known_value = sa.case((high_enough, _Reported.intermediate_value))
    finite_count = sa.func.count(sa.case((_FINITE, 1)))
    last_finite = sa.func.max(sa.case((_FINITE, _Reported.step), else_=0))
    counts = finite_count, sa.func.count()
    reports = of(_Reported, sa.func.min(known_value), last_finite, *counts)
    param, value = models.TrialParamModel, models.TrialValueModel
    user, system = models.TrialUserAttributeModel, models.TrialSystemAttributeModel
    with engine.connect() as connection:

        def fetch(query: "sa.Select[Any]") -> Iterable[Any]:
            return connection.execute(query).all()

        trials = fetch(
            sa.select(trial.trial_id, trial.number, trial.state)
            .where(trial.study_id == study_id)
            .order_by(trial.number)
        )
        reported = {key: rest for key, *rest in fetch(reports.group_by(_Reported.trial_id))}
        named = of(param, param.param_name, param.param_value)
        suggested = fetch(named.where(param.param_name.in_(names)))
        ended = of(value, value.value, value.value_type).where(value.objective == 0)
        values = {key: value.stored_repr_to_value(*rest) for key, *rest in fetch(ended)}
        kept = fetch(of(user, user.key, user.value_json).where(user.key.in_(keys)))
        fixed = fetch(of(system, system.value_json).where(system.key == "fixed_params"))
    attributes: dict[int, dict[str, Any]] = {}
    for identifier, key, text in kept:
        attributes.setdefault(identifier, {})[key] = _loads(text)
    parameters: dict[int, dict[str, object]] = {}
    for identifier, text in fixed:
        given = json.loads(text)
        parameters[identifier] = {name: given[name] for name in names if name in given}
    for identifier, name, value_there in suggested:
        parameters.setdefault(identifier, {})[name] = value_there
    found = []
    for identifier, number, state in trials:
        lowest, last, finite, count = reported.get(identifier, (None, 0, 0, 0))
        named_here = parameters.get(identifier, {})
        kept_here, result = attributes.get(identifier, {}), values.get(identifier)
        reports_here = lowest, last, finite, count
        found.append(BriefTrial(number, state.name, named_here, *reports_here, result, kept_here))
    return found
