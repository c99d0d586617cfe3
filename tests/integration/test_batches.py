"""Several batch sizes in one command: studies in turn, each one's end the next one's start."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import Study
from support import Done, Workspace, refusal

from studies.transfer import FORECAST

pytestmark = pytest.mark.more  # three sweeps one after another, several times

RUN = ("run", "--batch", "128,64", "--trials", 4, "--json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    """The command to its end."""
    workspace = Workspace(tmp_path_factory.mktemp("whole"), english)
    workspace.said = workspace.invoke(*RUN)
    return workspace


@dataclass(frozen=True)
class Broken:
    """The same command interrupted, and given again."""

    workspace: Workspace
    pause: Done
    resumed: Done


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Broken:
    workspace = Workspace(tmp_path_factory.mktemp("broken"), english)
    with workspace.start(*RUN) as live:
        live.until("study_finished")
        live.until("trial_reported", number=1)
        live.signal(signal.SIGINT)
        pause = live.end(3)
    return Broken(workspace, pause, workspace.invoke(*RUN))


def studies(workspace: Workspace) -> dict[int, Study]:
    """The studies by their batch size."""
    url = f"sqlite:///{workspace.path / 'sweep.db'}"
    loaded = [optuna.load_study(study_name=n, storage=url) for n in optuna.get_all_study_names(url)]
    return {study.user_attrs["identity"]["batch_size"]: study for study in loaded}


def rates(study: Study) -> list[float]:
    return [trial.params["learning_rate"] for trial in study.trials]


def said(done: Done, event: str) -> list[Any]:
    field = {"note": "text", "study_started": "study"}[event]
    return [line[field] for line in done.events if line["event"] == event]


def test_the_smallest_batch_is_studied_first(whole: Workspace) -> None:
    started = said(whole.said, "study_started")
    assert [study["batch_size"] for study in started] == [64, 128]


def test_the_second_starts_from_what_the_first_found(whole: Workspace) -> None:
    first, second = (studies(whole)[batch] for batch in (64, 128))
    assert first.user_attrs["transfer"] is None
    began = second.user_attrs["transfer"]
    assert began["studies"] == [first.study_name]
    assert began["batches"] == [64]
    assert began["batch_ratio"] == 2
    assert rates(second)[0] == pytest.approx(began["learning_rate"])
    prior = second.user_attrs["priors"][FORECAST]
    assert (prior["rate"], prior["width"]) == (began["learning_rate"], began["width"])
    assert FORECAST not in first.user_attrs["priors"]


def test_the_view_says_so_in_one_line(whole: Workspace) -> None:
    (line,) = (text for text in said(whole.said, "note") if "forecast the best rate" in text)
    assert line.startswith("1 finished study of this model and text (batch 64) forecast")
    assert line.endswith("--no-transfer leaves it out")


def test_the_end_says_how_good_the_forecast_was_and_how_the_rate_scales(whole: Workspace) -> None:
    met = studies(whole)[128].user_attrs["forecast_met"]
    assert met.startswith("forecast ")
    assert met.split(": ")[1] in ("inside", "above it", "below it")
    notes = said(whole.said, "note")
    assert "batch 128: " in "\n".join(notes)
    assert any(note.startswith("Power law lr = c B^p") for note in notes)
    shown = whole.invoke("status", "--study", studies(whole)[128].study_name).out
    assert met[1:] in " ".join(shown.split())


def test_a_pause_ends_the_command_and_the_same_one_goes_on(broken: Broken) -> None:
    paused = broken.pause.events[-1]
    assert paused["event"] == "study_paused"
    assert paused["study"]["batch_size"] == 128
    assert paused["command"] == "sweep run --batch 128,64 --trials 4 --json"
    started = said(broken.resumed, "study_started")
    assert [study["batch_size"] for study in started] == [128]
    assert "batch 64 is finished: best rate" in "\n".join(said(broken.resumed, "note"))


def test_a_resumed_study_asks_for_the_rates_of_one_that_was_not_stopped(
    whole: Workspace, broken: Broken
) -> None:
    for batch in (64, 128):
        assert rates(studies(broken.workspace)[batch]) == rates(studies(whole)[batch])


def test_what_is_finished_is_not_run_again(whole: Workspace) -> None:
    again = whole.invoke(*RUN)
    assert said(again, "study_started") == []
    assert len([note for note in said(again, "note") if "is finished: best" in note]) == 2


def test_without_transfer_the_rules_rates_come_first(whole: Workspace, tmp_path: Path) -> None:
    copy = whole.copy_to(tmp_path / "copy")
    done = copy.invoke("run", "--batch", 32, "--trials", 1, "--no-transfer", "--json")
    alone = studies(copy)[32]
    assert alone.user_attrs["transfer"] is None
    assert FORECAST not in alone.user_attrs["priors"]
    assert rates(alone) == [pytest.approx(3e-2)]  # the reference's own batch size
    assert not any("forecast" in note for note in said(done, "note"))


def test_a_dry_run_says_what_would_come_first(whole: Workspace, tmp_path: Path) -> None:
    copy = whole.copy_to(tmp_path / "copy")
    before = len(studies(copy))
    out = copy.invoke("run", "--batch", "256,32", "--dry-run").out
    assert out.count("2 finished studies of this model and text (batch 64, 128) forecast") == 2
    assert out.count("(forecast") == 2
    assert len(studies(copy)) == before


def test_a_report_keeps_the_forecast_out_of_the_rules(whole: Workspace) -> None:
    name = studies(whole)[128].study_name
    (report,) = whole.invoke("report", "--study", name, "--json").events
    assert FORECAST not in {rule["name"] for rule in report["rules"]}
    assert 0 < sum(rule["weight"] for rule in report["rules"]) <= 1
    exponent = report["exponents"]["batch"]
    assert exponent["low"] < exponent["value"] < exponent["high"]
    text = " ".join(whole.invoke("report", "--study", name).out.split())
    assert f"Power law lr = c B^p: p = {exponent['value']:.2f}" in text


def test_a_name_is_one_studys(workspace: Workspace) -> None:
    line = refusal(workspace.invoke("run", "--batch", "32,64", "--study", "mine", code=2))
    assert "'mine' names one study" in line
    assert "leave it out" in line


def test_a_batch_that_cannot_be_filled_is_refused_before_any_trains(workspace: Workspace) -> None:
    line = refusal(workspace.invoke("run", "--batch", "32,100000", "--trials", 3, code=2))
    assert "100000" in line
    assert not (workspace.path / "sweep.db").exists()


def test_a_timeout_is_of_all_of_them(workspace: Workspace) -> None:
    done = workspace.invoke("run", "--batch", "64,128", "--timeout", "1e-6", "--json", code=3)
    assert len(said(done, "study_started")) == 1


def test_a_timeout_is_of_all_the_studies_and_all_their_runs(
    whole: Workspace, tmp_path: Path
) -> None:
    copy = whole.copy_to(tmp_path / "copy")
    studies(copy)[64].set_user_attr("spent_s", 1000.0)
    command = ("run", "--batch", "64,32", "--trials", 4, "--json", "--timeout")
    paused = copy.invoke(*command, 900, code=3).events[-1]
    assert paused["command"].endswith("--timeout 1800")
    # What it took itself counts once: of 5,000 s the other study took 1,000.
    studies(copy)[32].set_user_attr("spent_s", 3000.0)
    copy.invoke(*command, 5000)
    assert studies(copy)[32].user_attrs["finished"]
    assert studies(copy)[32].user_attrs["spent_s"] < 4000
