"""A database that is busy or away for a while: what failed is tried again, then refused."""

import functools
import json
import time
from collections.abc import Callable, Container, Mapping
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb.models import (
    StudySystemAttributeModel,
    TrialModel,
    TrialUserAttributeModel,
)
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import delete, insert
from sqlalchemy.exc import DBAPIError, IntegrityError

from sweep.errors import SweepError
from sweep.storage.queries import read_trials
from sweep.storage.server import away

BUSY_TIMEOUT_S = 5.0
"""How long SQLite itself waits for a lock; short, as no signal is heard meanwhile."""
RETRY_FOR_S = 120.0
PAUSE_S = 0.2
MAKING_PAUSES_S = tuple(0.01 * 2**count for count in range(8))

Answer = TypeVar("Answer")


def reason(error: BaseException) -> str:
    """What the database's driver said, where Optuna and SQLAlchemy have wrapped it."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    said = cause.orig if isinstance(cause, DBAPIError) else cause or error
    return " ".join(str(said).split())


def locked(error: BaseException) -> str:
    """Says so where another program holds the database's lock, otherwise ""."""
    found = "database is locked" in reason(error) or "database table is locked" in reason(error)
    return "the database is locked by another program" if found else ""


def passes(error: BaseException) -> str:
    """What may be over after a while, "" where waiting does not help."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return locked(error) or ("the database's server does not answer" if away(cause) else "")


def retry(
    attempt: Callable[[], Answer],
    say: Callable[[str], None],
    passing: Callable[[BaseException], str] = passes,
    *,
    patient: bool = True,
) -> Answer:
    """Tries until it works, for up to two minutes.

    Args:
        attempt: one transaction, so that a failed one has changed nothing.
        say: told once that this waits.
        passing: what an error is waited for, in words; "" where it is not.
        patient: whether to wait at all.

    Raises:
        SweepError: the database stayed locked, or away.
    """
    deadline, said = time.monotonic() + (RETRY_FOR_S if patient else 0), False
    while True:
        try:
            return attempt()
        except (StorageInternalError, DBAPIError) as error:
            what = passing(error)
            if not what:
                raise
            if time.monotonic() >= deadline:
                raise SweepError(
                    f"{what}, for {RETRY_FOR_S:.0f} s now ({reason(error)}): see to it, then give "
                    "the same command again. What was stored before is kept"
                ) from error
        if not said:
            say(f"{what}: trying for {RETRY_FOR_S:.0f} s")
        said = True
        time.sleep(PAUSE_S)


def beside_others(make: Callable[[], Answer]) -> Answer:
    """Makes what several programs may be making at once: who comes second finds it made."""
    for pause in MAKING_PAUSES_S:
        try:
            return make()
        except (StorageInternalError, DBAPIError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            if not isinstance(cause, IntegrityError) and "already exists" not in reason(error):
                raise
        time.sleep(pause)
    return make()


class RetryingStorage(RDBStorage):
    """Optuna's storage, each of whose methods is one transaction that is tried again.

    It reads trials in bulk, and writes several attributes of one at once.

    Attributes:
        say: told when it waits; a run's view takes its place.
        patient: until it has waited in vain: what a program still writes as it ends does not wait.
        read_only: whether it can only be read.
    """

    patient = True
    read_only = False

    say: Callable[[str], None] = staticmethod(lambda _: None)

    def set_trial_user_attrs(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """Writes all of them or none, in the time that one takes.

        Args:
            trial_id: of a trial that has not ended.
            attributes: plain JSON values.

        Raises:
            UpdateFinishedTrialError: it has ended.
        """
        stored = TrialUserAttributeModel
        rows = [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
            for key, value in attributes.items()
        ]
        with _create_scoped_session(self.scoped_session, True) as session:
            trial: Any = TrialModel.find_or_raise_by_id(trial_id, session)
            self.check_trial_is_updatable(trial_id, trial.state)
            mine = (stored.trial_id == trial_id) & stored.key.in_(attributes)
            session.execute(delete(stored).where(mine))
            session.execute(insert(stored), rows)

    def fold_in(self) -> None:
        """Moves SQLite's log into the database file, so that a plain copy of the file has it all.

        It waits for no one: what another program still reads is moved at the next call.
        """
        if self.engine.dialect.name == "sqlite":
            with self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        with _create_scoped_session(self.scoped_session) as session:
            found = read_trials(
                session, study_id, above=trial_id_greater_than, and_of=included_trial_ids
            )
        return [trial for trial in found if states is None or trial.state in states]


def add_study_system_attrs(study: Study, attributes: Mapping[str, Any]) -> None:
    """Writes attributes that a study does not have yet, in one transaction.

    Args:
        study: in one of this tool's storages.
        attributes: plain JSON values.
    """
    storage = behind_cache(study._storage)
    rows = [
        {"study_id": study._study_id, "key": key, "value_json": json.dumps(value)}
        for key, value in attributes.items()
    ]

    def write() -> None:
        with _create_scoped_session(storage.scoped_session, True) as session:
            session.execute(insert(StudySystemAttributeModel), rows)

    if rows:
        retry_on(storage, write)


def behind_cache(storage: BaseStorage) -> RDBStorage:
    """The database itself, of a storage that may be one of Optuna's or our caches."""
    found = getattr(storage, "_backend", storage)
    assert isinstance(found, RDBStorage)
    return found


def retry_on(storage: RDBStorage, attempt: Callable[[], Answer]) -> Answer:
    """Tries a transaction of our own as the storage tries its own."""
    say, patient = getattr(storage, "say", lambda _: None), getattr(storage, "patient", True)
    return retry(attempt, say, patient=patient)


_LOOKED_UP = ("get_study_id_from_name", "get_trial_id_from_study_id_trial_number")
"""What need not be there: Optuna expects the KeyError."""


def _patiently(name: str) -> Callable[..., Any]:
    method = getattr(RetryingStorage, name)

    @functools.wraps(method)
    def tried(self: RetryingStorage, *args: Any, **kwargs: Any) -> Any:
        attempts = 0

        def attempt() -> Any:
            nonlocal attempts
            attempts += 1
            try:
                return method(self, *args, **kwargs)
            except UpdateFinishedTrialError:
                # A server may do a thing and go away before it says so: then it is done.
                if attempts == 1 or name != "set_trial_state_values":
                    raise
                return True

        try:
            return retry(attempt, self.say, patient=self.patient)
        except SweepError:
            self.patient = False
            raise
        except KeyError as error:
            if name in _LOOKED_UP:
                raise
            raise SweepError(
                "the study, or a trial of it, was deleted from the database by another program. "
                "Its checkpoints are kept; the same command begins a deleted study anew"
            ) from error

    return tried


# The private ones are what Optuna's cache, which stands before this storage, calls.
_CACHED = ("_create_new_trial", "_set_trial_param", "_get_trials", "_get_best_trial_id")
for _name in (*BaseStorage.__abstractmethods__, *_CACHED, "set_trial_user_attrs"):
    setattr(RetryingStorage, _name, _patiently(_name))
