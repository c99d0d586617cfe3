"""Trials of the own trainer on several devices: here processes of the CPU, by the command line."""

import signal
from pathlib import Path

import psutil
import pytest
from support import Workspace, gone, refusal

from trainers import process_tree

# One device rounds as two do where it computes the same parts; a high rate makes much of rounding.
RUN = ("run", "--trials", 2, "--json", "--set", "trainer.micro_batch=32")
TWO = (*RUN, "--gpus-per-trial", 2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, english: Path) -> dict[int, dict[int, float]]:
    """Each trial's curve on one device."""
    workspace = Workspace(tmp_path_factory.mktemp("alone"), english)
    workspace.invoke(*RUN)
    return workspace.curves()


def assert_curves(workspace: Workspace, alone: dict[int, dict[int, float]]) -> None:
    assert workspace.states()[:2] == ["COMPLETE"] * 2
    for number, curve in alone.items():
        assert workspace.curves()[number] == pytest.approx(curve, rel=1e-5)


@pytest.mark.more
def test_a_killed_worker_takes_all_with_it_and_the_trial_goes_on(
    workspace: Workspace, alone: dict[int, dict[int, float]]
) -> None:
    with workspace.start(*TWO) as live:
        live.until("trial_reported", number=1, step=10)
        (follower,) = process_tree.members(workspace.folder(1))
        worker = psutil.Process(follower.ppid())
        worker.kill()
        assert gone(worker.pid)
        assert gone(follower.pid)
        done = live.end(0)
    assert any("a fresh worker goes on" in event.get("text", "") for event in done.events)
    notes = [event["text"] for event in done.events if event["event"] == "note"]
    assert "the rows of every batch are shared out among 2 processes" in notes
    assert_curves(workspace, alone)


@pytest.mark.more
@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_a_stopped_sweep_leaves_nobody_and_goes_on_with_one_device(
    workspace: Workspace, alone: dict[int, dict[int, float]], ends: signal.Signals
) -> None:
    with workspace.start(*TWO) as live:
        live.until("trial_reported", number=0, step=10)
        (follower,) = process_tree.members(workspace.folder(0))
        live.signal(ends, group=ends is signal.SIGINT)
        live.end(3 if ends is signal.SIGINT else -ends)
    assert gone(follower.pid)
    assert process_tree.members(workspace.folder(0)) == []
    workspace.invoke(*RUN)
    assert_curves(workspace, alone)


@pytest.mark.more
def test_the_exported_best_is_met_again_on_several(workspace: Workspace) -> None:
    workspace.invoke(*RUN)
    workspace.invoke("export", "--trial", 0, "-o", "best.yaml")
    done = workspace.invoke("train", "best.yaml", "--device", "cpu:0,1")
    assert "met again" in done.out


def test_what_does_not_fit_is_one_line(workspace: Workspace) -> None:
    line = refusal(workspace.invoke(*RUN, "--gpus-per-trial", 65, code=2))
    assert "share the rows of a batch, which has 64: take fewer, or a larger batch" in line
    line = refusal(workspace.invoke(*TWO, "--set", "study.cohort=2", code=2))
    assert "study.cohort is 2, and a trial takes cpu:0,1 for itself" in line
    line = refusal(workspace.invoke(*TWO, "--", "train.py", "{learning_rate}", code=2))
    assert "is 2, and the sweep runs on cpu" in line


def test_a_dry_run_says_what_it_measured(workspace: Workspace) -> None:
    done = workspace.invoke(*TWO, "--dry-run")
    notes = [event["text"] for event in done.events if event["event"] == "note"]
    assert notes[-1] == "measured on one device: a trial shares its rows out among 2"
