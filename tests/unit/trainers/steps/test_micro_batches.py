"""A step and an evaluation that find no room: fewer rows at once, and the same result."""

import dataclasses
import sys
import types

import pytest
import torch

from trainers import evaluate as evaluation
from trainers.batches import Batches
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.data import Sequences, load_corpus
from trainers.evaluate import evaluate
from trainers.length import length_of
from trainers.member import Member
from trainers.models import build_model
from trainers.models.context_vector import ContextVector
from trainers.models.gpt import GPT
from trainers.report import Report
from trainers.steps.cohort import step_alone, step_together
from trainers.steps.memory import bytes_of_a_row, release_memory, total_memory_bytes

CPU = torch.device("cpu")
SMALL = {"embed": 8, "hidden": 16, "layers": 2, "context": 8, "dropout": 0.3}


def plain(vocabulary_size):
    """A user's own model, which keeps only the plain contract."""
    return torch.nn.Sequential(
        torch.nn.Embedding(vocabulary_size, 8), torch.nn.Linear(8, vocabulary_size)
    )


MODELS = {
    "context_vector": ModelConfig(name="context_vector", options=SMALL),
    "plain": ModelConfig(name="tests_own:plain"),
}


@pytest.fixture(params=MODELS)
def config(request, english, monkeypatch):
    module = types.ModuleType("tests_own")
    module.plain = plain
    monkeypatch.setitem(sys.modules, "tests_own", module)
    data = DataConfig(name=str(english), window=16, stride=8, vocabulary_size=100)
    return TrainConfig(learning_rate=1e-2, batch_size=300, data=data, model=MODELS[request.param])


@pytest.fixture
def no_room(monkeypatch):
    """Has the host's allocator really fail for more rows than there is room for."""

    def above(most, *, training=True):
        tried = []

        def check(rows, grad):
            if grad == training:
                tried.append(rows)
                torch.empty(2**50 if rows > most else 1)

        forward, features = torch.nn.Sequential.forward, ContextVector.stacked_features

        def watched_features(self, weights, tokens_KBT, lengths_B, dropout):
            out = features(self, weights, tokens_KBT, lengths_B, dropout)
            check(tokens_KBT.shape[1], torch.is_grad_enabled())
            return out

        def watched_forward(self, tokens_BT):
            check(len(tokens_BT), torch.is_grad_enabled())
            return forward(self, tokens_BT)

        monkeypatch.setattr(ContextVector, "stacked_features", watched_features)
        monkeypatch.setattr(torch.nn.Sequential, "forward", watched_forward)
        return tried

    return above


def members_of(config, tmp_path, count):
    corpus = load_corpus(config.data, tmp_path)
    batches = Batches(corpus.train, CPU)
    cohort = [
        Member(config, len(corpus.vocabulary), length_of(config, 2), CPU) for _ in range(count)
    ]
    return cohort, list(batches.shuffled(config.batch_size, 0, 1)), batches


def steps_of(cohort, batches):
    """Two steps, and everything that came of them."""
    losses = [step_together(cohort, [batch] * len(cohort)) for batch in batches]
    weights = [torch.cat([p.flatten() for p in m.model.parameters()]) for m in cohort]
    return torch.tensor([float(loss) for step in losses for loss, _ in step]), torch.stack(weights)


@pytest.mark.parametrize("members", [1, 2])
def test_fewer_rows_at_once_give_the_same_steps(config, tmp_path, no_room, members):
    expected = steps_of(*members_of(config, tmp_path, members)[:2])
    tried = no_room(40)
    cohort, batches, _ = members_of(config, tmp_path, members)
    found = steps_of(cohort, batches)
    # Not to the bit: sums are taken in another order.
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert [member.rows_that_fit(1) for member in cohort] == [37] * members
    assert max(tried) > 40 >= tried[-1]


def test_where_there_is_no_room_for_one_row_it_is_out_of_memory(config, tmp_path, no_room):
    no_room(0)
    cohort, batches, _ = members_of(config, tmp_path, 1)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        step_together(cohort, batches[:1])


