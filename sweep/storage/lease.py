"""Who runs a study: a row an orchestrator, with a counter that it raises as long as it lives.

One orchestrator holds a study alone, unless others join it: each then has a row of its own, writes
only its own trials, and asks for them in its turn, which one row of a study has at a time.

Whoever waits for another watches its counter by its own clock. Clocks of two machines are never
compared, and no name of a host or number of a process says that one is dead.
"""

import contextlib
import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from optuna.study import Study
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    UniqueConstraint,
    delete,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import ORMExecuteState, Session

from sweep.errors import SweepError
from sweep.storage import beats
from sweep.storage.process import has_ended, machine, this_process
from sweep.storage.retry import Answer, behind_cache, beside_others, retry_on

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 1.0

_METADATA = MetaData()
_LEASES = Table(
    "sweep_leases",
    _METADATA,
    Column("token", String(32), primary_key=True),
    Column("study_id", Integer, nullable=False),
    Column("turn", Integer),  # 1 for the one whose turn it is, otherwise null, which is not unique
    Column("beat", Integer, nullable=False),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("machine", String(255), nullable=False),
    Column("process", String(255), nullable=False),
    UniqueConstraint("study_id", "turn"),
)
Held = Row[Any]  # of _LEASES


class StoppedWaiting(KeyboardInterrupt):
    """Ctrl-C ended a wait for another orchestrator."""


