"""Several lengths in one command: a longer trial goes on from a shorter one's stable part."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial
from support import Workspace, refusal

from studies.numbers import RESUMED_WITHIN
from sweep.results.belief import recommended
from trainers.checkpoint import LAST, TRUNK, read

RATES = (1e-2, 3e-2, 1e-1)
LENGTHS, TRUNKS = (10, 20, 30), (0, 8, 16)
WSD = "trainer.lr_schedule={name='wsd', warmup_steps=2, warmup_share=0.0, decay_share=0.2}"
GIVEN = ("--rates", ",".join(map(str, RATES)), "--set", WSD, "--json")
RUN = ("run", "--steps", "30,10,20", *GIVEN)


def studies(workspace: Workspace) -> dict[int, Study]:
    """The studies by their length, in the order in which they were made."""
    url = f"sqlite:///{workspace.path / 'sweep.db'}"
    loaded = [optuna.load_study(study_name=n, storage=url) for n in optuna.get_all_study_names(url)]
    loaded.sort(key=lambda study: study._study_id)
    return {study.user_attrs["identity"]["steps"]: study for study in loaded}


def by_rate(study: Study) -> dict[float, FrozenTrial]:
    return {trial.params["learning_rate"]: trial for trial in study.trials}


def curves(study: Study) -> dict[float, dict[int, float]]:
    return {rate: trial.intermediate_values for rate, trial in by_rate(study).items()}


def files(workspace: Workspace, study: Study, name: str) -> Iterator[Path]:
    return (workspace.path / "runs" / study.study_name).glob(f"*/{name}")


def weights(workspace: Workspace, study: Study, rate: float) -> str:
    """The last weights of a rate's trial, every bit of them."""
    number = by_rate(study)[rate].number
    state = read(workspace.path / "runs" / study.study_name / f"{number:04d}" / LAST)
    return str({name: tensor.tolist() for name, tensor in state["model"].items()})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    """The command to its end; every checkpoint is kept."""
    workspace = Workspace(tmp_path_factory.mktemp("whole"), english)
    workspace.said = workspace.invoke(*RUN)
    return workspace


def assert_same_bits(workspace: Workspace, whole: Workspace) -> None:
    for steps, study in studies(whole).items():
        assert curves(studies(workspace)[steps]) == curves(study)


def test_the_shortest_comes_first_and_each_rate_is_trained_to_its_end(whole: Workspace) -> None:
    assert tuple(studies(whole)) == LENGTHS
    for steps, study in studies(whole).items():
        assert tuple(by_rate(study)) == RATES
        for trial in study.trials:
            assert [*trial.intermediate_values] == [*range(1, steps + 1)]
            assert trial.state.name == "COMPLETE"


def test_a_dry_run_says_from_which_step_a_longer_trial_goes_on(workspace: Workspace) -> None:
    done = workspace.invoke("run", "--steps", "10,20", *GIVEN, "--dry-run")
    notes = [event["text"] for event in done.events if event["event"] == "note"]
    (begun,) = [note for note in notes if "that a shorter one had begins" in note]
    assert f"begins at step {TRUNKS[1]}:" in begun
    assert notes.index(begun) > [n.startswith("time: about") for n in notes].index(True)


@pytest.mark.more
def test_a_length_that_was_run_alone_is_not_trained_again(workspace: Workspace) -> None:
    workspace.invoke("run", "--steps", 10, *GIVEN)
    (name,) = {study.study_name for study in studies(workspace).values()}
    done = workspace.invoke("run", "--steps", "10,20", *GIVEN)
    assert [*studies(workspace)] == [10, 20]
    assert studies(workspace)[10].study_name == name
    assert len([e for e in done.events if e["event"] == "trial_started"]) == len(RATES)


def test_what_a_shorter_trial_has_trained_is_taken_over_and_said(whole: Workspace) -> None:
    for study, trunk in zip(studies(whole).values(), TRUNKS, strict=True):
        assert [trial.user_attrs.get("trunk", 0) for trial in study.trials] == [trunk] * 3
    longest = studies(whole)[30].study_name
    (report,) = whole.invoke("report", "--study", longest, "--json").events
    assert (report["cost"]["steps_spent"], report["cost"]["trunk_steps"]) == (42, 48)
    text = " ".join(whole.invoke("report", "--study", longest).out.split())
    assert (
        "took 42 steps, and 48 taken over from shorter runs; all to their end would be 90" in text
    )
    shown = " ".join(whole.invoke("status", "--study", longest).out.split())
    assert "Taken over from shorter runs: 48 of 90 steps." in shown


