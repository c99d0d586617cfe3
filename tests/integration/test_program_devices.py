"""Several GPUs a trial, as its program sees them; there need be none: nobody computes on them."""

import sys

import pytest
import torch
from support import Workspace, refusal

PROGRAM = """\
    import os, sys
    from sweep.client import report

    with open("seen", "a") as file:
        file.write(f"{os.environ['CUDA_VISIBLE_DEVICES']} {sys.argv[2]}\\n")
    report(step=1, validation_loss=3 + float(sys.argv[1]))
"""
SETTINGS = ("--profile", "program", "--device", "cuda", "--set", "study.publish=false", "--json")
RUN = ("run", *SETTINGS, "--trials", 2, "--set", "study.until=''")
COMMAND = ("--", sys.executable, "program.py", "{learning_rate}", "{devices}")


@pytest.fixture(autouse=True)
def five(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a stand-in")


@pytest.mark.parametrize(
    ("visible", "groups"),
    [("", {"0,1 0,1", "2,3 2,3"}), ("3,4,5,6,7", {"3,4 3,4", "5,6 5,6"})],
)
def test_each_group_trains_trials_and_what_is_left_over_is_said(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, visible: str, groups: set[str]
) -> None:
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    else:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    workspace.write("program.py", PROGRAM)
    done = workspace.invoke(*RUN, "--gpus-per-trial", 2, *COMMAND)
    seen = (workspace.path / "seen").read_text().splitlines()
    assert set(seen) == groups
    notes = [event["text"] for event in done.events if event["event"] == "note"]
    assert "2 workers: cuda:0,1, cuda:2,3" in notes
    assert "left over, as a trial takes 2: cuda:4" in notes


def test_a_dry_run_and_a_try_show_them_too(workspace: Workspace) -> None:
    workspace.write("program.py", PROGRAM)
    done = workspace.invoke(*RUN, "--gpus-per-trial", 2, "--dry-run", *COMMAND)
    commands = [event["text"].split()[-1] for event in done.events if "program.py" in event["text"]]
    assert {"0,1", "2,3"} <= set(commands)
    settings = ("--profile", "program", "--device", "cuda", "--set", "study.gpus_per_trial=2")
    workspace.invoke("try", *settings, *COMMAND)
    assert (workspace.path / "seen").read_text().split()[-1] == "0,1"


def test_too_few_are_one_line(workspace: Workspace) -> None:
    workspace.write("program.py", PROGRAM)
    line = refusal(workspace.invoke(*RUN, "--gpus-per-trial", 6, *COMMAND, code=2))
    assert "is 6, and there are only 5 CUDA devices" in line
