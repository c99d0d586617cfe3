"""A database that is busy for a while: what could not be done is tried again, then refused."""

import functools
import time
from collections.abc import Callable
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.exc import DBAPIError

from sweep.errors import SweepError

BUSY_TIMEOUT_S = 5.0
"""How long SQLite itself waits for a lock; short, as no signal is heard meanwhile."""
PATIENCE_S = 120.0
PAUSE_S = 0.2

Answer = TypeVar("Answer")


def reason(error: BaseException) -> str:
    """What the database's driver said, where Optuna and SQLAlchemy have wrapped it."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return str(cause.orig if isinstance(cause, DBAPIError) else cause or error)


def passes(error: BaseException) -> bool:
    """Whether waiting may help: another program holds the database's lock."""
    return "database is locked" in reason(error) or "database table is locked" in reason(error)


def insist(attempt: Callable[[], Answer], say: Callable[[str], None]) -> Answer:
    """Tries until it works, for up to two minutes.

    Args:
        attempt: one transaction, so that a failed one has changed nothing.
        say: told once that this waits.

    Raises:
        SweepError: the database stayed locked.
    """
    deadline, said = time.monotonic() + PATIENCE_S, False
    while True:
        try:
            return attempt()
        except (StorageInternalError, DBAPIError) as error:
            if not passes(error):
                raise
            if time.monotonic() >= deadline:
                raise SweepError(
                    f"the database stayed locked by another program for {PATIENCE_S:.0f} s: close "
                    "that program, then give the same command again. What was stored before is kept"
                ) from error
        if not said:
            say(f"the database is locked by another program: trying for {PATIENCE_S:.0f} s")
        said = True
        time.sleep(PAUSE_S)


class PatientStorage(RDBStorage):
    """Optuna's storage, each of whose methods is one transaction that is tried again.

    Attributes:
        say: told when it waits; a run's view takes its place.
    """

    say: Callable[[str], None] = staticmethod(lambda _: None)


def _patiently(name: str) -> Callable[..., Any]:
    method = getattr(RDBStorage, name)

    @functools.wraps(method)
    def tried(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        return insist(functools.partial(method, self, *args, **kwargs), self.say)

    return tried


# The private ones are what Optuna's cache, which stands before this storage, calls.
_CACHED = ("_create_new_trial", "_set_trial_param", "_get_trials", "_get_best_trial_id")
for _name in (*BaseStorage.__abstractmethods__, *_CACHED):
    setattr(PatientStorage, _name, _patiently(_name))
