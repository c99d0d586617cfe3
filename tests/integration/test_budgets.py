"""Runs whose length is in steps or tokens: searched, shown, exported, trained on."""

import json

import pytest
from support import Workspace

EVERY = 4


def test_a_sweep_by_steps_reports_by_them_and_its_best_is_trained_on(workspace: Workspace) -> None:
    done = workspace.invoke(
        "run", "--steps", 12, "--trials", 3, "--set", f"trainer.evaluate_every={EVERY}"
    )
    study = workspace.study()
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert complete, done.out
    for trial in complete:
        assert [*trial.intermediate_values] == [4, 8, 12]
    assert study.user_attrs["identity"]["epochs"] == 0
    assert study.user_attrs["identity"]["steps"] == 12
    workspace.invoke("export", "-o", "best.yaml")
    trained = workspace.invoke("train", "best.yaml", "--json").out
    events = [json.loads(line) for line in trained.splitlines()]
    assert [e["trial"]["step"] for e in events if e["event"] == "trial_reported"] == [4, 8, 12]
    assert "met again" in trained
    shorter = workspace.invoke("train", "best.yaml", "--steps", 8, "--resume", code=2)
    assert "holds 12 steps already" in shorter.err
    workspace.invoke("train", "best.yaml", "--steps", 16, "--resume")


@pytest.mark.more
def test_tokens_are_rounded_up_to_steps(workspace: Workspace) -> None:
    plain = workspace.invoke("run", "--dry-run", "--epochs", 1).out
    dry = workspace.invoke("run", "--dry-run", "--tokens", "1e3").out
    assert plain != dry
    workspace.invoke("run", "--tokens", "1e3", "--trials", 1)
    record = workspace.study().user_attrs
    per_step = record["training_tokens"] / record["steps_per_epoch"]
    trial = workspace.study().trials[0]
    last = max(trial.intermediate_values)
    assert (last - 1) * per_step < 1000 <= last * per_step


def test_two_lengths_are_refused(workspace: Workspace) -> None:
    said = workspace.invoke("run", "--steps", 3, "--epochs", 2, code=2)
    assert said.err.strip() == (
        "sweep: --epochs and --steps each give the length of a run: leave all but one out"
    )
