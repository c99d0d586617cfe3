"""A database that another program has locked."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError

from sweep.errors import SweepError
from sweep.storage import connect, retry
from sweep.storage.connect import open_storage


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "BUSY_TIMEOUT_S", 0.05)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.db"
    open_storage(str(path), create=True).engine.dispose()
    return path


@pytest.fixture
def other(database: Path) -> Iterator[sqlite3.Connection]:
    """Another program, which holds the lock until it commits."""
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


def test_every_write_waits_for_the_lock_and_says_so_once(
    database: Path, other: sqlite3.Connection
) -> None:
    said: list[str] = []
    study = optuna.create_study(storage=open_storage(str(database), create=True, say=said.append))
    trial = study.ask()

    def release() -> None:
        other.execute("commit")

    for number, write in enumerate(
        [
            lambda: trial.suggest_float("learning_rate", 1e-6, 1.0),
            lambda: trial.report(5.0, 1),
            lambda: trial.set_user_attr("note", "mine"),
            lambda: study.set_user_attr("note", "ours"),
            lambda: study.tell(trial, 3.0),
        ],
        1,
    ):
        other.execute("begin immediate")
        timer = threading.Timer(0.3, release)
        timer.start()
        write()
        timer.join()
        assert said == ["the database is locked by another program: trying for 120 s"] * number
    (stored,) = study.get_trials()
    assert (stored.value, stored.intermediate_values) == (3.0, {1: 5.0})
    assert (stored.user_attrs, study.user_attrs) == ({"note": "mine"}, {"note": "ours"})


def test_a_lock_that_stays_is_one_line_and_nothing_is_lost(
    database: Path, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "RETRY_FOR_S", 0.3)
    study = optuna.create_study(storage=open_storage(str(database), create=True))
    study.tell(study.ask(), 1.0)
    other.execute("begin immediate")
    with pytest.raises(SweepError, match=r"by another program, for 0 s now .*: see to it"):
        study.set_user_attr("note", "mine")
    other.execute("commit")
    assert [trial.value for trial in study.get_trials()] == [1.0]
    study.ask()


def test_another_fault_of_the_database_is_not_waited_for(database: Path) -> None:
    study = optuna.create_study(storage=open_storage(str(database), create=True))
    with sqlite3.connect(database) as connection:
        connection.execute("drop table trials")
    with pytest.raises(StorageInternalError) as caught:
        study.ask()
    assert "no such table" in retry.reason(caught.value)
