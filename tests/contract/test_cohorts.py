"""Every stacked model, above one block of masks: cut batches and cohorts give the run alone."""

import dataclasses

import pytest
import torch

from trainers.batches import Batch
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.kernels.dropout import block_rows
from trainers.length import length_of
from trainers.member import Member
from trainers.models import model_names
from trainers.steps.cohort import step_together

CPU = torch.device("cpu")
ROWS, WINDOW, VOCABULARY = 600, 12, 60
SMALL = {
    "context_vector": {"embed": 8, "hidden": 16, "layers": 3, "context": 8},
    "gpt": {"width": 16, "layers": 2, "heads": 2, "context": WINDOW},
}


@pytest.fixture(params=model_names())
def config(request):
    options = {**SMALL.get(request.param, {}), "dropout": 0.3}
    return TrainConfig(
        learning_rate=1e-2,
        batch_size=ROWS,
        model=ModelConfig(name=request.param, options=options),
        data=DataConfig(window=WINDOW, stride=6, vocabulary_size=VOCABULARY),
    )


def batch():
    """More rows than a block of masks has."""
    assert 2 * block_rows(WINDOW) < ROWS
    chance = torch.Generator().manual_seed(5)
    lengths_B = torch.randint(2, WINDOW + 1, (ROWS,), generator=chance).sort(descending=True)[0]
    tokens_BT = torch.randint(4, VOCABULARY, (ROWS, WINDOW), generator=chance)
    tokens_BT = tokens_BT.where(torch.arange(WINDOW) < lengths_B[:, None], 0)
    return Batch(tokens_BT, lengths_B, torch.zeros_like(lengths_B))


def steps(cohort, rows, monkeypatch, count):
    """Each member's losses in nats a token, and the first member's last gradients."""
    monkeypatch.setattr(Member, "rows_that_fit", lambda *_: rows)
    one, found = batch(), []
    for _ in range(count):
        stepped = step_together(cohort, [one] * len(cohort))
        found.append([float(nats) / one.targets for nats, _ in stepped])
    parameters = cohort[0].model.parameters()
    return torch.tensor(found), torch.cat([p.grad.flatten() for p in parameters])


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("rows", [512, 256, 60])
def test_parts_of_a_batch_give_the_whole_ones_gradients(config, members, rows, monkeypatch):
    def cohort():
        return [Member(config, VOCABULARY, length_of(config, 1), CPU) for _ in range(members)]

    _, whole = steps(cohort(), ROWS, monkeypatch, 1)
    _, parts = steps(cohort(), rows, monkeypatch, 1)
    assert (parts - whole).norm() <= 1e-5 * whole.norm()


def test_a_cohort_that_has_room_for_fewer_rows_has_the_losses_of_each_alone(config, monkeypatch):
    def member():
        return Member(config, VOCABULARY, length_of(config, 1), CPU)

    together, _ = steps([member(), member()], 256, monkeypatch, 20)
    alone, _ = steps([member()], ROWS, monkeypatch, 20)
    torch.testing.assert_close(together, alone.expand(-1, 2), rtol=0, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_cuda_deterministic_steps_give_the_same_bits(config, precision):
    def trained():
        device = torch.device("cuda")
        asked = dataclasses.replace(config, precision=precision, deterministic=True)
        member, one = Member(asked, VOCABULARY, length_of(asked, 1), device), batch()
        there = Batch(one.tokens_BT.to(device), one.lengths_B, one.score_from_B)
        for _ in range(5):
            step_together([member], [there])
        return [parameter.detach() for parameter in member.model.parameters()]

    try:
        assert all(map(torch.equal, trained(), trained()))
    finally:
        torch.use_deterministic_algorithms(False)
