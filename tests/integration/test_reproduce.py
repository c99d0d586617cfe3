"""`sweep reproduce`: the known case's rates and settings, and a tiny run of it on real text."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from support import Done, Workspace

from sweep.config.load import load
from sweep.config.schema import SweepConfig
from sweep.orchestration.plan import make_plan
from sweep.results.known_cases import SEED_TABLE, Reproduced, full_size, pattern, rate_here
from sweep.results.runs import TrainedRun
from sweep.workflows.reproduce import setting_of

pytestmark = pytest.mark.more  # nine whole trainings; what is said of them is a unit test's

# Batches of 2,048 need as many windows: these are of the smallest size.
TINY = ("--set", "trainer.epochs=1", "--set", "data.window=4", "--set", "data.stride=1")


@pytest.fixture
def cuda() -> SweepConfig:
    return load(None, profile="cuda", cuda=True)


def test_at_full_size_it_is_the_known_case_itself(cuda: SweepConfig) -> None:
    assert full_size(cuda)
    rates = [rate_here(cuda, case) for case in SEED_TABLE]
    assert rates == [1e-4, 1e-4, 4e-4, 8e-4, 6.4e-3, 4e-4]
    settings = [setting_of(cuda, case).trainer for case in SEED_TABLE]
    assert [train.batch_size for train in settings] == [32, 2048, 2048, 2048, 2048, 2048]
    assert [train.precision for train in settings] == ["fp32"] + 5 * ["fp16"]
    assert {train.epochs for train in settings} == {50}
    assert {train.data.subset for train in settings} == {"wikitext-2-raw-v1"}
    assert make_plan(setting_of(cuda, SEED_TABLE[0])).setting.parameters == 2_739_432
    advanced = settings[-1].model.options
    assert (advanced["context"], advanced["layers"]) == (512, 12)
    assert [case.known for case in SEED_TABLE] == [23.34, 46.7, 30.78, 26.03, None, 40.93]


def test_small_the_rates_are_the_same_multiples_of_the_profiles_reference() -> None:
    cpu = load(None, profile="cpu", cuda=False)
    assert not full_size(cpu)
    first = cpu.reference.learning_rate
    rates = [rate_here(cpu, case) / first for case in SEED_TABLE]
    assert rates == pytest.approx([1, 1, 4, 8, 64, 4], rel=1e-3)
    advanced = setting_of(cpu, SEED_TABLE[-1]).trainer.model.options
    assert (advanced["context"], advanced["layers"]) == (128, 4)


def found(*perplexities: float | None) -> list[Reproduced]:
    run = TrainedRun("study", 0, 1e-3, 0, "fp16", "complete", None, {}, "", None, None, None, None)
    return [
        Reproduced(case, 1e-3, 100, dataclasses.replace(run, value=value))
        for case, value in zip(SEED_TABLE, perplexities, strict=True)
    ]


@pytest.mark.parametrize(
    ("perplexities", "met"),
    [
        ((23.34, 46.7, 30.78, 26.03, math.inf, 40.93), [True, True, True, True]),
        ((50.0, 46.7, 20.78, 26.03, 25.0, 10.93), [False, False, False, False]),
        ((23.34, 46.7, 30.78, 26.03, None, None), [True, None, None, None]),
    ],
)
def test_the_known_pattern_is_looked_for(
    perplexities: tuple[float | None, ...], met: list[bool | None]
) -> None:
    assert [said for _, said in pattern(found(*perplexities))] == met


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    """Stopped at first, then gone on with."""
    workspace = Workspace(tmp_path_factory.mktemp("reproduced"), english)
    workspace.invoke("reproduce", "seed-table", *TINY, "--set", "study.timeout=1e-6", code=3)
    workspace.said = workspace.sweep("reproduce", "seed-table", *TINY, "--json")
    return workspace


def result(done: Done) -> dict[str, Any]:
    (said,) = [event for event in done.events if event["event"] == "reproduction"]
    return said


def test_every_run_is_stored_where_it_says(reproduced: Workspace) -> None:
    said = result(reproduced.said)
    assert said["full_size"] is False
    url = f"sqlite:///{reproduced.path / 'sweep.db'}"
    assert len(optuna.get_all_study_names(url)) == 3
    for run in said["runs"]:
        trial = optuna.load_study(study_name=run["study"], storage=url).trials[run["trial"]]
        assert trial.params["learning_rate"] == run["learning_rate"]
        assert trial.value == run["perplexity"]
    assert [run["learning_rate"] for run in said["runs"][1:5]] == [0.03, 0.12, 0.24, 1.92]
    assert said["runs"][5]["parameters"] > said["runs"][2]["parameters"]


def test_the_table_stands_beside_the_known_values(reproduced: Workspace) -> None:
    out = reproduced.invoke("reproduce", "seed-table", *TINY).out
    assert "epoch" not in out  # nothing was trained again
    for known in ("23.34", "46.70", "30.78", "26.03", "40.93", "unstable"):
        assert known in out
    assert out.count("as known: ") == 4
