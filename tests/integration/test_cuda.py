"""A sweep on a CUDA device: trained, reported, exported, trained again."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from support import Workspace

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(scope="module", params=["fp16", "fp32"])
def swept(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, english: Path
) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("cuda"), english)
    workspace.said = workspace.sweep(
        *("run", "--device", "cuda", "--precision", request.param, "--trials", 3, "--epochs", 8)
    )
    return workspace


def test_its_trials_end_in_the_database(swept: Workspace) -> None:
    assert set(swept.states()) <= {"COMPLETE", "PRUNED"}
    assert "on cuda: as asked" in swept.said.out + swept.said.err
    study = swept.study()
    assert 1 < study.best_value < study.user_attrs["unigram_perplexity"]


def test_its_steps_are_recorded_or_it_would_say_so(swept: Workspace) -> None:
    assert "no CUDA graph" not in swept.said.out + swept.said.err


def test_the_best_one_trained_again_on_cuda_is_the_same(swept: Workspace) -> None:
    swept.sweep("export", "-o", "best.yaml")
    exported = yaml.safe_load((swept.path / "best.yaml").read_text())
    again = swept.sweep("train", "best.yaml", "--device", "cuda", "--json")
    reports = [event["report"] for event in again.events if event["event"] == "trial_reported"]
    best = swept.study().best_trial
    assert exported["train"]["learning_rate"] == best.params["learning_rate"]
    for report in reports:
        stored = best.intermediate_values[report["step"]]
        assert report["perplexity"] == pytest.approx(stored, rel=1e-3)
        assert report["peak_memory_bytes"] > 0


def test_bench_counts_the_products_of_recorded_steps(swept: Workspace) -> None:
    options = ("--batch", 32, "--precision", "fp16,fp32", "--device", "cuda", "--json")
    speeds = json.loads(swept.sweep("bench", *options).out)
    assert [speed["precision"] for speed in speeds] == ["fp16", "fp32"]
    assert all(0 < speed["share_of_peak"] < 1 for speed in speeds)
    assert speeds[0]["flops_per_second"] > 0
