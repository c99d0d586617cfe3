import json
import multiprocessing
import os
import signal
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from sweep.errors import SweepError
from sweep.execution import threads
from sweep.execution.isolated import call_in_process
from sweep.execution.threads import BOUND, COUNT, OWN, POLICY, bound, sleep_when_idle
from trainers.errors import TrainerError

LINUX = pytest.mark.skipif(
    not Path("/proc/self/task").exists() or (os.cpu_count() or 1) < 2, reason="binds on Linux"
)


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (POLICY, OWN, *BOUND, COUNT):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def cores() -> list[list[int]]:
    """What each of this process's OpenMP threads may run on."""
    import torch

    before = {int(task.name) for task in Path("/proc/self/task").iterdir()}
    torch.ones(1 << 22).mul_(2)  # starts them
    after = {int(task.name) for task in Path("/proc/self/task").iterdir()}
    return [sorted(os.sched_getaffinity(task)) for task in sorted({os.getpid()} | after - before)]


def refuse() -> None:
    raise TrainerError("window must be even")


def fail() -> None:
    raise MemoryError("no room")


def die() -> None:
    os._exit(9)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def echo(*values: object) -> tuple[object, ...]:
    return values


@LINUX
@pytest.mark.usefixtures("unset")
def test_what_trains_has_each_thread_on_its_own_core() -> None:
    sleep_when_idle()
    with bound():
        # By exec, as spawn does: libgomp reads the environment when it is loaded.
        code = "import json, test_threads; print(json.dumps(test_threads.cores()))"
        printed = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=Path(__file__).parent,
        ).stdout
    found = [set(each) for each in json.loads(printed)]
    assert len(found) > 1
    assert all(not one & other for one, other in combinations(found, 2))
    assert os.environ[POLICY] == "PASSIVE"
    assert not BOUND.keys() & os.environ.keys()


@pytest.mark.parametrize(
    ("name", "value", "policy"), [(POLICY, "ACTIVE", "ACTIVE"), (COUNT, "1", "PASSIVE")]
)
def test_what_the_user_set_stays(
    unset: pytest.MonkeyPatch, name: str, value: str, policy: str
) -> None:
    unset.setenv(name, value)
    sleep_when_idle()
    before = dict(os.environ)
    with bound():
        assert os.environ[POLICY] == policy
        assert not BOUND.keys() & os.environ.keys()
    assert dict(os.environ) == before


def test_under_a_quota_there_are_as_many_threads_as_cores_and_none_is_bound(
    unset: pytest.MonkeyPatch,
) -> None:
    unset.setattr(threads, "cpu_quota", lambda: 1.5)
    unset.setattr(threads, "visible_cores", lambda: 4)
    unset.setattr(threads, "usable_cores", lambda: 2)
    unset.setenv(COUNT, "")  # so that what is set below is undone
    del os.environ[COUNT]
    sleep_when_idle()
    assert os.environ[COUNT] == "2"
    with bound():
        assert os.environ[POLICY] == "PASSIVE"
        assert not BOUND.keys() & os.environ.keys()


def test_a_call_apart_gives_its_result() -> None:
    assert call_in_process(echo, 1, "two", what="an echo") == (1, "two")
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("function", "error", "line"),
    [
        (refuse, TrainerError, "window must be even"),
        (fail, SweepError, "a step: ran out of memory: no room: take a smaller model"),
        (die, SweepError, r"a step: the measuring process died \(exit code 9\)$"),
        (be_killed, SweepError, r"a step: the measuring process died \(killed by SIGKILL\)$"),
    ],
)
def test_a_call_apart_says_what_went_wrong(
    function: object, error: type[Exception], line: str
) -> None:
    with pytest.raises(error, match=f"^{line}"):
        call_in_process(function, what="a step")  # type: ignore[arg-type]
    assert not multiprocessing.active_children()
