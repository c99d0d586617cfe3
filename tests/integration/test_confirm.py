"""`sweep confirm` on a finished sweep, and what `sweep export` makes of it."""

import statistics
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from support import Workspace

CONFIRM = ("confirm", "--top", 2, "--seeds", 2)


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory, finished: Workspace) -> Workspace:
    workspace = finished.copy_to(tmp_path_factory.mktemp("confirmed") / "copy")
    workspace.said = workspace.sweep(*CONFIRM, "--json")
    return workspace


def found(workspace: Workspace) -> dict[str, Any]:
    (said,) = [event for event in workspace.said.events if event["event"] == "confirmation"]
    return said


def test_the_best_trials_run_again_at_new_seeds(confirmed: Workspace, finished: Workspace) -> None:
    search = finished.study()
    best = sorted(
        search.get_trials(states=[optuna.trial.TrialState.COMPLETE]), key=lambda t: t.value
    )
    said = found(confirmed)
    assert said["seeds"] == [1, 2]
    assert {one["trial"] for one in said["finalists"]} == {trial.number for trial in best[:2]}
    for finalist in said["finalists"]:
        runs = [r for r in said["runs"] if r["learning_rate"] == finalist["learning_rate"]]
        values = [run["value"] for run in runs]
        assert [run["seed"] for run in runs] == [1, 2]
        assert len({*values, finalist["searched"]}) == 3
        assert finalist["mean"] == pytest.approx(statistics.fmean(values))
        assert finalist["standard_error"] == pytest.approx(statistics.stdev(values) / 2**0.5)


def test_each_seed_is_a_study_on_the_searchs_own_text(confirmed: Workspace) -> None:
    url = f"sqlite:///{confirmed.path / 'sweep.db'}"
    studies = [
        optuna.load_study(study_name=n, storage=url) for n in optuna.get_all_study_names(url)
    ]
    search, *fixed = sorted(studies, key=lambda study: study.user_attrs["identity"]["seed"])
    assert [study.user_attrs["kind"] for study in fixed] == ["fixed", "fixed"]
    for study in fixed:
        mine = {**study.user_attrs["identity"], "seed": 0}
        assert mine == search.user_attrs["identity"]
        assert len(study.trials) == 2
    assert len(search.trials) == 5


def test_export_says_how_its_rate_did_over_new_seeds(confirmed: Workspace, tmp_path: Path) -> None:
    """What is recommended rests on all runs: the best finalist of two seeds need not be it."""
    said = found(confirmed)
    out = confirmed.invoke("export", "-o", tmp_path / "best.yaml").out
    exported = yaml.safe_load((tmp_path / "best.yaml").read_text())
    best = min(said["finalists"], key=lambda one: one["mean"])
    (mine,) = [one for one in said["finalists"] if one["trial"] == exported["origin"]["trial"]]
    confirmed_it = mine["trial"] == best["trial"] == said["trial"]
    words = "confirmed" if confirmed_it else "not the best over new seeds"
    assert f"\n{words}: " in out
    assert exported["origin"]["confirmed"] is confirmed_it
    assert exported["origin"]["confirmation"]["seeds"] == [1, 2]
    assert exported["train"]["learning_rate"] == mine["learning_rate"]


def test_asked_again_it_answers_from_the_database(confirmed: Workspace) -> None:
    out = confirmed.invoke(*CONFIRM).out
    assert "epoch" not in out
    assert "Best over 2 new seeds: learning rate" in out
