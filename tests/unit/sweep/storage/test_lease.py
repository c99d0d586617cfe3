import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.study import Study
from support import storage_of

from sweep.errors import SweepError
from sweep.storage.connect import open_storage
from sweep.storage.lease import DURATION_S, KEY, RENEW_S, Lease


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return optuna.create_study(
        study_name="mine", storage=open_storage(storage_of(tmp_path), create=True)
    )


def held_by(study: Study, pid: int, *, host: str = "", expires_in: float = DURATION_S) -> None:
    expires = time.time() + expires_in
    lease = {"host": host or socket.gethostname(), "pid": pid, "expires": expires}
    study.set_user_attr(KEY, lease)


def ended_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_it_names_its_holder_and_expires(study: Study) -> None:
    Lease(study).take()
    held = study.user_attrs[KEY]
    assert (held["host"], held["pid"]) == (socket.gethostname(), os.getpid())
    assert time.time() < held["expires"] <= time.time() + DURATION_S


def test_it_is_given_back(study: Study) -> None:
    lease = Lease(study)
    lease.take()
    lease.release()
    assert study.user_attrs[KEY] == {}


def test_a_living_holder_is_left_alone_and_named(study: Study) -> None:
    held_by(study, os.getppid())
    with pytest.raises(SweepError, match=f"'mine' is being run by process {os.getppid()} on "):
        Lease(study).take()
    assert study.user_attrs[KEY]["pid"] == os.getppid()


def test_a_dead_holders_lease_is_taken_over_at_once(study: Study) -> None:
    held_by(study, ended_process())
    Lease(study).take()
    assert study.user_attrs[KEY]["pid"] == os.getpid()


def test_of_another_machine_only_an_expired_lease_is_taken_over(study: Study) -> None:
    held_by(study, ended_process(), host="elsewhere")
    with pytest.raises(SweepError, match="on elsewhere"):
        Lease(study).take()
    held_by(study, ended_process(), host="elsewhere", expires_in=-1)
    Lease(study).take()
    assert study.user_attrs[KEY]["pid"] == os.getpid()


def test_a_living_holder_that_sleeps_past_its_lease_loses_it(study: Study) -> None:
    held_by(study, os.getppid(), expires_in=-1)
    Lease(study).take()
    assert study.user_attrs[KEY]["pid"] == os.getpid()


def test_it_is_renewed_when_a_quarter_is_over(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(study)
    lease.take()
    first = study.user_attrs[KEY]["expires"]
    lease.renew()
    assert study.user_attrs[KEY]["expires"] == first
    later = time.time() + RENEW_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    lease.renew()
    assert study.user_attrs[KEY]["expires"] == later + DURATION_S


def test_who_lost_the_lease_in_its_sleep_stops_and_leaves_the_new_holders_alone(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(study)
    lease.take()
    later = time.time() + 2 * DURATION_S
    monkeypatch.setattr(time, "time", lambda: later)
    held_by(study, os.getppid())
    with pytest.raises(SweepError, match="is being run by process"):
        lease.renew()
    lease.release()
    assert study.user_attrs[KEY]["pid"] == os.getppid()


class TestJoining:
    def test_who_joins_has_a_lease_of_its_own_beside_the_other(self, study: Study) -> None:
        held_by(study, os.getppid())
        lease = Lease(study)
        lease.take(join=True)
        assert study.user_attrs[KEY]["pid"] == os.getppid()
        assert study.user_attrs[f"{KEY}-2"]["pid"] == os.getpid()
        lease.release()
        assert study.user_attrs[f"{KEY}-2"] == {}

    def test_places_of_the_dead_are_taken_first(self, study: Study) -> None:
        held_by(study, ended_process())
        Lease(study).take(join=True)
        assert study.user_attrs[KEY]["pid"] == os.getpid()
        assert f"{KEY}-2" not in study.user_attrs

    def test_the_others_are_those_that_live(self, study: Study) -> None:
        held_by(study, os.getppid())
        study.set_user_attr(f"{KEY}-2", {**study.user_attrs[KEY], "token": "live"})
        dead = {**study.user_attrs[KEY], "token": "dead", "pid": ended_process()}
        study.set_user_attr(f"{KEY}-3", dead)
        lease = Lease(study)
        lease.take(join=True)
        assert "live" in lease.others()
        assert not {"dead", lease.token} & lease.others()

    def test_whose_trials_were_taken_over_in_its_sleep_stops(
        self, study: Study, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sleeper, other = Lease(study), Lease(study)
        sleeper.take()
        asleep = {**study.user_attrs[KEY], "expires": time.time() - 1}
        study.set_user_attr(KEY, asleep)
        study.set_user_attr(f"{KEY}-2", {**asleep, "pid": os.getppid()})
        other._key = f"{KEY}-2"
        other.clear_dead()
        later = time.time() + 2 * DURATION_S
        monkeypatch.setattr(time, "time", lambda: later)
        with pytest.raises(SweepError, match="another one took its trials over"):
            sleeper.renew()
