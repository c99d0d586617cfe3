"""`sweep compare` by the command line, on real text."""

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from support import Done, Workspace

from sweep.results.place import place_of

pytestmark = pytest.mark.more  # whole runs at each precision

COMPARE = ("compare", "--rates", "3e-2,1e-1", "--json")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    """Stopped before its first run, then gone on with to its end."""
    workspace = Workspace(tmp_path_factory.mktemp("compared"), english)
    stopped = workspace.invoke(*COMPARE, "--set", "study.timeout=1e-6", code=3)
    assert stopped.events[-1]["event"] == "study_paused"
    workspace.said = workspace.sweep(*COMPARE)
    return workspace


def result(done: Done) -> dict[str, Any]:
    (found,) = [event for event in done.events if event["event"] == "comparison"]
    return found


def studies(workspace: Workspace) -> dict[str, optuna.Study]:
    url = f"sqlite:///{workspace.path / 'sweep.db'}"
    return {
        study.user_attrs["identity"]["precision"]: study
        for name in optuna.get_all_study_names(url)
        for study in [optuna.load_study(study_name=name, storage=url)]
    }


def test_each_precision_is_a_study_with_exactly_these_rates(compared: Workspace) -> None:
    found = studies(compared)
    assert sorted(found) == ["fp16", "fp32"]
    for study in found.values():
        assert study.study_name.endswith("-fixed")
        assert [trial.params["learning_rate"] for trial in study.trials] == [3e-2, 1e-1]
        assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]


def test_the_gap_is_that_of_the_stored_trials(compared: Workspace) -> None:
    found = studies(compared)
    gaps = [
        math.log(half.value / full.value)
        for half, full in zip(found["fp16"].trials, found["fp32"].trials, strict=True)
    ]
    (said,) = result(compared.said)["contrasts"]
    assert said["gap_percent"] == pytest.approx(100 * math.expm1(sum(gaps) / 2))
    assert said["pairs"] == 2
    assert any(gap != 0 for gap in gaps)


def test_costs_are_those_of_every_epoch(compared: Workspace) -> None:
    for study in studies(compared).values():
        for trial in study.trials:
            folder = place_of(study) / f"{trial.number:04d}"
            history = torch.load(folder / "last.pt")["history"]
            whole = trial.user_attrs["whole_run"]
            seconds = [1 / epoch["tokens_per_second"] for epoch in history]
            assert whole["steps"] == 3 * study.user_attrs["steps_per_epoch"]
            assert whole["skipped_steps"] == sum(epoch["skipped_steps"] for epoch in history)
            assert whole["tokens_per_second"] == pytest.approx(3 / sum(seconds))


def test_asked_again_nothing_is_trained(compared: Workspace) -> None:
    before = {name: len(study.trials) for name, study in studies(compared).items()}
    again = compared.invoke(*COMPARE)
    assert [event["event"] for event in again.events if "trial" in event["event"]] == []
    assert result(again)["runs"] == result(compared.said)["runs"]
    assert {name: len(study.trials) for name, study in studies(compared).items()} == before


def test_it_answers_in_words_and_tables(compared: Workspace) -> None:
    said = compared.invoke(*COMPARE[:-1]).out
    assert "fp16 against fp32, same rate and seed: perplexity" in said
    assert "90 % interval" in said
    assert "rate  seed" in said
    one = next(iter(studies(compared).values()))
    last = 3 * one.user_attrs["steps_per_epoch"]
    assert f"step {last}" in said


def test_a_study_without_a_search_is_listed_but_not_the_one_meant(compared: Workspace) -> None:
    listed = [
        json.loads(line)["name"] for line in compared.invoke("list", "--json").out.splitlines()
    ]
    assert len(listed) == 2
    assert "holds no study" in compared.invoke("status", code=2).err
    assert listed[0] in compared.invoke("status", "--study", listed[0]).out


def test_the_rates_are_those_around_the_best_of_a_search(
    finished: Workspace, tmp_path: Path
) -> None:
    workspace = finished.copy_to(tmp_path / "copy")
    study = workspace.study()
    paused = workspace.invoke("compare", "--json", "--set", "study.timeout=1e-6", code=3)
    (note,) = [event["text"] for event in paused.events if "around the best" in str(event)]
    assert study.study_name in note
    assert f"{study.best_trial.params['learning_rate']:.3g}" in note
    # fp32's are stored by the search, wherever one was trained whole at such a rate.
    started = next(event for event in paused.events if event["event"] == "study_started")
    assert started["study"]["precision"] == "fp32"
