"""The best configuration as other trainers' arguments, read by those where they are installed."""

import importlib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support import open_ledger, report

from sweep.errors import SweepError
from sweep.results.export import Exported, export
from sweep.results.trainer_formats import (
    FORMATS,
    gradient_norm,
    hf_arguments,
    lightning_arguments,
    not_expressible,
    write_foreign,
)
from trainers.config import LRSchedule, TrainConfig
from trainers.length import length_of
from trainers.report import Outcome
from trainers.schedule import lr_scheduler, warmup_steps

TRAIN = TrainConfig(
    learning_rate=1.0,
    batch_size=2048,
    precision="fp16",
    epochs=50,
    seed=7,
    eps=1e-7,
    weight_decay=0.01,
    optimizer="adamw",
    lr_schedule=LRSchedule(name="cosine", warmup_steps=100),
)


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    with open_ledger(tmp_path, train=TRAIN) as ledger:
        spec = ledger.ask()
        assert spec is not None
        ledger.report({spec.number: report(1, 40)})
        ledger.tell(spec.number, Outcome.COMPLETED, "")
        return export(ledger.study, ledger.study.best_trial, "sqlite:///sweep.db")


def written(exported: Exported, name: str, folder: Path) -> tuple[dict[str, Any], str]:
    file = folder / f"{name}.yaml"
    write_foreign(exported, name, file)
    text = file.read_text()
    return yaml.safe_load(text), " ".join(text.replace("#", "").split())


