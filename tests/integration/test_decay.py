"""Rate and weight decay searched together, from the command line to what is exported."""

import json
import math
import sys
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState
from support import Workspace, refusal

# In three epochs no rate comes below the unigram perplexity.
WITH = ("run", "--epochs", 6, "--optimizer", "adamw", "--with", "weight_decay", "--seed", 3)
PROGRAM = """\
    import math, sys
    rate, decay = map(float, sys.argv[1:])
    away, place = math.log(rate * decay / 1e-4), math.log(decay / 0.1)
    for step in (1, 2, 3, 4):
        loss = 3 + 0.1 * away**2 + 0.02 * place**2 - step / 10
        print(f"step {step}: train loss 1.0, val loss {loss:.4f}")
"""
TOLD = (
    "--", sys.executable, "program.py", "{learning_rate}", "{weight_decay}",
)  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    """Three trials, then three more by the same command."""
    workspace = Workspace(tmp_path_factory.mktemp("decay"), english)
    workspace.said = workspace.invoke(*WITH, "--trials", 3)
    workspace.more = workspace.invoke(*WITH, "--trials", 6)
    return workspace


def test_every_trial_has_a_decay_and_a_rule_has_the_usual_one(searched: Workspace) -> None:
    trials = searched.study().trials
    assert len(trials) == 6
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 6
    assert all({*trial.params} == {"learning_rate", "weight_decay"} for trial in trials)
    decays = [trial.params["weight_decay"] for trial in trials]
    assert decays[:3] == [0.1] * 3  # the rules' rates
    assert len({round(decay, 6) for decay in decays}) > 1


def test_it_trains_at_the_decay_that_it_stores(searched: Workspace) -> None:
    trial = next(t for t in searched.study().trials if t.params["weight_decay"] != 0.1)
    searched.invoke("export", "--trial", trial.number, "-o", "one.yaml", "--force")
    stored = yaml.safe_load((searched.path / "one.yaml").read_text())["train"]
    assert stored["weight_decay"] == trial.params["weight_decay"]
    assert stored["learning_rate"] == trial.params["learning_rate"]
    assert stored["decayed"] == "matrices"
    assert "met again" in searched.invoke("train", "one.yaml").out


def test_tables_have_a_column_for_it(searched: Workspace) -> None:
    assert "decay 0.1" in searched.said.out
    for command in (("status",), ("report",)):
        said = searched.invoke(*command).out
        assert "decay" in said
        assert "weight decay" in said
    assert "weight decay" in searched.invoke("show", 0).out
    assert "0.00625 to 1.6" in " ".join(searched.said.out.split())


def test_the_report_says_both_intervals(searched: Workspace) -> None:
    said = json.loads(searched.invoke("report", "--json").out)
    found, rate = said["weight_decay"], said["optimum"]
    assert found["low"] < found["weight_decay"] < found["high"]
    assert rate["low"] < found["rate_high"]
    assert found["rate_low"] < rate["high"]
    # At one decay the best rate is known better than at any.
    assert 1 < found["rate_high"] / found["rate_low"] < rate["high"] / rate["low"]
    assert found["at"] == said["recommended"]["weight_decay"]
    surface = found["surface"]
    assert len(surface["values"]) == len(surface["decays"]) == len(surface["ridge"])
    assert all(len(row) == len(surface["rates"]) for row in surface["values"])
    assert said["cost"]["grid_decays"] == 9
    assert any("best weight decay" in line for line in said["text"])


def test_its_pictures_have_a_map(searched: Workspace) -> None:
    searched.invoke("report", "--png", "pictures", "--force")
    assert (searched.path / "pictures" / "decay.png").stat().st_size > 10_000
    searched.invoke("report", "-o", "report.html", "--force")
    page = (searched.path / "report.html").read_text(encoding="utf-8")
    assert "by learning rate and weight decay" in page


def test_json_lines_and_status_have_it(searched: Workspace) -> None:
    said = json.loads(searched.invoke("status", "--json").out)
    study = said[0] if isinstance(said, list) else said
    assert study["decay_range"] == [0.1 / 16, 0.1 * 16]
    assert all(trial["weight_decay"] > 0 for trial in study["trials"])


def test_a_run_by_hand_says_its_decay(searched: Workspace, tmp_path: Path) -> None:
    own = searched.copy_to(tmp_path / "own")
    given = ("add", "--rate", 0.02, "--perplexity", 70)
    assert "--weight-decay is missing" in refusal(own.invoke(*given, code=2))
    assert "from 1e-06 to 100" in refusal(own.invoke(*given, "--weight-decay", 0, code=2))
    said = own.invoke(*given, "--weight-decay", 0.3).out
    assert "2.00e-2 with weight decay 0.3" in said
    assert own.study().trials[-1].params == {"learning_rate": 0.02, "weight_decay": 0.3}