def test_another_error_is_not_tried_again(config, tmp_path, monkeypatch):
    cohort, batches, _ = members_of(config, tmp_path, 1)
    monkeypatch.setattr("trainers.steps.cohort._gradients", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        step_together(cohort, batches[:1])
    assert cohort[0].rows_that_fit(1) == 300


def test_an_evaluation_takes_fewer_rows_too(config, tmp_path, no_room):
    cohort, _, batches = members_of(config, tmp_path, 1)
    expected = evaluate(cohort[0].model, batches)
    tried = no_room(100, training=False)
    found = evaluate(cohort[0].model, batches)
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    assert found.accuracy == pytest.approx(expected.accuracy, rel=1e-6)
    assert tried[-1] <= 100 < max(tried) <= evaluation.EVALUATION_ROWS["cpu"]
    tried.clear()
    evaluate(cohort[0].model, batches)
    assert max(tried) <= 100, "what fitted is remembered"


def test_an_evaluation_of_long_windows_computes_fewer_rows(monkeypatch):
    """Several hundred rows of this model would take gigabytes."""
    window, most = 1024, []
    options = {"width": 64, "layers": 2, "heads": 2, "context": window}
    model = build_model(ModelConfig(name="gpt", options=options), 50)
    features = GPT.stacked_features

    def watched(self, weights, tokens_KBT, lengths_B, dropout):
        if not torch.is_grad_enabled():
            most.append(tokens_KBT.shape[1])
        return features(self, weights, tokens_KBT, lengths_B, dropout)

    monkeypatch.setattr(GPT, "stacked_features", watched)
    monkeypatch.setattr("trainers.steps.memory.total_memory_bytes", lambda _: 2**30)
    tokens = torch.randint(4, 50, (40, window))
    lengths = torch.full((40,), window)
    evaluate(model, Batches(Sequences(tokens, lengths, torch.ones_like(lengths)), CPU))
    kept = bytes_of_a_row(model, window, CPU)
    assert 1 < max(most) == int(0.4 * 2**30 / (2 * kept)) < 40


def test_the_limit_is_the_configs_and_the_checkpoints(config, tmp_path):
    asked = dataclasses.replace(config, micro_batch=50)
    (member, *_), batches, _ = members_of(asked, tmp_path, 1)
    assert member.rows_that_fit(1) == 50
    assert member.rows_that_fit(4) == 50
    member.limit_rows(20)
    step_alone(member, batches[0])
    member.add_report(
        Report(
            epoch=1,
            train_loss=4.0,
            validation_loss=4.0,
            accuracy=0.1,
            learning_rate=1e-2,
            tokens_per_second=1e3,
        ),
        tmp_path,
    )
    (again, *_), _, _ = members_of(config, tmp_path, 1)  # another micro_batch: the same run
    again.restore(tmp_path)
    assert again.rows_that_fit(1) == 20


def test_above_a_block_of_masks_a_limit_is_whole_blocks(config, tmp_path):
    (member, *_), _, _ = members_of(dataclasses.replace(config, micro_batch=299), tmp_path, 1)
    assert member.rows_that_fit(1) == 256


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_device_without_room_computes_fewer_rows_to_the_same_result():
    device = torch.device("cuda")
    options = {"embed": 32, "hidden": 256, "layers": 4, "context": 32}
    config = TrainConfig(
        learning_rate=1e-2,
        batch_size=4096,
        data=DataConfig(window=32, stride=16),
        model=ModelConfig(options=options),
    )
    tokens = torch.randint(4, 100, (config.batch_size, 32))
    lengths = torch.full((config.batch_size,), 32)
    batches = Batches(Sequences(tokens, lengths, torch.ones_like(lengths)), device)
    (batch,) = batches.by_length(config.batch_size)

    def three_steps():
        member = Member(config, 100, length_of(config, 1), device)
        return member, [float(step_alone(member, batch)[0]) for _ in range(3)]

    torch.cuda.reset_peak_memory_stats()
    member, expected = three_steps()
    assert not member.row_limit
    room = 0.5 * torch.cuda.max_memory_allocated() / total_memory_bytes(device)
    del member
    release_memory(device)
    torch.cuda.set_per_process_memory_fraction(room)
    try:
        member, found = three_steps()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 0 < member.row_limit < config.batch_size
    assert found == pytest.approx(expected, rel=1e-3)
