"""A study's trials as rows, counted by the database itself.

10,000 trials of 20 reports are some 300,000 stored values. Optuna makes objects of them all, which
takes tens of seconds; a table of trials needs the lowest of each trial's reports and their number.
"""

import functools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.study import Study
from optuna.trial import FrozenTrial

from studies.definition import PARAMETER
from studies.perplexity import LEAST, is_perplexity
from studies.trials import as_rate, rate_of, why_no_result
from sweep.results.types import TrialRow
from sweep.storage.retry import retry_on

_Reported = models.TrialIntermediateValueModel
_FINITE = _Reported.intermediate_value_type == _Reported.TrialIntermediateValueType.FINITE
_PERPLEXITY = sa.and_(_FINITE, _Reported.intermediate_value >= LEAST)
_loads = functools.lru_cache(json.loads)  # thousands of trials name the same rule and reason


def rows_of(study: Study) -> list[TrialRow]:
    """Every trial of a study, by number: what `trial_row` says of each.

    Args:
        study: in one of this tool's storages.
    """
    storage = study._storage
    if isinstance(storage, _CachedStorage):
        storage = storage._backend
    assert isinstance(storage, RDBStorage)
    engine, study_id = storage.engine, study._study_id
    return retry_on(storage, lambda: _read(engine, study_id))


def _read(engine: sa.Engine, study_id: int) -> list[TrialRow]:
    trial = models.TrialModel
    mine = sa.select(trial.trial_id).where(trial.study_id == study_id)

    def of(model: Any, *columns: Any) -> "sa.Select[Any]":
        return sa.select(model.trial_id, *columns).where(model.trial_id.in_(mine))

    known_value = sa.case((_PERPLEXITY, _Reported.intermediate_value))
    finite_count = sa.func.count(sa.case((_FINITE, 1)))
    reports = of(_Reported, sa.func.min(known_value), finite_count, sa.func.count())
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
        rates = dict(fetch(of(param, param.param_value).where(param.param_name == PARAMETER)))
        ended = of(value, value.value, value.value_type).where(value.objective == 0)
        values = {key: value.stored_repr_to_value(*rest) for key, *rest in fetch(ended)}
        kept = fetch(of(user, user.key, user.value_json).where(user.key.in_(KEPT)))
        fixed = fetch(of(system, system.value_json).where(system.key == "fixed_params"))
    attributes: dict[int, dict[str, Any]] = {}
    for identifier, key, text in kept:
        attributes.setdefault(identifier, {})[key] = _loads(text)
    given = {identifier: as_rate(json.loads(text).get(PARAMETER)) for identifier, text in fixed}
    return [
        make_row(
            number,
            state.name,
            rates.get(identifier, given.get(identifier)),
            *reported.get(identifier, (None, 0, 0)),
            value=values.get(identifier),
            attributes=attributes.get(identifier, {}),
        )
        for identifier, number, state in trials
    ]


_STATES = {
    "RUNNING": "running",
    "WAITING": "waiting",
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
}


PAUSED = "paused"  # as `studies.trials` names it, which need not be loaded here


KEPT = ("nearest_rule", "multiple", "reason", "by_hand", "audit", PAUSED)
"""The attributes of a trial that its row has."""


def make_row(
    number: int,
    state: str,
    rate: float | None,
    lowest: float | None,
    finite: int,
    reported: int,
    *,
    value: float | None,
    attributes: Mapping[str, Any],
) -> TrialRow:
    """One stored trial as a row.

    Args:
        number: the trial's.
        state: Optuna's name of it.
        rate: its learning rate, None where it has none yet.
        lowest: the lowest perplexity, None where none was reported.
        finite, reported: how many finite ones, and how many at all.
        value: the trial's own.
        attributes: those of `KEPT` that it has.
    """
    reason = attributes.get("reason", "")
    if state == "COMPLETE" and value == math.inf:
        state = "PRUNED"
    elif state == "COMPLETE" and (fault := why_no_result(rate, value)):  # another program's
        state, reason = "FAIL", f"failed: {fault}"
    if state == "PRUNED" and (finite < reported or value == math.inf):
        lowest = math.inf  # it diverged: what it reached before is no result
    if lowest is None and state == "COMPLETE":
        lowest = value
    left = attributes.get(PAUSED, "") if state == "RUNNING" else ""
    return TrialRow(
        number=number,
        state="paused" if left else _STATES[state],
        learning_rate=math.nan if rate is None else rate,
        rule=attributes.get("nearest_rule", ""),
        multiple=attributes.get("multiple", math.nan),
        perplexity=lowest,
        epochs=finite,
        reason=f"paused: {left}" if left else reason,
        by_hand=bool(attributes.get("by_hand", False)),
        audit=attributes.get("audit", ""),
    )


def trial_row(trial: FrozenTrial) -> TrialRow:
    """One stored trial as a row."""
    values = trial.intermediate_values.values()
    finite = [value for value in values if math.isfinite(value)]
    lowest = min(filter(is_perplexity, finite), default=None)
    return make_row(
        trial.number,
        trial.state.name,
        rate_of(trial),
        lowest,
        len(finite),
        len(values),
        value=trial.value,
        attributes=trial.user_attrs,
    )
