"""Other programs at the database of a running sweep: the dashboard, a lock, a deleted trial."""

import contextlib
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Workspace, refusal, wait_for

from sweep.storage import connect, retry

# No model; each epoch waits for the file that names it, until it is there.
STEPS = """\
    import math, time
    from pathlib import Path
    from trainers.report import Ending, Report, Outcome, Progress

    def train(config, *, device, directory):
        for epoch in range(1, config.epochs + 1):
            while not Path(f"go-{directory.name}-{epoch}").exists():
                if (yield Progress(epoch)) == "pause":
                    return Ending(Outcome.PAUSED)
                time.sleep(0.2)
            verdict = yield Report(epoch=epoch, validation_loss=math.log(60 - epoch))
            if verdict != "continue":
                return Ending(Outcome.PRUNED if verdict == "prune" else Outcome.PAUSED)
        return Ending(Outcome.COMPLETED)
"""
RUN = ("run", "--trainer", "steps:train", "--study", "watched", "--json")


def go(workspace: Workspace, number: int, *epochs: int) -> None:
    for epoch in epochs:
        (workspace.path / f"go-{number:04d}-{epoch}").touch()


Call = Callable[..., Any]


@pytest.fixture
def dashboard(workspace: Workspace) -> Iterator[Callable[[], Call]]:
    """Starts optuna-dashboard on the sweep's database; gives a way to call its interface."""
    servers: list[subprocess.Popen[bytes]] = []

    def start() -> Call:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "sweep", "dashboard", "--port", str(port)]
        quiet = subprocess.DEVNULL
        servers.append(subprocess.Popen(command, cwd=workspace.path, stdout=quiet, stderr=quiet))

        def call(method: str, path: str, **body: object) -> Any:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/api/{path}",
                json.dumps(body).encode() if body else None,
                {"Content-Type": "application/json"},
                method=method,
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return bool(call("GET", "studies"))
            return False

        wait_for(answers)
        return call

    yield start
    for server in servers:
        server.terminate()
        server.wait(30)


def test_the_dashboard_may_write_end_a_trial_and_delete_the_study_under_a_sweep(
    workspace: Workspace, dashboard: Callable[[], Call]
) -> None:
    workspace.write("steps.py", STEPS)
    with workspace.start(*RUN) as live:
        live.until("trial_progressed", number=0)
        call = dashboard()
        (study,) = call("GET", "studies")["study_summaries"]
        path = f"studies/{study['study_id']}"
        trial = call("GET", path)["trials"][0]
        for version in range(20):
            call("PUT", f"{path}/note", body=f"note {version}", version=version + 1)
            go(workspace, 0, 1)
        live.until("trial_reported", number=0, epoch=1)

        call("POST", f"trials/{trial['trial_id']}/tell", state="Fail")
        go(workspace, 0, 2, 3)
        warning = live.until("warning")["text"]
        assert warning == "trial 0 was ended by another program, so it stopped"
        go(workspace, 1, 1, 2, 3)
        live.until("trial_ended", number=1)
        assert workspace.states()[:2] == ["FAIL", "COMPLETE"]
        assert list(workspace.curves()[0]) == [1]
        assert "note 19" in str(workspace.sql("select * from study_system_attributes"))

        live.until("trial_progressed", number=2)
        call("DELETE", path)
        go(workspace, 2, 1, 2, 3)
        line = refusal(live.end(2))
    assert "was deleted from the database by another program" in line
    assert "the same command begins a deleted study anew" in line
    assert workspace.folder(2).is_dir()


@pytest.mark.more
def test_a_trial_deleted_in_the_database_is_one_line_and_the_others_are_kept(
    workspace: Workspace,
) -> None:
    workspace.write("steps.py", STEPS)
    for number in (0, 2):
        go(workspace, number, 1, 2, 3)
    with workspace.start(*RUN) as live:
        live.until("trial_progressed", number=1)
        workspace.sql("delete from trials where number = 0")
        go(workspace, 1, 1, 2, 3)
        line = refusal(live.end(2))
    assert "a trial of study 'watched' was deleted from the database" in line
    again = refusal(workspace.invoke(*RUN, code=2))
    assert again == line


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "BUSY_TIMEOUT_S", 0.1)
    monkeypatch.setattr(retry, "RETRY_FOR_S", 1.0)


@pytest.mark.usefixtures("hurried")
@pytest.mark.more
def test_a_lock_is_waited_for_then_refused_and_the_same_command_goes_on(
    workspace: Workspace,
) -> None:
    workspace.write("steps.py", STEPS)
    for number in range(2):
        go(workspace, number, 1, 2, 3)
    workspace.invoke(*RUN, "--trials", 1)
    before = workspace.curves()
    with locked(workspace.path / "sweep.db"):
        done = workspace.invoke(*RUN, "--trials", 2, code=2)
    assert "the database is locked by another program, for 1 s now" in refusal(done)
    (warning,) = [event["text"] for event in done.events if event["event"] == "warning"]
    assert warning == "the database is locked by another program: trying for 1 s"
    assert workspace.curves() == before

    with locked(workspace.path / "sweep.db", for_s=0.4):
        workspace.invoke(*RUN, "--trials", 2)
    assert workspace.states()[:2] == ["COMPLETE", "COMPLETE"]


@contextlib.contextmanager
def locked(database: Path, *, for_s: float = 0.0) -> Iterator[None]:
    """Another program that writes, until the end or for so long."""
    other = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    release = threading.Timer(for_s or 3600, other.execute, ["commit"])
    release.start()
    yield
    release.cancel() if not for_s else release.join()
    other.close()
