"""A model of `transformers` in the shared trainer: paused and gone on with, bit for bit."""

from pathlib import Path

import pytest

from sweep.config.load import load
from sweep.orchestration.plan import make_plan, study_name
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.report import Outcome, Report, Verdict
from trainers.train import train

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


def run(
    config: TrainConfig, folder: Path, pause_after: int = 0
) -> tuple[dict[int, float], Outcome]:
    """Perplexities by epoch, and how it ended."""
    said: dict[int, float] = {}
    training, verdict = train(config, device="cpu", directory=folder), None
    while True:
        try:
            word = training.send(verdict)
        except StopIteration as stop:
            return said, stop.value.outcome
        verdict = None
        if isinstance(word, Report):
            said[word.epoch] = word.perplexity
            verdict = Verdict.PAUSE if word.epoch == pause_after else Verdict.CONTINUE


def test_it_resumes_bit_for_bit_and_learns(config: TrainConfig, tmp_path: Path) -> None:
    straight, _ = run(config, tmp_path / "straight")
    first, paused = run(config, tmp_path / "stopped", pause_after=1)
    whole, outcome = run(config, tmp_path / "stopped")
    assert (paused, outcome) == (Outcome.PAUSED, Outcome.COMPLETED)
    assert list(first) == [1]
    assert whole == straight
    assert straight[3] < straight[1]


def test_its_study_is_named_by_its_kind_and_keyed_by_its_options(english: Path) -> None:
    settings = ["models.transformers:gpt2.n_layer=1", "models.transformers:gpt2.n_embd=12"]
    flags = {"model": "transformers:gpt2", "data.name": str(english)}
    plan = make_plan(load(None, profile="cpu", cuda=False, assignments=settings, flags=flags))
    assert study_name(plan).startswith("gpt2-b2048-fp16-")
    assert plan.train.model.options == {"n_layer": 1, "n_embd": 12}