def test_transformers_takes_every_argument(exported: Exported, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    arguments, _ = written(exported, "hf", tmp_path)
    taken = transformers.TrainingArguments(**{**arguments, "output_dir": str(tmp_path)})
    assert (taken.learning_rate, taken.per_device_train_batch_size) == (1e-2, 2048)
    assert (taken.num_train_epochs, taken.warmup_steps) == (50, 100)
    assert (taken.fp16, taken.bf16, taken.max_grad_norm) == (True, False, 1.0)
    assert (taken.adam_beta1, taken.adam_beta2, taken.adam_epsilon) == (0.9, 0.999, 1e-7)
    assert (taken.weight_decay, taken.seed) == (0.01, 7)
    assert taken.lr_scheduler_type == "cosine"


def test_lightnings_optimizer_is_torchs_own(exported: Exported, tmp_path: Path) -> None:
    arguments, _ = written(exported, "lightning", tmp_path)
    module, _, name = arguments["optimizer"]["class_path"].rpartition(".")
    made = getattr(importlib.import_module(module), name)(
        torch.nn.Linear(2, 2).parameters(), **arguments["optimizer"]["init_args"]
    )
    assert isinstance(made, torch.optim.AdamW)
    (group,) = made.param_groups
    assert (group["lr"], group["eps"], group["weight_decay"]) == (1e-2, 1e-7, 0.01)
    assert arguments["seed_everything"] == 7


def test_lightning_takes_the_trainers_arguments(exported: Exported, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    arguments, _ = written(exported, "lightning", tmp_path)
    assert arguments["trainer"]["precision"] == "16-mixed"
    on_cpu = {**arguments["trainer"], "precision": "bf16-mixed", "accelerator": "cpu"}
    trainer = lightning.Trainer(**on_cpu, logger=False, enable_checkpointing=False)
    assert (trainer.max_epochs, trainer.gradient_clip_val) == (50, 1.0)


@pytest.mark.parametrize("name", ["hf", "lightning"])
def test_what_they_cannot_say_is_said(exported: Exported, tmp_path: Path, name: str) -> None:
    _, text = written(exported, name, tmp_path)
    assert "clipped by a schedule: 0.5 from epoch 0 on, 1 from epoch 10 on, 2 from epoch 30" in text
    assert "early stop after 15 epochs" in text
    assert "not confirmed" in text
    assert "trial 0 of study, perplexity 40.00" in text


@pytest.mark.parametrize("floor", [0.0, 0.1])
@pytest.mark.parametrize("name", ["constant", "cosine", "linear"])
def test_transformers_warms_up_by_the_share_and_decays_alike(
    name: str, floor: float, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    schedule = LRSchedule(name=name, warmup_share=0.07, floor=floor)  # type: ignore[arg-type]
    train = TrainConfig(learning_rate=1e-2, epochs=10, lr_schedule=schedule)
    taken = transformers.TrainingArguments(
        **{**hf_arguments(train), "output_dir": str(tmp_path), "use_cpu": True}
    )
    total = 160
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1e-2)
    theirs = transformers.get_scheduler(
        taken.lr_scheduler_type,
        optimizer,
        taken.get_warmup_steps(total),
        total,
        scheduler_specific_kwargs=taken.lr_scheduler_kwargs or {},
    ).lr_lambdas[0]
    ours = lr_scheduler(train, optimizer, length_of(train, total // 10)).lr_lambdas[0]
    warmup = 12
    assert (
        taken.get_warmup_steps(total)
        == warmup_steps(train, length_of(train, total // 10))
        == warmup
    )
    # Their warm-up begins at zero, ours at the first step's share.
    assert [theirs(n + 1) for n in range(warmup)] == pytest.approx([ours(n) for n in range(warmup)])
    after = range(warmup, total)
    assert [theirs(n) for n in after] == pytest.approx([ours(n) for n in after])


@pytest.mark.parametrize(("installed", "name"), [("4.57.1", "warmup_ratio"), ("", "warmup_steps")])
def test_the_share_has_the_name_that_the_installed_version_knows(
    installed: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(package: str) -> str:
        assert package == "transformers"
        if not installed:
            raise PackageNotFoundError
        return installed

    monkeypatch.setattr("sweep.results.trainer_formats.version", version)
    schedule = LRSchedule(warmup_share=0.1, horizon_epochs=20)
    arguments = hf_arguments(TrainConfig(learning_rate=1e-3, epochs=10, lr_schedule=schedule))
    found = {key: value for key, value in arguments.items() if key.startswith("warmup")}
    assert found == {name: 0.2}, "of the run, not of the horizon"
    assert arguments["lr_scheduler_type"] == "constant_with_warmup"


def test_a_share_over_a_horizon_in_steps_is_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.results.trainer_formats.version", lambda _: "5.0")
    schedule = LRSchedule(warmup_share=0.1, horizon_steps=400)
    arguments = hf_arguments(TrainConfig(learning_rate=1e-3, steps=200, lr_schedule=schedule))
    assert arguments["warmup_steps"] == 0.2
    assert arguments["max_steps"] == 200


@pytest.mark.parametrize(("epochs", "norm"), [(5, 0.5), (15, 0.5), (25, 1.0), (50, 1.0), (80, 2.0)])
def test_the_norm_is_the_one_that_holds_longest(epochs: int, norm: float) -> None:
    assert gradient_norm(TrainConfig(learning_rate=1e-3, epochs=epochs)) == norm


@pytest.mark.parametrize(
    ("schedule", "norm"),
    [((), 0.0), (((8, 1.0),), 0.0), (((2, 1.0),), 1.0), (((10, 1.0),), 0.0), (((0, 1.0),), 1.0)],
)
def test_a_run_that_was_mostly_not_clipped_has_no_norm(
    schedule: tuple[tuple[int, float], ...], norm: float
) -> None:
    train = TrainConfig(learning_rate=1e-3, epochs=10, clip_schedule=schedule)
    assert hf_arguments(train)["max_grad_norm"] == norm
    assert lightning_arguments(train)["trainer"]["gradient_clip_val"] == norm
    said = " ".join(not_expressible(train, "hf"))
    assert ("not from epoch 0 on, 1 from epoch" in said) == (schedule in (((8, 1.0),), ((2, 1.0),)))


def test_adams_decay_and_a_schedule_of_its_own_length_are_no_arguments() -> None:
    train = TrainConfig(
        learning_rate=1e-3,
        epochs=5,
        weight_decay=0.1,
        lr_schedule=LRSchedule(name="cosine", horizon_epochs=9),
    )
    said = " ".join(not_expressible(train, "hf"))
    assert "the optimizer is Adam: its weight decay is added to the gradient" in said
    assert "the cosine decay ends after 9 epochs, not with the run" in said
    assert "clipped by a schedule" not in said
    assert "cosine over 9 epochs after 0 steps" in " ".join(not_expressible(train, "lightning"))
    share = TrainConfig(learning_rate=1e-3, lr_schedule=LRSchedule(warmup_share=0.1))
    said = " ".join(not_expressible(share, "lightning"))
    assert "constant over 50 epochs after 0.1 of the steps of linear warm-up" in said


@pytest.mark.parametrize(
    ("changes", "form", "words"),
    [
        ({"optimizer": "muon"}, "hf", "the study's optimizer is muon"),
        ({"optimizer": "sgd"}, "hf", "the study's optimizer is sgd"),
        ({"optimizer": "muon"}, "lightning", "LightningCLI makes one"),
        ({"lr_schedule": LRSchedule(name="wsd")}, "hf", "num_decay_steps"),
    ],
)
def test_what_they_do_not_have_is_refused_in_a_line(
    changes: dict[str, Any], form: str, words: str
) -> None:
    train = TrainConfig(learning_rate=1e-3, **changes)
    with pytest.raises(SweepError, match=words) as refused:
        FORMATS[form][2](train)
    assert "\n" not in str(refused.value)


def test_lightning_is_given_sgd_or_ones_own_class() -> None:
    sgd = TrainConfig(learning_rate=1e-3, optimizer="sgd", optimizer_options={"nesterov": True})
    assert lightning_arguments(sgd)["optimizer"] == {
        "class_path": "torch.optim.SGD",
        "init_args": {"lr": 1e-3, "momentum": 0.9, "nesterov": True},
    }
    own = TrainConfig(learning_rate=1e-3, optimizer="mine.lion:Lion", weight_decay=0.2)
    assert lightning_arguments(own)["optimizer"] == {
        "class_path": "mine.lion.Lion",
        "init_args": {"lr": 1e-3, "weight_decay": 0.2},
    }


@pytest.mark.parametrize(
    ("decayed", "form", "words"),
    [
        ("matrices", "hf", ""),
        ("all", "hf", "biases and norms decay too"),
        ("matrices", "lightning", "biases and norms do not decay"),
        ("all", "lightning", ""),
    ],
)
def test_which_parameters_decay_is_said_where_it_differs(
    decayed: Any, form: str, words: str
) -> None:
    train = TrainConfig(learning_rate=1e-3, optimizer="adamw", weight_decay=0.1, decayed=decayed)
    said = " ".join(not_expressible(train, form))
    assert (words in said) if words else ("biases" not in said)