def test_they_are_one_family_at_once(whole: Workspace) -> None:
    (found,) = whole.invoke("predict", "--batch", 64, "--tokens", "5e4", "--json").events
    assert len(found["studies"]) == 3


@pytest.mark.more
@pytest.mark.parametrize("steps", LENGTHS[1:])
def test_every_branch_is_the_run_trained_alone_to_the_bit(
    whole: Workspace, workspace: Workspace, steps: int
) -> None:
    workspace.invoke("run", "--steps", steps, "--set", "trainer.evaluate_every=1", *GIVEN)
    branched, alone = studies(whole)[steps], workspace.study()
    assert alone.study_name == branched.study_name
    assert curves(branched) == curves(alone)
    for rate in RATES:
        assert weights(whole, branched, rate) == weights(workspace, alone, rate)


@pytest.mark.more
@pytest.mark.parametrize(("steps", "at"), [(10, 5), (20, 12)], ids=["in the trunk", "in a branch"])
def test_a_kill_changes_no_bit_and_loses_no_trunk(
    whole: Workspace, workspace: Workspace, steps: int, at: int
) -> None:
    """Of a finished study the other checkpoints are deleted at once, the trunks at the end."""
    best = (*RUN, "--set", "study.keep=best")
    with workspace.start(*best) as live:
        while live.until("trial_reported", step=at)["report"]["steps"] != steps:
            pass
        live.signal(signal.SIGKILL)
        live.process.wait()
    if steps > 10:
        first = studies(workspace)[10]
        kept = {first.best_trial.number, recommended(first)[0]}
        assert len([*files(workspace, first, TRUNK)]) == 3
        assert len([*files(workspace, first, LAST)]) == len(kept)
    workspace.invoke(*best)
    assert_same_bits(workspace, whole)
    for study, trunk in zip(studies(workspace).values(), TRUNKS, strict=True):
        assert [trial.user_attrs.get("trunk", 0) for trial in study.trials] == [trunk] * 3
        assert not [*files(workspace, study, TRUNK)]
        assert 1 <= len([*files(workspace, study, LAST)]) <= 2


@pytest.mark.more
def test_two_workers_find_the_same(whole: Workspace, workspace: Workspace) -> None:
    workspace.invoke(*RUN, "--workers", 2)
    assert_same_bits(workspace, whole)


@pytest.mark.more
def test_side_by_side_they_are_the_same_but_for_rounding(
    whole: Workspace, workspace: Workspace
) -> None:
    workspace.invoke(*RUN, "--set", "study.cohort=3")
    for steps, study in studies(whole).items():
        other = studies(workspace)[steps]
        for rate, curve in curves(study).items():
            assert curves(other)[rate] == pytest.approx(curve, rel=1e-4)
    assert [trial.user_attrs["trunk"] for trial in studies(workspace)[30].trials] == [16] * 3


@pytest.mark.more
def test_a_search_goes_on_from_rates_that_are_as_good(workspace: Workspace) -> None:
    search = ("--set", WSD, "--set", "study.pruner=learning-rate", "--trials", 6)
    workspace.invoke("run", "--steps", "20,40", *search)
    short, long = studies(workspace).values()
    begun = by_rate(short)
    taken = [trial for trial in long.trials if trial.user_attrs.get("trunk")]
    assert taken
    for trial in taken:
        assert trial.params["learning_rate"] in begun
        assert trial.user_attrs["trunk"] <= 16
    # The forecast's rate is no rule's: it is tried first, at a trial's rate that is near enough.
    first, forecast = long.trials[0], long.user_attrs["transfer"]["learning_rate"]
    gap = abs(1 - first.params["learning_rate"] / forecast)
    assert first.params["learning_rate"] in begun or gap < 1e-9
    near = [rate for rate in begun if abs(1 - rate / forecast) < RESUMED_WITHIN / 2]
    assert not near or first.params["learning_rate"] in begun


def test_a_rate_that_no_trial_can_have_is_refused(workspace: Workspace) -> None:
    line = refusal(workspace.invoke("run", "--steps", "10,20", "--rates", "1e-3,100", code=2))
    assert "a rate must be from 1e-07 to 10, got 100" in line


def test_a_length_that_is_none_is_refused(workspace: Workspace) -> None:
    said: Any = workspace.invoke("run", "--tokens", "1e8,lots", code=2).err
    assert "takes a whole number from 1 to 1e+18, got 'lots'" in said
    line = refusal(workspace.invoke("run", "--steps", "10,20", "--epochs", "1,2", code=2))
    assert "--epochs and --steps each give the length of a run" in line
