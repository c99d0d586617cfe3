"""A model of `transformers` in the shared trainer: paused and gone on with, bit for bit."""

from pathlib import Path

import pytest
from training import trained

from sweep.config.load import load
from sweep.orchestration.plan import make_plan, study_name
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.report import Outcome, Report

pytest.importorskip("transformers")

OPTIONS = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 32}


@pytest.fixture
def config(english: Path) -> TrainConfig:
    return TrainConfig(
        learning_rate=1e-2,
        batch_size=64,
        epochs=3,
        model=ModelConfig(name="transformers:gpt2", options=OPTIONS),
        data=DataConfig(name=str(english), vocabulary_size=300, window=16, stride=8),
    )


def perplexities(reports: list[Report]) -> dict[int, float]:
    """By epoch."""
    return {report.epoch: report.perplexity for report in reports}


def test_it_resumes_bit_for_bit_and_learns(config: TrainConfig, tmp_path: Path) -> None:
    straight = perplexities(trained(config, tmp_path / "straight")[0])
    first, paused = trained(config, tmp_path / "stopped", pause_after=1)
    reports, outcome = trained(config, tmp_path / "stopped")
    whole = perplexities(reports)
    assert (paused, outcome) == (Outcome.PAUSED, Outcome.COMPLETED)
    assert list(perplexities(first)) == [1]
    assert whole == straight
    assert straight[3] < straight[1]


def test_its_study_is_named_by_its_kind_and_keyed_by_its_options(english: Path) -> None:
    settings = ["models.transformers:gpt2.n_layer=1", "models.transformers:gpt2.n_embd=12"]
    flags = {"model": "transformers:gpt2", "data.name": str(english)}
    plan = make_plan(load(None, profile="cpu", cuda=False, assignments=settings, flags=flags))
    assert study_name(plan).startswith("gpt2-b2048-fp16-")
    assert plan.train.model.options == {"n_layer": 1, "n_embd": 12}
