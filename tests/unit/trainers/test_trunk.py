"""Runs that begin with what a shorter one has trained already: the same bits, fewer steps."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training import trained, write_docstrings

from trainers import checkpoint
from trainers.config import DataConfig, LRSchedule, ModelConfig, TrainConfig
from trainers.data import build_corpus
from trainers.data.corpus import write as write_corpus
from trainers.length import length_of
from trainers.report import Outcome, Report
from trainers.schedule import trunk_steps
from trainers.train import train

LENGTHS = (10, 20, 30)
TRUNKS = (8, 16, 24)
PER_EPOCH = 3
WSD = LRSchedule(name="wsd", warmup_steps=2, decay_share=0.2)
OPTIONS = {"embed": 8, "hidden": 16, "layers": 1, "context": 8, "dropout": 0.2}
PARTS = ("model", "optimizer", "scheduler", "precision", "step")

Make = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    text = write_docstrings(tmp_path_factory.mktemp("text"))
    cut: dict[str, Any] = {"window": 8, "stride": 4, "vocabulary_size": 120}
    return DataConfig(name=str(text), **cut, train_sequences=44, validation_sequences=30)


@pytest.fixture
def study(data: DataConfig, tmp_path: Path) -> Path:
    """A folder with the corpus, for runs below it."""
    write_corpus(build_corpus(data), tmp_path / "corpus.safetensors")
    return tmp_path


@pytest.fixture
def make(data: DataConfig) -> Make:
    def config(steps: int, **changes: Any) -> TrainConfig:
        plain = {
            "learning_rate": 1e-2,
            "batch_size": 16,
            "evaluate_every": 2,
            "patience": 100,
            "optimizer": "adamw",
            "weight_decay": 0.1,
            "lr_schedule": WSD,
            "keep_trunk": True,
            "model": ModelConfig(options=OPTIONS),
            "data": data,
        }
        return TrainConfig(**{**plain, **changes}, steps=steps)

    return config


def bits(reports: list[Report]) -> list[Report]:
    """What must repeat: all but the clock's and the process's figures, and where it was trained."""
    unlike: dict[str, Any] = {"tokens_per_second": 0.0, "peak_memory_bytes": 0, "trunk": 0}
    return [dataclasses.replace(report, **unlike) for report in reports]


def state(folder: Path) -> str:
    """What a run has come to, every tensor in full."""
    last = checkpoint.read(folder / checkpoint.LAST)
    return str([_numbers(last[part]) for part in PARTS])


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [*map(_numbers, value)]
    return value.double().tolist() if hasattr(value, "tolist") else value


def assert_same_run(config: TrainConfig, reports: list[Report], folder: Path, alone: Path) -> None:
    """Trains it alone as well."""
    expected, outcome = trained(config, alone)
    assert outcome is Outcome.COMPLETED
    assert bits(reports) == bits(expected)
    assert state(folder) == state(alone)


@pytest.mark.parametrize("every", [2, 3], ids=["after a report", "between two"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_branch_is_bit_for_bit_the_run_trained_alone(
    make: Make, study: Path, precision: str, every: int
) -> None:
    trunks: list[Path] = []
    for number, steps in enumerate(LENGTHS):
        config = make(steps, precision=precision, evaluate_every=every)
        folder = study / f"{steps}"
        reports, _ = trained(config, folder, trunks=trunks)
        assert [report.trunk for report in reports][-1] == (0, *TRUNKS)[number]
        assert_same_run(config, reports, folder, study / f"{steps} alone")
        trunks.insert(0, folder / checkpoint.TRUNK)


def test_what_is_kept_is_the_checkpoint_at_the_beginning_of_the_decay(
    make: Make, study: Path
) -> None:
    for steps, there in zip(LENGTHS, TRUNKS, strict=True):
        config = make(steps)
        assert trunk_steps(config, length_of(config, PER_EPOCH)) == there
        trained(config, study / f"{steps}")
        assert checkpoint.read(study / f"{steps}" / checkpoint.TRUNK)["step"] == there
    trained(make(10, keep_trunk=False), study / "unasked")
    assert not (study / "unasked" / checkpoint.TRUNK).exists()
    constant = LRSchedule(warmup_steps=2)
    trained(make(10, lr_schedule=constant), study / "constant")
    assert not (study / "constant" / checkpoint.TRUNK).exists()


@pytest.mark.parametrize("killed_at", [5, 9, 15])
def test_a_kill_in_the_trunk_or_in_the_branch_changes_nothing(
    make: Make, study: Path, killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last checkpoint may lie some steps back; the second run goes on from there."""
    monkeypatch.setattr("trainers.train.PROGRESS_INTERVAL_S", 0.0)
    short, long = make(10), make(20)
    trunk = study / "short" / checkpoint.TRUNK
    for config, folder, trunks in ((short, study / "short", []), (long, study / "long", [trunk])):
        run = train(config, device="cpu", directory=folder, trunks=trunks)
        for said in run:
            if said.step >= killed_at:
                break
        run.close()
        reports, _ = trained(config, folder, trunks=trunks)
    assert reports[-1].trunk == 8
    assert_same_run(long, reports, study / "long", study / "alone")


