import re
import sqlite3
import threading
from pathlib import Path

import optuna
import pytest
from support import make_at_once

from sweep.errors import SweepError
from sweep.storage.connect import open_storage, sqlite_path, storage_url


def test_a_plain_path_is_an_sqlite_file(tmp_path: Path) -> None:
    assert storage_url("here/sweep.db") == "sqlite:///here/sweep.db"
    assert storage_url("mysql://host/x") == "mysql://host/x"
    assert sqlite_path("here/sweep.db") == Path("here/sweep.db")
    assert sqlite_path("sqlite:////tmp/sweep.db") == Path("/tmp/sweep.db")
    assert sqlite_path("mysql://host/x") is None


def test_a_new_database_is_in_wal_mode_for_everyone(tmp_path: Path) -> None:
    path = tmp_path / "sweep.db"
    storage = open_storage(str(path), create=True)
    optuna.create_study(storage=storage)
    with sqlite3.connect(path) as other:
        assert other.execute("pragma journal_mode").fetchone() == ("wal",)
    with storage.engine.connect() as mine:
        assert mine.exec_driver_sql("pragma synchronous").scalar() == 1  # NORMAL
        assert mine.exec_driver_sql("pragma busy_timeout").scalar() == 5_000


def test_several_may_make_one_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sweep.db"
    assert make_at_once(str(path), 3) == [""] * 3
    assert optuna.get_all_study_names(open_storage(str(path), create=False)) == ["mine"]


def test_a_database_that_optuna_made_is_taken_to_wal_mode(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'sweep.db'}"
    optuna.create_study(study_name="there", storage=url)
    storage = open_storage(url, create=False)
    assert optuna.get_all_study_names(storage) == ["there"]
    with sqlite3.connect(tmp_path / "sweep.db") as other:
        assert other.execute("pragma journal_mode").fetchone() == ("wal",)


def test_a_reader_does_not_stop_the_writer_and_sees_what_it_began_with(tmp_path: Path) -> None:
    path = tmp_path / "sweep.db"
    study = optuna.create_study(storage=open_storage(str(path), create=True))
    trial = study.ask()
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("begin")
    count = "select count(*) from trial_intermediate_values"
    assert reader.execute(count).fetchone() == (0,)
    trial.report(5.0, 1)
    assert reader.execute(count).fetchone() == (0,)
    reader.execute("commit")
    assert reader.execute(count).fetchone() == (1,)
    reader.close()


def test_a_writer_waits_for_another_ones_lock(tmp_path: Path) -> None:
    path = tmp_path / "sweep.db"
    trial = optuna.create_study(storage=open_storage(str(path), create=True)).ask()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    release = threading.Timer(0.3, other.execute, ["commit"])
    release.start()
    trial.report(5.0, 1)  # would fail with "database is locked" were it not to wait
    release.join()
    other.close()
    assert trial.study.trials[0].intermediate_values == {1: 5.0}


@pytest.mark.parametrize(
    "storage",
    ["missing.db", "sqlite://", "sqlite:///:memory:", "no-folder/x.db", "://x", "nonsense://x/y"],
)
def test_what_cannot_be_opened_is_an_error_in_one_line_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SweepError, match=re.escape(storage)) as caught:
        open_storage(storage, create=False)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but long enough to look at\n" * 40)
    before = file.read_bytes()
    with pytest.raises(SweepError, match="file is not a database"):
        open_storage(str(file), create=True)
    assert file.read_bytes() == before


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="is a folder"):
        open_storage(str(tmp_path), create=True)
