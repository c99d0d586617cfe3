"""Trials of a study, read by one query a table.

Optuna reads them as linked objects of SQLAlchemy's: of 10,000 trials of 20 reports that takes 8 s,
and 300 MB more than the trials themselves. And it looks for the few new ones among all.
"""

import functools
import json
import sys
from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy as sa
from optuna.distributions import json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy.orm import Session

_IN_PARTS = {"yield_per": 1000}  # rows that are held at once

_PARAM, _VALUE = models.TrialParamModel, models.TrialValueModel
_REPORT = models.TrialIntermediateValueModel
_USER, _SYSTEM = models.TrialUserAttributeModel, models.TrialSystemAttributeModel
_COLUMNS = {
    _PARAM: ("param_name", "param_value", "distribution_json"),
    _VALUE: ("value", "value_type"),
    _REPORT: ("step", "intermediate_value", "intermediate_value_type"),
    _USER: ("key", "value_json"),
    _SYSTEM: ("key", "value_json"),
}
_distribution = functools.lru_cache(json_to_distribution)  # one for all trials


def read_trials(
    session: Session, study_id: int, *, above: int = -1, and_of: Collection[int] = ()
) -> list[FrozenTrial]:
    """Trials of a study, as Optuna's storage gives them.

    Args:
        session: on a database with Optuna's tables.
        study_id: of the study.
        above: only those with a higher id; all by default,
        and_of: and those with these ids.

    Returns:
        In the order in which they were made.

    Raises:
        KeyError: there is no such study.
    """
    models.StudyModel.find_or_raise_by_id(study_id, session)
    # States first: what had ended by then has in the other tables all that it will have.
    wanted = _wanted(study_id, above, and_of)
    trials = _bare(session, wanted)

    def rows(table: Any) -> Iterator[tuple[Any, ...]]:
        mine = sa.select(models.TrialModel.trial_id).where(wanted) if above < 0 else list(trials)
        return _rows(session, mine, trials, table) if trials else iter(())

    for trial, name, value, text in rows(_PARAM):
        trial.distributions[name] = _distribution(text)
        trial.params[name] = trial.distributions[name].to_external_repr(value)
    for trial, value, kind in rows(_VALUE):
        trial.values = [*(trial.values or []), _VALUE.stored_repr_to_value(value, kind)]
    for trial, step, value, kind in rows(_REPORT):
        trial.intermediate_values[step] = _REPORT.stored_repr_to_intermediate_value(value, kind)
    for trial, key, text in rows(_USER):
        trial.user_attrs[sys.intern(key)] = json.loads(text)
    for trial, key, text in rows(_SYSTEM):
        trial.system_attrs[sys.intern(key)] = json.loads(text)
    return list(trials.values())


def _wanted(study_id: int, above: int, and_of: Collection[int]) -> Any:
    """Which rows of the trials' table."""
    model = models.TrialModel
    if above < 0:
        return model.study_id == study_id
    # A sum is in no index: SQLite would take the study's, and go through all its trials.
    mine, new = model.study_id + 0 == study_id, model.trial_id > above
    if not and_of:  # to SQLAlchemy an empty list is a query of its own: no index answers the whole
        return mine & new
    # The bound is what the index answers: SQLite would go through all trials for the rest alone.
    return mine & (model.trial_id >= min(*and_of, above)) & (new | model.trial_id.in_(and_of))


def _bare(session: Session, wanted: Any) -> dict[int, FrozenTrial]:
    """The trials by their ids, with what their own table holds."""
    model: Any = models.TrialModel
    query = sa.select(model).where(wanted).order_by(model.trial_id)
    return {
        stored.trial_id: FrozenTrial(
            number=stored.number,
            state=stored.state,
            value=None,
            datetime_start=stored.datetime_start,
            datetime_complete=stored.datetime_complete,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
            trial_id=stored.trial_id,
        )
        for stored in session.scalars(query, execution_options=_IN_PARTS)
    }


def _rows(
    session: Session, mine: Any, trials: dict[int, FrozenTrial], table: Any
) -> Iterator[tuple[Any, ...]]:
    """A table's rows of trials whose ids are `mine`, each led by its trial."""
    query = sa.select(table.trial_id, *(getattr(table, name) for name in _COLUMNS[table]))
    in_order = query.where(table.trial_id.in_(mine)).order_by(*sa.inspect(table).primary_key)
    for identifier, *columns in session.execute(in_order, execution_options=_IN_PARTS):
        if identifier in trials:  # one that was made meanwhile is seen the next time
            yield trials[identifier], *columns
