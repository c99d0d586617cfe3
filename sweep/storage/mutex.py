"""One orchestrator at a time where several work on one study: a row that only one can insert."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from optuna.storages import RDBStorage
from sqlalchemy import (
    Column,
    ColumnElement,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError

from sweep.storage.retry import Answer, retry_on

HELD_AT_MOST_S = 300.0
"""A holder that was killed: longer than any of its work, a database's lock included."""
PAUSE_S = 0.02

_METADATA = MetaData()
_HOLDERS = Table(
    "sweep_mutex",
    _METADATA,
    Column("study_id", Integer, primary_key=True),
    Column("holder", String(32), nullable=False),
    Column("expires", Float, nullable=False),
)


class Mutex:
    """Held for the moment in which trials are asked for or taken over.

    Args:
        storage: of any database that SQLAlchemy knows.
        study_id: of the study that is guarded.
    """

    def __init__(self, storage: RDBStorage, study_id: int) -> None:
        self._storage, self._engine, self._study_id = storage, storage.engine, study_id
        self._me = uuid.uuid4().hex
        self._retry(lambda: _METADATA.create_all(self._engine))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Waits for the others, and keeps them out within."""
        while not self._retry(self._try):
            time.sleep(PAUSE_S)
        try:
            yield
        finally:
            mine = (_HOLDERS.c.study_id == self._study_id) & (_HOLDERS.c.holder == self._me)
            self._retry(lambda: self._delete(mine))

    def _retry(self, attempt: Callable[[], Answer]) -> Answer:
        """Waits for a locked database as the storage does."""
        return retry_on(self._storage, attempt)

    def _try(self) -> bool:
        now = time.time()
        row = {"study_id": self._study_id, "holder": self._me, "expires": now + HELD_AT_MOST_S}
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_HOLDERS).values(row))
        except IntegrityError:
            self._delete((_HOLDERS.c.study_id == self._study_id) & (_HOLDERS.c.expires < now))
            # Mine, where a server took it and went away before it said so.
            with self._engine.connect() as connection:
                holder = select(_HOLDERS.c.holder).where(_HOLDERS.c.study_id == self._study_id)
                return bool(connection.execute(holder).scalar() == self._me)
        return True

    def _delete(self, rows: ColumnElement[bool]) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(_HOLDERS).where(rows))
