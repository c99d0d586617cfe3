"""A study's trials as columns of numbers; a finished trial is read once, since it never changes.

A study of thousands of trials is asked, and each report of it judged, thousands of times. What is
kept here is no state of the search: without it every answer is the same, only later. All studies of
a process share it, so a lock keeps their threads apart.
"""

import copy
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from optuna.trial import FrozenTrial

Array = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
Read = Callable[..., float]

UNFINISHED = 0  # the row that stands for all of them
SPARE = 1000  # trials of other studies that are kept
ROOM = 50  # rows that a column is made longer at least


class _Finished:
    """What finished trials hold: a row a trial, a column for each way to read one.

    Its methods may be called by several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # `rows` asks for a row
        self._trials: list[FrozenTrial] = []  # kept alive, so that no other one gets their ids
        self._rows: dict[int, int] = {}
        self._begun: list[FrozenTrial] = []  # what the last trials began with, up to an unfinished
        self._begun_rows: Indices = np.empty(0, np.intp)
        self._columns: dict[tuple[Any, ...], tuple[Array, int]] = {}  # with room, and the rows read

    def __len__(self) -> int:
        return len(self._trials)

    def rows(self, trials: Sequence[FrozenTrial]) -> Indices:
        """Each trial's row."""
        with self._lock:
            begun = len(self._begun)
            if trials[:begun] != self._begun:  # quick: they are the same objects, or other ones
                begun = 0
            rest = np.fromiter(map(self.row, trials[begun:]), np.intp, len(trials) - begun)
            rows = np.append(self._begun_rows[:begun], rest)
            begun = next(iter(places(rows == UNFINISHED)), len(rows))
            self._begun, self._begun_rows = [*trials[:begun]], rows[:begun]
            return rows

    def row(self, trial: FrozenTrial) -> int:
        """A trial's row."""
        with self._lock:
            row = self._rows.get(id(trial), UNFINISHED)
            if row == UNFINISHED and trial.state.is_finished():
                self._trials.append(trial)
                row = self._rows[id(trial)] = len(self._trials)
            return row

    def column(self, read: Read, *arguments: Any) -> Array:
        """What `read` says of each row's trial."""
        with self._lock:
            values, count = self._columns.get((read, *arguments), (np.full(1, np.nan), 1))
            new = [read(trial, *arguments) for trial in self._trials[count - 1 :]]
            if count + len(new) > len(values):  # by a quarter more than now, so that it is seldom
                values = np.append(values[:count], np.empty(len(new) + ROOM + count // 4))
            values[count : count + len(new)] = new
            self._columns[read, *arguments] = values, count + len(new)
            known: Array = values[: count + len(new)]
            return known


_finished = _Finished()


def _memory(trials: int) -> _Finished:
    """What is kept of finished trials; begun anew when most of it is of other studies."""
    global _finished
    if len(_finished) > 2 * trials + SPARE:
        _finished = _Finished()
    return _finished


class Table(Sequence[FrozenTrial]):
    """Trials as columns, and as the trials that they are.

    Args:
        trials: a row for each, in this order.
    """

    def __init__(self, trials: Iterable[FrozenTrial]) -> None:
        self._trials = list(trials)
        self._memory = _memory(len(self._trials))
        self._rows = self._memory.rows(self._trials)
        self._unfinished = places(self._rows == UNFINISHED)

    @classmethod
    def of(cls, trials: Iterable[FrozenTrial]) -> "Table":
        """The table of trials that may be one already: to find many trials' rows takes a while."""
        return trials if isinstance(trials, Table) else cls(trials)

    @overload
    def __getitem__(self, place: int) -> FrozenTrial: ...

    @overload
    def __getitem__(self, place: slice) -> list[FrozenTrial]: ...

    def __getitem__(self, place: int | slice) -> FrozenTrial | list[FrozenTrial]:
        return self._trials[place]

    def __len__(self) -> int:
        return len(self._trials)

    def without(self, number: int) -> "Table":
        """All but the trial of that number."""
        found = places(self.column(_number) == number)
        kept = [*self._trials]
        for place in reversed(found):
            del kept[place]
        return self._changed(kept, np.delete(self._rows, found))

    def replaced(self, trials: Mapping[int, FrozenTrial]) -> "Table":
        """The same with other trials at some places."""
        changed, rows = [*self._trials], self._rows.copy()
        for place, trial in trials.items():
            changed[place] = trial
            rows[place] = self._memory.row(trial)
        return self._changed(changed, rows)

    def column(self, read: Read, *arguments: Any) -> Array:
        """What `read` says of each trial.

        Args:
            read: called with a trial and the arguments, on which alone its answer depends. It must
                not raise: it may be called with another study's trials too.
            arguments: hashable.
        """
        values = self._memory.column(read, *arguments)[self._rows]
        for place in self._unfinished:
            values[place] = read(self._trials[place], *arguments)
        return values

    def mask(self, read: Callable[..., bool], *arguments: Any) -> Mask:
        """The same of what is so or not."""
        return self.column(read, *arguments).astype(bool)

    def contents(self) -> Hashable:
        """Equal for the same trials that say the same; unfinished ones may come to say more."""
        unfinished = tuple(repr(self._trials[place]) for place in self._unfinished)
        return self._memory, self._rows.tobytes(), unfinished

    def _changed(self, trials: list[FrozenTrial], rows: Indices) -> "Table":
        table = copy.copy(self)
        table._trials, table._rows = trials, rows
        table._unfinished = places(rows == UNFINISHED)
        return table


def _number(trial: FrozenTrial) -> float:
    return trial.number


def places(mask: Mask) -> list[int]:
    """Where it is so."""
    found: list[int] = np.flatnonzero(mask).tolist()
    return found