def test_a_run_that_was_left_in_its_stable_part_is_a_trunk_up_to_there(
    make: Make, study: Path
) -> None:
    trained(make(10), study / "left", pause_after=1)
    reports, _ = trained(make(20), study / "long", trunks=[study / "left" / checkpoint.LAST])
    assert {report.trunk for report in reports if report.step > 4} == {4}
    assert_same_run(make(20), reports, study / "long", study / "alone")


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "rate": ({"learning_rate": 2e-2}, "learning_rate = 0.02"),
    "batch": ({"batch_size": 22}, "batch_size = 22"),
    "seed": ({"seed": 1}, "seed = 1"),
    "precision": ({"precision": "bf16"}, "precision = bf16"),
    "optimizer": ({"optimizer": "adam"}, "optimizer = adam"),
    "decay": ({"weight_decay": 0.2}, "weight_decay = 0.2"),
    "model": ({"model": ModelConfig(options={**OPTIONS, "dropout": 0.1})}, "dropout = 0.1"),
    "clipping": ({"clip_schedule": ((0, 0.1),)}, "clip_schedule"),
    "schedule": ({"lr_schedule": LRSchedule(warmup_steps=2)}, "lr_schedule.name = constant"),
    "warm-up": (
        {"lr_schedule": dataclasses.replace(WSD, warmup_steps=3)},
        "lr_schedule.warmup_steps = 3",
    ),
    "horizon": (
        {"lr_schedule": dataclasses.replace(WSD, horizon_steps=12)},
        "lr_schedule.horizon_steps = 12",
    ),
    "reports": ({"evaluate_every": 4}, "evaluate_every = 4"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_no_beginning_of_the_run_is_refused_and_it_trains_alone(
    make: Make, study: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    changes, words = CHANGES[what]
    trained(make(10, **changes), study / "other")
    (other,) = [
        file
        for name in (checkpoint.TRUNK, checkpoint.LAST)
        if (file := study / "other" / name).exists()
    ][:1]
    assert_refused(make(20), study, other, words, caplog)


def assert_refused(
    config: TrainConfig, study: Path, trunk: Path, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        reports, _ = trained(config, study / "run", trunks=[trunk])
    (line,) = caplog.messages
    assert words in line
    assert str(trunk) in line
    assert {report.trunk for report in reports} == {0}
    assert len(reports) == config.steps // length_of(config, PER_EPOCH).between_reports


def test_a_warm_up_by_share_is_another_one_in_a_longer_run(
    make: Make, study: Path, caplog: pytest.LogCaptureFixture
) -> None:
    share = dataclasses.replace(WSD, warmup_steps=0, warmup_share=0.1)
    trained(make(10, lr_schedule=share), study / "other")
    words = "is at step 8, by which its rate had another course"
    trunk = study / "other" / checkpoint.TRUNK
    assert_refused(make(20, lr_schedule=share), study, trunk, words, caplog)
    reports, _ = trained(make(20, lr_schedule=share), study / "run")
    assert_same_run(make(20, lr_schedule=share), reports, study / "run", study / "alone")


@pytest.mark.parametrize(
    ("steps", "file", "own_steps", "words"),
    [
        pytest.param(10, checkpoint.LAST, 20, "is at step 10, by which", id="in its decay"),
        pytest.param(20, checkpoint.TRUNK, 10, "is at step 16, by which", id="beyond the own"),
    ],
)
def test_what_is_past_a_decay_is_refused(
    make: Make,
    study: Path,
    caplog: pytest.LogCaptureFixture,
    steps: int,
    file: str,
    own_steps: int,
    words: str,
) -> None:
    trained(make(steps), study / "other")
    assert_refused(make(own_steps), study, study / "other" / file, words, caplog)


def test_reports_at_other_steps_are_refused(
    make: Make, study: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(make(40, evaluate_every=0), study / "other")
    trunk = study / "other" / checkpoint.TRUNK
    words = "was not measured every 4 steps"
    assert_refused(make(80, evaluate_every=0), study, trunk, words, caplog)


def test_another_text_or_tokenizer_is_refused(
    make: Make, study: Path, data: DataConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """The one was changed under its name, so that only what was read tells them apart."""
    other = study / "elsewhere"
    other.mkdir()
    fewer = dataclasses.replace(data, train_sequences=43)
    write_corpus(build_corpus(fewer), other / "corpus.safetensors")
    trained(make(10, data=fewer), other / "run")
    state = checkpoint.read(other / "run" / checkpoint.TRUNK)
    state["config"]["data"]["train_sequences"] = data.train_sequences
    checkpoint.write(other / "run" / checkpoint.TRUNK, state)
    trunk = other / "run" / checkpoint.TRUNK
    assert_refused(make(20), study, trunk, "was trained on another text", caplog)


def test_a_spoilt_one_is_passed_over_for_the_next(
    make: Make, study: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(make(10), study / "short")
    spoilt = study / "spoilt.pt"
    spoilt.write_bytes((study / "short" / checkpoint.TRUNK).read_bytes()[:-100])
    trunks = [study / "missing.pt", spoilt, study / "short" / checkpoint.TRUNK]
    with caplog.at_level(logging.WARNING):
        reports, _ = trained(make(20), study / "long", trunks=trunks)
    missing, damaged = caplog.messages
    assert "there is no checkpoint" in missing
    assert "is spoilt" in damaged
    assert reports[-1].trunk == 8
    assert_same_run(make(20), reports, study / "long", study / "alone")


@pytest.mark.more
def test_two_processes_of_one_training_both_begin_with_it(make: Make, study: Path) -> None:
    plain = ModelConfig(options={**OPTIONS, "dropout": 0.0})
    trained(make(10, model=plain), study / "short", device="cpu:0,1")
    trunks = [study / "short" / checkpoint.TRUNK]
    long = make(20, model=plain)
    reports, _ = trained(long, study / "long", device="cpu:0,1", trunks=trunks)
    expected, _ = trained(long, study / "alone", device="cpu:0,1")
    assert reports[-1].trunk == 8
    assert bits(reports) == bits(expected)
    assert state(study / "long") == state(study / "alone")