class Lease:
    """The right to write a study: as long as it is held, a write without it fails.

    Args:
        study: to be held.
        stopped: whether a wait is to end, where Ctrl-C raises nothing.
    """

    def __init__(self, study: Study, stopped: Callable[[], bool] = lambda: False) -> None:
        self._storage: Any = behind_cache(study._storage)
        self._engine = self._storage.engine
        self._name, self._study_id = study.study_name, study._study_id
        self._local = self._engine.dialect.name == "sqlite"  # a file of this machine's
        self._stopped = stopped
        self._lost = False
        self._watch = beats.Watch()
        self._released = threading.Event()
        weakref.finalize(self, self._released.set)
        self.token = uuid.uuid4().hex[:8]
        self._mine = _LEASES.c.token == self.token
        self._retry(lambda: beside_others(lambda: _METADATA.create_all(self._engine)))

    @contextmanager
    def taken(self, *, join: bool = False) -> Iterator[None]:
        """Takes it, and keeps the others' turns out within; an error within gives it back.

        It waits for a holder that may be dead.

        Args:
            join: whether to work beside those who hold one.

        Raises:
            SweepError: another one lives and holds it, and `join` was not asked for, or cannot be.
        """
        self._take(join)
        try:
            self._begin()
            yield
        except BaseException:
            with contextlib.suppress(Exception):  # what failed within is the error to be seen
                self.release()
            raise
        self._retry(self._end_turn)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds it within, alone.

        Raises:
            SweepError: another one lives and holds it.
        """
        with self.taken():
            yield
        self.release()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for the others' turns, and keeps them out within.

        Raises:
            SweepError: the lease was taken over.
            StoppedWaiting: `stopped` said so.
        """
        say = self._say_late()
        for waited in self._backing_off():
            if self._retry(self._take_turn):
                break
            found = self._retry(self._found)
            self._clear(found)
            say(waited, [held for held in found if held.turn])
        try:
            yield
        finally:
            self._retry(self._end_turn)

    def check(self) -> None:
        """Costs nothing; to be called often.

        Raises:
            SweepError: this process was silent, and another one took the lease over.
        """
        if self._lost:
            raise SweepError(
                f"study '{self._name}': this process was silent for {beats.SILENCE_S:.0f} s or "
                "more, and another one took it over: the same command goes on, when that one has "
                "ended"
            )

    def release(self) -> None:
        """Gives the lease back."""
        self._released.set()
        for name, listener in self._listeners():
            if event.contains(self._storage.scoped_session, name, listener):
                event.remove(self._storage.scoped_session, name, listener)
        self._retry(lambda: self._delete([self._mine]))

    def others(self) -> set[str]:
        """The tokens of the other orchestrators, also of one that died and is not cleared yet."""
        return {held.token for held in self._retry(self._found)}

    def clear_dead(self) -> None:
        """Takes the leases of those that are gone: one that only slept stops when it wakes."""
        self._clear(self._retry(self._found))

    def _take(self, join: bool) -> None:
        say = self._say_late()
        for waited in self._backing_off():
            in_the_way = self._retry(lambda: self._enter(join=join))
            if in_the_way is None:
                return
            for held in filter(self._watch.alive, in_the_way):
                if not join or self._is_elsewhere(held):
                    raise self._refusal(held, join=join)
            self._clear(in_the_way)
            say(waited, in_the_way)

    def _enter(self, *, join: bool) -> list[Held] | None:
        """Takes lease and turn in one transaction; else gives those in the way."""
        mine = {
            "token": self.token,
            "study_id": self._study_id,
            "turn": 1,
            "beat": 0,
            "host": socket.gethostname()[:255],
            "pid": os.getpid(),
            "machine": machine(),
            "process": this_process(),
        }
        with self._engine.connect() as connection:
            try:
                connection.execute(insert(_LEASES).values(mine))
                found = self._found(connection)
                self._watch.look(found)
                in_the_way = [held for held in found if not join or self._is_elsewhere(held)]
                if in_the_way:
                    connection.rollback()
                    return in_the_way
                connection.commit()
                return None
            except IntegrityError:
                connection.rollback()
            # Mine is there, where a server took it and went away before it said so.
            if connection.execute(select(_LEASES.c.token).where(self._mine)).first():
                return None
            found = self._found(connection)
            self._watch.look(found)
            return [held for held in found if not join or held.turn or self._is_elsewhere(held)]

    def _begin(self) -> None:
        """From here on it beats, and what it writes is checked."""
        for name, listener in self._listeners():
            event.listen(self._storage.scoped_session, name, listener)
        beat = threading.Thread(
            target=_beat_until, args=(self._released, weakref.ref(self)), daemon=True
        )
        beat.start()

    def _take_turn(self) -> bool:
        """Looks first: a try is a write, which would keep the one whose turn it is from its own."""
        if any(held.turn for held in self._found()):
            return False
        try:
            return self._update(turn=1)
        except IntegrityError:
            return False

    def _end_turn(self) -> None:
        self._update(turn=None)

    def beat(self) -> None:
        """Raises the counter, and looks at the others'."""
        with self._engine.begin() as connection:
            beat = update(_LEASES).where(self._mine).values(beat=_LEASES.c.beat + 1)
            self._lost = not connection.execute(beat).rowcount
            # In one transaction with a write: in a database that is locked no counter moves.
            found = self._found(connection)
        self._watch.look(found)

    def _update(self, **values: int | None) -> bool:
        with self._engine.begin() as connection:
            changed = connection.execute(update(_LEASES).where(self._mine).values(values))
            self._lost = not changed.rowcount
        self.check()
        return True

    def _found(self, connection: Connection | None = None) -> list[Held]:
        """The others' rows."""
        others = select(_LEASES).where(_LEASES.c.study_id == self._study_id, ~self._mine)
        if connection is not None:
            return list(connection.execute(others))
        with self._engine.connect() as own:
            return list(own.execute(others))

    def _clear(self, found: Iterable[Held]) -> None:
        """Deletes the rows of the dead, but for one that shows life at the last moment."""
        for held in found:
            if self._watch.dead(held) or (self._local and has_ended(held.machine, held.process)):
                same = (_LEASES.c.token == held.token, _LEASES.c.beat == held.beat)
                self._retry(partial(self._delete, same))

    def _delete(self, conditions: Iterable[Any]) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(_LEASES).where(*conditions))

    def _listeners(self) -> tuple[tuple[str, Callable[..., Any]], ...]:
        return ("after_flush", self._after_flush), ("do_orm_execute", self._around_statement)

    def _after_flush(self, session: Session, _context: object) -> None:
        self._check_within(session)

    def _around_statement(self, state: ORMExecuteState) -> Any:
        if state.is_select:
            return None
        result = state.invoke_statement()
        self._check_within(state.session)
        return result

    def _check_within(self, session: Session) -> None:
        """Within the transaction that writes, so that nobody takes the lease before its end."""
        mine = select(_LEASES.c.token).where(self._mine)
        kept = mine.with_for_update(read=True, key_share=True)
        self._lost = session.connection().execute(kept).first() is None
        self.check()

    def _retry(self, attempt: Callable[[], Answer]) -> Answer:
        """Waits for a locked database as the storage does."""
        return retry_on(self._storage, attempt)

    def _backing_off(self) -> Iterator[float]:
        """Gives the seconds waited so far, after pauses that grow."""
        began, pause = time.monotonic(), FIRST_PAUSE_S
        while True:
            yield time.monotonic() - began
            if self._stopped():
                raise StoppedWaiting
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _say_late(self) -> Callable[[float, list[Held]], None]:
        """Says once, after a while, who is waited for."""
        said = False

        def say(waited_s: float, found: list[Held]) -> None:
            nonlocal said
            silent = [held for held in found if self._watch.silent_s(held) >= beats.SAY_AFTER_S]
            if said or not (silent or (found and waited_s >= beats.SILENCE_S)):
                return
            said, named = True, (silent or found)[0]
            until = time.localtime(time.time() + self._watch.left_s(named))
            what = (
                f"is silent: it is taken over at {time.strftime('%H:%M:%S', until)} at the latest, "
                "unless it shows life"
                if silent
                else "is alive and busy with it"
            )
            self._storage.say(
                f"study '{self._name}': waiting for {_holder(named)}, which holds it and {what}"
            )

        return say

    def _is_elsewhere(self, held: Held) -> bool:
        """Whether it runs where this SQLite file's locks do not reach."""
        return bool(self._local and held.machine != machine())

    def _refusal(self, held: Held, *, join: bool) -> SweepError:
        if join:
            return SweepError(
                f"study '{self._name}' is being run by {_holder(held)}, another host: SQLite's "
                "locks do not work over networks, so --join needs a server there, such as "
                "--storage postgresql://..."
            )
        return SweepError(
            f"study '{self._name}' is being run by {_holder(held)}: stop that one first, work "
            "beside it with --join, or choose another --study"
        )


def _beat_until(released: threading.Event, lease: "weakref.ref[Lease]") -> None:
    """Beats for a lease that nothing holds on to but its owner."""
    while not released.wait(beats.BEAT_S):
        held = lease()
        if held is None:
            return
        with contextlib.suppress(SQLAlchemyError):  # away or locked: the next one may come
            held.beat()
        del held


def _holder(held: Held) -> str:
    return f"process {held.pid} on {held.host}"
