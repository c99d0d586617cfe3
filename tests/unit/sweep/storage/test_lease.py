"""Processes that hold a study: real ones, which are killed, stopped and woken by real signals."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import Study
from sqlalchemy import Row, create_engine
from sqlalchemy.exc import DBAPIError
from support import sql, storage_of

from sweep.errors import SweepError
from sweep.storage import beats, process
from sweep.storage import lease as module
from sweep.storage.beats import SILENCE_S, Watch
from sweep.storage.connect import open_storage
from sweep.storage.lease import Lease, StoppedWaiting
from sweep.storage.process import has_ended, machine, this_process

HURRY = """
import sys, time
import optuna
from pathlib import Path
from sweep.storage import beats, lease as module
from sweep.storage.connect import open_storage
from sweep.storage.lease import Lease

beats.BEAT_S, beats.SILENCE_S, beats.SAY_AFTER_S = 0.05, 1.0, 0.3
module.LONGEST_PAUSE_S = 0.05
def say(text):
    print(text, flush=True)
url, folder = sys.argv[1], Path(sys.argv[2])
storage = open_storage(url, create=True, say=say)
study = optuna.load_study(study_name="mine", storage=storage)
lease = Lease(study)
"""
HOLD = """
with lease.taken():
    study.ask()
    INSIDE or say("held")
    while INSIDE: say("held") or time.sleep(1000)
while True:
    for _ in sys.stdin.readline():
        pass
    study.ask()
    say("wrote")
"""
# Reads a number, waits, and writes one more: where turns are not kept, others' counts are lost.
COUNT = """
with lease.taken(join=True):
    pass
say("held")
sys.stdin.readline()
for _ in range(10):
    with lease.turn():
        number = int((folder / "count").read_text())
        time.sleep(0.01)
        (folder / "count").write_text(str(number + 1))
lease.release()
"""


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beats, "BEAT_S", 0.05)
    monkeypatch.setattr(beats, "SILENCE_S", 1.0)
    monkeypatch.setattr(beats, "SAY_AFTER_S", 0.3)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.05)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def study(tmp_path: Path, said: list[str]) -> Study:
    storage = open_storage(storage_of(tmp_path), create=True, say=said.append)
    return optuna.create_study(study_name="mine", storage=storage)


@pytest.fixture
def start(tmp_path: Path, study: Study) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a process that runs a script, once it says that it holds the study."""
    started: list[subprocess.Popen[str]] = []

    def begin(script: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HURRY + script, storage_of(tmp_path), str(tmp_path)]
        pipe: Any = subprocess.PIPE
        begun = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        started.append(begun)
        assert begun.stdout is not None
        assert begun.stdout.readline() == "held\n", begun.communicate()
        return begun

    yield begin
    for each in started:
        each.kill()
        each.communicate()


def holder(*, inside: bool = False) -> str:
    """A script that holds the study, or stays within its turn."""
    return HOLD.replace("INSIDE", str(inside))


def holders(folder: Path) -> list[int]:
    return [pid for (pid,) in sql(folder, "select pid from sweep_leases order by pid")]


def as_if_elsewhere(folder: Path, pid: int) -> None:
    """The process's lease is of another machine: whether it lives cannot be looked up here."""
    sql(folder, f"update sweep_leases set machine = 'another' where pid = {pid}")


Start = Callable[[str], "subprocess.Popen[str]"]


