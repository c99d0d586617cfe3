"""The row that only one of several processes can insert."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from sweep.storage import mutex
from sweep.storage.connect import open_storage
from sweep.storage.mutex import Mutex

# Reads a number, waits, and writes one more: without the mutex, others' counts are lost.
COUNT = """
import sys, time
from pathlib import Path
from sweep.storage.mutex import Mutex
from sweep.storage.connect import open_storage

folder = Path(sys.argv[1])
mutex = Mutex(open_storage(str(folder / "sweep.db"), create=True), 1)
(folder / f"ready-{sys.argv[2]}").touch()
while not (folder / "go").exists():
    time.sleep(0.01)
for _ in range(10):
    with mutex.held():
        number = int((folder / "count").read_text())
        time.sleep(0.01)
        (folder / "count").write_text(str(number + 1))
"""


def new(folder: Path, study: int = 1) -> Mutex:
    return Mutex(open_storage(str(folder / "sweep.db"), create=True), study)


def test_processes_take_turns(tmp_path: Path) -> None:
    new(tmp_path)
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path)]
    workers = [subprocess.Popen([*command, str(number)]) for number in range(2)]
    while not all((tmp_path / f"ready-{number}").exists() for number in range(2)):
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.02)
    (tmp_path / "go").touch()
    assert [worker.wait() for worker in workers] == [0, 0]
    assert (tmp_path / "count").read_text() == "20"


def test_another_studys_is_another_one(tmp_path: Path) -> None:
    with new(tmp_path, 1).held(), new(tmp_path, 2).held():
        pass


def test_it_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new(tmp_path).held():
        raise ZeroDivisionError
    with new(tmp_path).held():
        pass


def test_a_killed_holders_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutex, "HELD_AT_MOST_S", 0.3)
    dead, entered = new(tmp_path), threading.Event()
    holding = dead.held()
    holding.__enter__()
    with new(tmp_path).held():
        entered.set()
    assert entered.is_set()
    holding.__exit__(None, None, None)  # what it deletes is its own row, which is gone


def test_a_database_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    one = new(tmp_path)
    with one._engine.begin() as connection:
        connection.exec_driver_sql("drop table sweep_mutex")
    with pytest.raises(OperationalError, match="no such table"), one.held():
        pass
