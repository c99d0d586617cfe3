"""Several workers: the same trials, side by side, each with the numbers that it has alone."""

import os
import signal
from pathlib import Path

import pytest
from support import Workspace

pytestmark = pytest.mark.more

SETTINGS = ("--set", "study.sampler=random", "--set", "study.pruner=none", "--trials", 4)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    """A sweep of two workers, the first of which is killed once."""
    workspace = Workspace(tmp_path_factory.mktemp("pair"), english)
    with workspace.start("run", *SETTINGS, "--workers", 2, "--json") as live:
        live.until("trial_reported", number=0)
        os.kill(workers_of(live.process.pid)[0], signal.SIGKILL)
        workspace.said = live.end(0)
    return workspace


def workers_of(pid: int) -> list[int]:
    """The worker processes of a sweep, in the order of their start."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if "spawn_main" in command_of(child)]


def command_of(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_every_trials_curve_is_that_of_one_worker(pair: Workspace, tmp_path: Path) -> None:
    alone = Workspace(tmp_path / "alone", Path())
    alone.write("sweep.toml", (pair.path / "sweep.toml").read_text())
    alone.invoke("run", *SETTINGS)
    assert pair.curves() == alone.curves()
    assert len(pair.curves()) == 4


def test_only_the_killed_workers_trial_was_tried_again(pair: Workspace) -> None:
    warnings = [event["text"] for event in pair.said.events if event["event"] == "warning"]
    (lost,) = (text for text in warnings if "a fresh worker goes on" in text)
    assert "killed by SIGKILL" in lost
    assert pair.states() == ["COMPLETE"] * 4


def test_what_runs_at_once_is_said_and_bounded(pair: Workspace) -> None:
    events = pair.said.events
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert "2 workers: cpu" in notes
    running: set[int] = set()
    most = 0
    for event in events:
        if event["event"] == "trial_started":
            running.add(event["trial"]["number"])
        if event["event"] == "trial_ended":
            running.discard(event["trial"]["number"])
        most = max(most, len(running))
    assert most == 2