class TestOneAlone:
    def test_it_names_its_holder_and_is_given_back(self, study: Study, tmp_path: Path) -> None:
        lease = Lease(study)
        with lease.held():
            assert holders(tmp_path) == [os.getpid()]
        assert holders(tmp_path) == []

    def test_it_is_given_back_after_an_error(self, study: Study, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), Lease(study).held():
            raise ZeroDivisionError
        assert holders(tmp_path) == []

    def test_a_living_holder_is_named_and_left_alone(
        self, study: Study, tmp_path: Path, start: Start
    ) -> None:
        pid = start(holder()).pid
        with (
            pytest.raises(SweepError, match=f"'mine' is being run by process {pid} on "),
            Lease(study).held(),
        ):
            pass
        assert holders(tmp_path) == [pid]

    @pytest.mark.parametrize("inside", [False, True])
    def test_one_that_was_killed_on_this_machine_is_not_waited_for(
        self, study: Study, start: Start, monkeypatch: pytest.MonkeyPatch, inside: bool
    ) -> None:
        if study._storage._backend.engine.dialect.name != "sqlite":  # type: ignore[attr-defined]
            pytest.skip("a server's clients may be of several machines")
        monkeypatch.setattr(beats, "SILENCE_S", 1e9)
        dead = start(holder(inside=inside))
        dead.kill()
        dead.wait()
        with Lease(study).held():
            pass

    @pytest.mark.parametrize(("inside", "join"), [(False, False), (True, False), (True, True)])
    def test_one_that_died_elsewhere_is_waited_for_by_name_and_time(
        self,
        study: Study,
        said: list[str],
        tmp_path: Path,
        start: Start,
        inside: bool,
        join: bool,
    ) -> None:
        dead = start(holder(inside=inside))
        as_if_elsewhere(tmp_path, dead.pid)
        dead.kill()
        dead.wait()
        lease = Lease(study)
        with lease.taken(join=join):
            assert holders(tmp_path) == [os.getpid()]
        lease.release()
        (note,) = said
        assert f"waiting for process {dead.pid} on " in note
        assert " at the latest" in note

    def test_a_wait_ends_where_it_is_asked_to(
        self, study: Study, tmp_path: Path, start: Start
    ) -> None:
        dead = start(holder())
        as_if_elsewhere(tmp_path, dead.pid)
        dead.kill()
        dead.wait()
        with pytest.raises(StoppedWaiting), Lease(study, stopped=lambda: True).taken():
            pass
        assert holders(tmp_path) == [dead.pid]

    def test_ctrl_c_ends_a_wait(self, study: Study, tmp_path: Path, start: Start) -> None:
        dead = start(holder())
        as_if_elsewhere(tmp_path, dead.pid)
        dead.kill()
        dead.wait()
        waits = HURRY + "beats.SILENCE_S = 1e9\nwith lease.taken(): pass"
        with subprocess.Popen(
            [sys.executable, "-c", waits, storage_of(tmp_path), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as waiting:
            assert waiting.stdout is not None
            assert "waiting for process" in waiting.stdout.readline()
            waiting.send_signal(signal.SIGINT)
            assert "KeyboardInterrupt" in waiting.communicate()[1]


class TestOneThatSlept:
    def test_it_finds_out_before_it_writes_and_leaves_the_new_holders_alone(
        self, study: Study, tmp_path: Path, start: Start
    ) -> None:
        sleeper = start(holder())
        sleeper.send_signal(signal.SIGSTOP)
        with Lease(study).taken():
            pass
        sleeper.send_signal(signal.SIGCONT)
        _, error = sleeper.communicate("write\n")
        assert "another one took it over: the same command goes on" in error
        assert len(study.get_trials()) == 1
        assert holders(tmp_path) == [os.getpid()]

    def test_no_write_goes_between_the_loss_and_its_news(
        self, study: Study, tmp_path: Path
    ) -> None:
        lease = Lease(study)
        with lease.taken():
            trial = study.ask()
        lease._released.set()  # the thread that would bring the news
        sql(tmp_path, "delete from sweep_leases")
        for write in (
            study.ask,
            lambda: trial.report(1.0, 1),
            lambda: study.set_user_attr("key", 1),
            lambda: study.tell(trial, 1.0),
        ):
            with pytest.raises(SweepError, match="took it over"):
                write()
        with pytest.raises(SweepError, match="took it over"):
            lease.check()
        (kept,) = study.get_trials()
        assert (kept.state.name, kept.intermediate_values, study.user_attrs) == ("RUNNING", {}, {})

    def test_one_that_is_only_late_goes_on(self, study: Study, start: Start) -> None:
        sleeper = start(holder())
        sleeper.send_signal(signal.SIGSTOP)
        sleeper.send_signal(signal.SIGCONT)
        assert sleeper.stdin is not None
        assert sleeper.stdout is not None
        sleeper.stdin.write("write\n")
        sleeper.stdin.flush()
        assert sleeper.stdout.readline() == "wrote\n"


class TestJoining:
    def test_who_joins_has_a_lease_beside_the_other(
        self, study: Study, tmp_path: Path, start: Start
    ) -> None:
        pid = start(holder()).pid
        lease = Lease(study)
        with lease.taken(join=True):
            assert holders(tmp_path) == sorted([pid, os.getpid()])
            assert len(lease.others()) == 1
        lease.release()
        assert holders(tmp_path) == [pid]

    def test_with_sqlite_not_from_another_machine(
        self, study: Study, tmp_path: Path, start: Start
    ) -> None:
        pid = start(holder()).pid
        as_if_elsewhere(tmp_path, pid)
        lease = Lease(study)
        if not lease._local:
            with lease.taken(join=True):
                return
        with (
            pytest.raises(SweepError, match="locks do not work over networks"),
            lease.taken(join=True),
        ):
            pass
        assert holders(tmp_path) == [pid]

    def test_they_take_turns(self, tmp_path: Path, start: Start) -> None:
        (tmp_path / "count").write_text("0")
        workers = [start(COUNT) for _ in range(2)]
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        assert [worker.wait() for worker in workers] == [0, 0]
        assert (tmp_path / "count").read_text() == "20"

    def test_the_turn_of_one_that_died_in_it_comes_to_its_end(
        self, study: Study, said: list[str], tmp_path: Path
    ) -> None:
        lease, dead = Lease(study), Lease(study)
        for each in (lease, dead):
            with each.taken(join=True):
                pass
        turn = dead.turn()
        turn.__enter__()
        dead._released.set()
        with lease.turn():
            assert lease.others() == set()
        lease.release()
        assert f"waiting for process {os.getpid()} on " in said[0]
        with pytest.raises(SweepError, match="took it over"):
            turn.__exit__(None, None, None)

    def test_another_studys_turn_is_another_one(self, study: Study) -> None:
        other = optuna.create_study(study_name="other", storage=study._storage)
        with Lease(study).held(), Lease(other).held():
            pass

    def test_a_turn_that_cannot_be_written_is_an_error(self, study: Study, tmp_path: Path) -> None:
        lease = Lease(study)
        with lease.taken():
            pass
        lease._released.set()
        sql(tmp_path, "drop table sweep_leases")
        with pytest.raises(DBAPIError, match="sweep_leases"), lease.turn():
            pass


def held(token: str, beat: int) -> Row[Any]:
    """A row as it is found."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        row = connection.exec_driver_sql(f"select '{token}' as token, {beat} as beat").one()
    engine.dispose()
    return row


class TestTheWatch:
    @pytest.fixture
    def now(self) -> list[float]:
        return [0.0]

    @pytest.fixture
    def watch(self, now: list[float], monkeypatch: pytest.MonkeyPatch) -> Watch:
        monkeypatch.undo()
        return Watch(lambda: now[0])

    def look(self, watch: Watch, now: list[float], row: Row[Any], *, for_s: float) -> None:
        until = now[0] + for_s
        while now[0] < until:
            watch.look([row])
            now[0] += 1
        watch.look([row])

    def test_unseen_it_is_neither_alive_nor_dead(self, watch: Watch) -> None:
        watch.look([held("a", 7)])
        assert not watch.alive(held("a", 7))
        assert not watch.dead(held("a", 7))

    def test_alive_is_whose_counter_moved(self, watch: Watch) -> None:
        watch.look([held("a", 7)])
        watch.look([held("a", 8)])
        assert watch.alive(held("a", 8))

    def test_dead_is_whose_counter_stood_still_for_long(
        self, watch: Watch, now: list[float]
    ) -> None:
        self.look(watch, now, held("a", 7), for_s=SILENCE_S - 1)
        assert not watch.dead(held("a", 7))
        self.look(watch, now, held("a", 7), for_s=1)
        assert watch.dead(held("a", 7))

    def test_one_that_moved_since_the_last_look_is_not_dead(
        self, watch: Watch, now: list[float]
    ) -> None:
        self.look(watch, now, held("a", 7), for_s=SILENCE_S)
        assert watch.dead(held("a", 7))
        assert not watch.dead(held("a", 8))

    def test_time_in_which_nobody_looked_tells_nothing(
        self, watch: Watch, now: list[float]
    ) -> None:
        watch.look([held("a", 7)])
        now[0] += 1000
        watch.look([held("a", 7)])
        assert not watch.dead(held("a", 7))


class TestAnEnd:
    def test_a_living_process_has_not_ended(self) -> None:
        assert not has_ended(machine(), this_process())

    def test_a_number_that_is_anothers_now_has(self) -> None:
        *names, pid, started = this_process().split()
        assert has_ended(machine(), " ".join([*names, pid, str(int(started) - 1)]))

    def test_one_that_is_not_collected_has(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        *names, _, _ = this_process().split()
        named = " ".join([*names, str(child.pid), process._started(child.pid)])
        assert not has_ended(machine(), named)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(machine(), named)
        child.communicate()
        assert has_ended(machine(), named)

    def test_of_another_machine_or_namespace_nothing_is_known(self) -> None:
        _, *names, _, started = this_process().split()
        assert not has_ended("another", this_process())
        assert not has_ended(machine(), " ".join(["pid:[1]", *names, "1", started]))
        assert not has_ended(machine(), "")


def test_a_forgotten_lease_stops_beating(study: Study) -> None:
    before = threading.active_count()
    lease = Lease(study)
    with lease.taken():
        pass
    assert threading.active_count() == before + 1
    lease.release()
    while threading.active_count() > before:
        time.sleep(0.01)
