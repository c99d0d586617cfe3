"""`sweep add` on a study that holds one finished trial."""

import json
import os

import pytest
from support import Workspace, open_ledger, refusal, report

from trainers.report import Outcome


@pytest.fixture
def folder(workspace: Workspace) -> Workspace:
    """The study's one trial, of the sqrt rule's rate, came to perplexity 30."""
    with open_ledger(workspace.path) as ledger:
        spec = ledger.ask()
        ledger.report({spec.number: report(1, 30)})
        ledger.tell(spec.number, Outcome.COMPLETED, "trained to its end")
    return workspace


def add(folder: Workspace, rate: object, perplexity: object, *more: str, code: int = 0) -> str:
    done = folder.invoke("add", "--rate", rate, "--perplexity", perplexity, *more, code=code)
    return refusal(done) if code else done.out


def test_it_is_a_finished_trial_marked_as_by_hand(folder: Workspace) -> None:
    said = add(folder, "8e-4", "26.03", "--note", "the old cluster")
    number = folder.study().trials[-1].number
    assert said.startswith(f"trial {number} of study, by hand: learning rate 8.00e-4")
    trial = folder.study().trials[number]
    assert (trial.state.name, trial.value) == ("COMPLETE", 26.03)
    assert trial.params == {"learning_rate": 8e-4}
    assert trial.user_attrs["by_hand"] is True
    assert trial.user_attrs["reason"] == "by hand: the old cluster"
    assert trial.user_attrs["nearest_rule"] == "unscaled"
    assert trial.user_attrs["multiple"] == pytest.approx(0.8)


def test_a_better_one_is_the_best_and_status_shows_where_it_is_from(folder: Workspace) -> None:
    add(folder, "8e-4", "26.03")
    status = folder.invoke("status").out
    assert "Best learning rate 8.00e-4, perplexity 26.03" in status
    assert "by hand" in status
    best = json.loads(folder.invoke("status", "--json").out)["best"]
    assert (best["learning_rate"], best["by_hand"]) == (8e-4, True)


def test_a_worse_one_is_not(folder: Workspace) -> None:
    add(folder, "8e-4", "46.7")
    assert "perplexity 30.00 (trial 0" in folder.invoke("status").out


def test_it_does_not_count_in_the_studys_total(folder: Workspace) -> None:
    add(folder, "8e-4", "26.03")
    with open_ledger(folder.path, trials=2) as ledger:
        assert ledger.ask() is not None
        assert ledger.ask() is None


def test_while_a_sweep_runs_it_is_refused(folder: Workspace) -> None:
    with open_ledger(folder.path):
        line = add(folder, "8e-4", "26.03", code=2)
    assert f"is being run by process {os.getpid()}" in line
    assert all("by_hand" not in trial.user_attrs for trial in folder.study().trials)


@pytest.mark.parametrize(
    ("rate", "perplexity", "says"),
    [
        ("0", "26", "--rate must be from 1e-07 to 10, got 0"),
        ("nan", "26", "--rate must be"),
        ("11", "26", "--rate must be"),
        ("1e-3", "0.9", "--perplexity must be a perplexity, at least 1, got 0.9"),
        ("1e-3", "inf", "--perplexity must be"),
        ("1e-3", "nan", "--perplexity must be"),
    ],
)
def test_impossible_numbers_are_refused(
    folder: Workspace, rate: str, perplexity: str, says: str
) -> None:
    before = len(folder.study().trials)
    assert says in add(folder, rate, perplexity, code=2)
    assert len(folder.study().trials) == before


@pytest.mark.parametrize("rate", ["6e-3", "1e-2", "1.9e-2"])
def test_a_loss_is_refused_where_a_trial_near_it_tells(folder: Workspace, rate: str) -> None:
    line = add(folder, rate, "3.45", code=2)
    assert "--perplexity 3.45 looks like a loss in nats" in line
    assert line.endswith("perplexity is exp(loss); did you mean 31.5?")
    assert len([trial for trial in folder.study().trials if trial.state.is_finished()]) == 1


@pytest.mark.parametrize(
    ("rate", "perplexity", "warned"),
    [
        ("1e-3", "3.45", True),  # no trial was near
        ("1e-2", "2.5", True),  # nor at exp(2.5)
        ("1e-2", "7.4", False),  # a run far better than the sweep's is none
        ("1e-2", "29", False),
    ],
)
def test_what_may_be_a_perplexity_is_added(
    folder: Workspace, rate: str, perplexity: str, warned: bool
) -> None:
    done = folder.invoke("add", "--rate", rate, "--perplexity", perplexity)
    assert folder.study().trials[-1].value == float(perplexity)
    (*lines,) = done.err.splitlines()
    assert [line[:8] for line in lines] == ["Warning:"] * warned
    assert all("loss in nats beside 90, the text's unigram" in line for line in lines)


def test_there_must_be_a_study(workspace: Workspace) -> None:
    line = add(workspace, "8e-4", "26.03", code=2)
    assert "there is no database" in line
    assert not (workspace.path / "sweep.db").exists()
