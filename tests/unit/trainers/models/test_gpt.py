"""gpt's activation checkpointing: less is kept, and the same is computed."""

import pytest
import torch

from trainers.batches import Batches
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.data import Sequences
from trainers.length import length_of
from trainers.member import Member
from trainers.steps.cohort import step_together
from trainers.steps.memory import bytes_of_a_row

CPU, VOCABULARY, WINDOW = torch.device("cpu"), 50, 32
OPTIONS = {"width": 32, "layers": 6, "heads": 2, "dropout": 0.2, "context": WINDOW}


def members(count, precision="fp32", **options):
    model = ModelConfig(name="gpt", options={**OPTIONS, **options})
    made = []
    for seed in range(count):
        config = TrainConfig(
            learning_rate=1e-2,
            batch_size=8,
            precision=precision,
            seed=seed,
            model=model,
            data=DataConfig(window=WINDOW, stride=16),
        )
        made.append(Member(config, VOCABULARY, length_of(config, 4), CPU))
    return made


def batches():
    chance = torch.Generator().manual_seed(5)
    tokens = torch.randint(1, VOCABULARY, (32, WINDOW), generator=chance)
    lengths = torch.randint(2, WINDOW + 1, (32,), generator=chance)
    tokens = tokens.where(torch.arange(WINDOW) < lengths[:, None], 0)
    return list(
        Batches(Sequences(tokens, lengths, torch.ones_like(lengths)), CPU).shuffled(8, 0, 1)
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("count", [1, 2])
def test_activation_checkpointing_computes_the_same(count, precision, monkeypatch):
    monkeypatch.setattr("trainers.precision.INITIAL_SCALE", 2.0**8)
    found = []
    for asked in (False, True):
        trained = members(count, precision, activation_checkpointing=asked)
        losses = [step_together(trained, [batch] * count) for batch in batches()[:3]]
        assert all(stepped for step in losses for _, stepped in step)
        found.append(
            [float(nats) for step in losses for nats, _ in step]
            + [p.detach().clone() for each in trained for p in each.model.parameters()]
        )
    plain, checkpointed = found
    assert plain[: 3 * count] == checkpointed[: 3 * count]
    assert all(map(torch.equal, plain[3 * count :], checkpointed[3 * count :]))


def test_it_keeps_a_fraction():
    plain, checkpointed = (
        bytes_of_a_row(members(1, activation_checkpointing=asked)[0].model, WINDOW, CPU)
        for asked in (False, True)
    )
    assert checkpointed < 0.3 * plain


@pytest.mark.more
@pytest.mark.filterwarnings("ignore")  # torch's own, of its compiler
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_blocks_compute_the_same(checkpointing):
    options = {"activation_checkpointing": checkpointing, "dropout": 0.2, "layers": 2}
    losses = []
    for compiled in (False, True):
        (one,) = members(1, **options, compile_blocks=compiled)
        losses.append([float(step_together([one], [batch])[0][0]) for batch in batches()])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