def test_no_forecast_rests_on_it(searched: Workspace, tmp_path: Path) -> None:
    own = searched.copy_to(tmp_path / "own")
    assert "no study is finished" in refusal(own.invoke("predict", "--batch", 128, code=2))
    name = own.study().study_name
    asked = own.invoke("predict", "--batch", 128, "--study", name, code=2)
    assert "searched the weight decay too" in refusal(asked)
    logged = own.invoke("report", "--family", code=2)
    assert "searched the weight decay too" in refusal(logged)


def test_the_rate_alone_is_another_study(searched: Workspace, tmp_path: Path) -> None:
    own = searched.copy_to(tmp_path / "own")
    own.invoke("run", "--optimizer", "adamw", "--seed", 3, "--trials", 1)
    names = [row[0] for row in own.sql("SELECT study_name FROM studies ORDER BY study_id")]
    assert len(names) == 2
    trials = own.sql("SELECT count(*) FROM trial_params WHERE param_name = 'weight_decay'")
    assert trials == [(6,)]
    assert "decay" not in own.invoke("status", "--study", names[1]).out


@pytest.mark.more
def test_confirm_trains_both_at_new_seeds(searched: Workspace, tmp_path: Path) -> None:
    own = searched.copy_to(tmp_path / "own")
    search = own.study()
    own.invoke("confirm", "--top", 2, "--seeds", 2, "--json")
    known = optuna.load_study(study_name=search.study_name, storage=search._storage)
    kept = known.user_attrs["confirmation"]["finalists"]
    assert len(kept) == 2
    assert all(each["states"] == ["complete"] * 2 for each in kept)
    numbers = {each["trial"]: each["weight_decay"] for each in kept}
    trials = search.trials
    assert all(trials[n].params["weight_decay"] == decay for n, decay in numbers.items())
    assert "with weight decay" in own.invoke("report").out


@pytest.mark.more
def test_a_program_is_told_both(workspace: Workspace) -> None:
    workspace.write("program.py", PROGRAM)
    settings = ("--profile", "program", "--set", "study.publish=false", "--set", "study.until=''")
    run = ("run", *settings, "--steps", 4, "--pattern", "nanogpt", "--trials", 7)
    workspace.invoke(*run, "--with", "weight_decay", "--decay-range", 0.01, 1, *TOLD)
    trials = [t for t in workspace.study().trials if t.state == TrialState.COMPLETE]
    for trial in trials:
        rate, decay = trial.params["learning_rate"], trial.params["weight_decay"]
        away, place = math.log(rate * decay / 1e-4), math.log(decay / 0.1)
        expected = 3 + 0.1 * away**2 + 0.02 * place**2 - 0.4
        assert trial.value == pytest.approx(expected, abs=1e-3)
        assert 0.01 <= decay <= 1
    workspace.invoke("export", "-o", "best.yaml")
    stored = yaml.safe_load((workspace.path / "best.yaml").read_text())["train"]
    assert stored["weight_decay"] in [trial.params["weight_decay"] for trial in trials]
    assert "met again" in workspace.invoke("train", "best.yaml", *TOLD).out

    untold = (*run, "--with", "weight_decay", *TOLD[:-1])
    assert "no {weight_decay}" in refusal(workspace.invoke(*untold, code=2))
    unsearched = refusal(workspace.invoke(*run, *TOLD, code=2))
    assert "--with weight_decay" in unsearched
    dry = workspace.invoke(*run, "--with", "weight_decay", "--dry-run", *TOLD).out
    assert "at weight decay 0.1, then between 0.00625 and 1.6" in dry


@pytest.mark.more
def test_tpe_draws_both(workspace: Workspace) -> None:
    workspace.invoke(*WITH, "--trials", 5, "--set", "study.sampler=tpe", "--epochs", 1)
    decays = {round(trial.params["weight_decay"], 9) for trial in workspace.study().trials}
    assert len(decays) >= 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--with momentum", ["study.with (--with)", "'weight_decay'", "got 'momentum'"]),
        ("--with weight_decay", ["optimizer adam", "--optimizer adamw"]),
        ("--optimizer adamw --with weight_decay --batch 32,64", ["one by one"]),
        (
            "--optimizer adamw --with weight_decay --decay-range 1 0.1",
            ["weight decay", "at least 1.25 times"],
        ),
        (
            "--optimizer adamw --with weight_decay --set study.decay_range=[0.1]",
            ["study.decay_range takes a lowest and a highest decay"],
        ),
        (
            "--optimizer adamw --with weight_decay --set reference.weight_decay=-1",
            ["reference.weight_decay", "at least 0"],
        ),
    ],
)
def test_bad_input_is_one_line(workspace: Workspace, arguments: str, words: list[str]) -> None:
    said = refusal(workspace.invoke("run", *arguments.split(), code=2))
    assert all(word in said for word in words), said


def test_a_known_decay_is_carried_by_its_timescale(workspace: Workspace) -> None:
    # sqrt's rate at twice the batch: B / (rate x decay) stays, so the decay is sqrt(2) times it.
    known = ("--set", "reference.weight_decay=0.05", "--dry-run")
    said = workspace.invoke(*WITH, *known).out
    assert f"at weight decay {0.05 * math.sqrt(2):.3g}" in said
