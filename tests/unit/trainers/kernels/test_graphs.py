"""Recorded kernels: the same values as launched one by one, and a way on where it cannot be."""

import contextlib
import itertools
import logging

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import trainers.kernels.graphs
from trainers.batches import Batches
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.data import Sequences
from trainers.kernels.graphs import MOST, Recording, Recordings, recordings
from trainers.length import length_of
from trainers.member import Member
from trainers.models import build_model
from trainers.steps.cohort import step_alone, step_together
from trainers.steps.loss import sequence_loss

VOCABULARY, WINDOW, ROWS, BATCH = 30, 8, 24, 8
OPTIONS = {"embed": 8, "hidden": 16, "layers": 3, "context": 8, "dropout": 0.2}
MODEL = ModelConfig(options=OPTIONS)
CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Tape(TorchDispatchMode):
    """What a CUDA graph does, for a machine without one: the same operations on the same memory."""

    def __init__(self):
        super().__init__()
        self.done = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        self.done.append((operation, args, kwargs or {}, out))
        return out

    def replay(self):
        for operation, args, kwargs, out in self.done:
            again = operation(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def pool(self):
        return None


@pytest.fixture(autouse=True)
def fresh():
    recordings.clear()
    yield
    recordings.clear()


@pytest.fixture
def asked_for(monkeypatch):
    """Recordings are asked for on this machine too, which may have no CUDA."""
    monkeypatch.setattr(
        Recordings, "serve", lambda self, device: torch.is_grad_enabled() and not self._off
    )
    monkeypatch.setattr(trainers.kernels.graphs, "free_bytes", lambda device: 2**40)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: None)


@pytest.fixture(params=["tape", pytest.param("cuda", marks=[pytest.mark.cuda, needs_cuda])])
def device(request, monkeypatch):
    """Where recordings work: on CUDA, and on the CPU with a tape for a graph."""
    if request.param == "cuda":
        return torch.device("cuda")
    request.getfixturevalue("asked_for")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", lambda tape, **_: tape)
    return CPU


def batches_on(device, rows=BATCH, longest=WINDOW):
    """Six batches of one shape: each has a row of the longest length, and shorter ones."""
    chance = torch.Generator().manual_seed(5)
    batches = []
    for _ in range(6):
        lengths = torch.randint(2, longest, (rows,), generator=chance)
        lengths[0] = longest
        tokens = torch.randint(1, VOCABULARY, (rows, WINDOW), generator=chance)
        tokens = tokens.where(torch.arange(WINDOW) < lengths[:, None], 0)
        data = Batches(Sequences(tokens, lengths, torch.ones_like(lengths)), device)
        batches += data.by_length(rows)
    return batches


def member_on(device, precision="fp32", options=OPTIONS, rate=1e-2):
    config = TrainConfig(
        learning_rate=rate,
        batch_size=BATCH,
        precision=precision,
        model=ModelConfig(options=options),
        data=DataConfig(window=WINDOW, stride=4),
    )
    return Member(config, VOCABULARY, length_of(config, 4), device)


def weights_after(members, batches):
    """Every member's weights after a step on each of the batches."""
    for batch in batches:
        step_together(members, [batch] * len(members))
    return [p.detach().clone() for member in members for p in member.model.parameters()]


def gradients(model, losses):
    model.zero_grad()
    for loss in losses:
        loss.nats.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


# --- on any machine


def test_computing_padding_as_well_changes_no_gradient(monkeypatch):
    model = build_model(MODEL, VOCABULARY).eval()
    batch = batches_on(CPU)[0]
    assert int(batch.lengths_B[-1]) < WINDOW
    expected = sequence_loss(model, batch.tokens_BT, batch.lengths_B)
    expected_gradients = gradients(model, [expected])
    monkeypatch.setattr(Recordings, "serve", lambda self, device: torch.is_grad_enabled())
    found = sequence_loss(model, batch.tokens_BT, batch.lengths_B)
    assert found.targets == expected.targets
    assert found.nats.item() == pytest.approx(expected.nats.item(), rel=1e-6)
    for left, right in zip(gradients(model, [found]), expected_gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA can record")
def test_where_nothing_can_be_recorded_one_warning_says_so_and_training_goes_on(caplog, asked_for):
    with caplog.at_level(logging.WARNING, "trainers.kernels.graphs"):
        found = weights_after([member_on(CPU)], batches_on(CPU))
    (record,) = caplog.records
    assert record.message.startswith("no CUDA graph: every kernel is launched on its own, slower: ")
    assert all(weight.isfinite().all() for weight in found)
    untrained = member_on(CPU).model.parameters()
    assert any(not torch.equal(*pair) for pair in zip(found, untrained, strict=True))


def test_nothing_is_recorded_on_the_cpu():
    assert not recordings.serve(CPU)


def test_nothing_is_recorded_without_gradients_or_where_it_is_switched_off(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    cuda = torch.device("cuda")
    assert recordings.serve(cuda)
    with torch.no_grad():
        assert not recordings.serve(cuda)
    with recordings.off():
        assert not recordings.serve(cuda)
    assert recordings.serve(cuda)


# --- recorded


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_recorded_steps_are_those_of_kernels_launched_one_by_one(
    precision, members, dropout, device, monkeypatch
):
    options = OPTIONS | {"dropout": dropout}

    def found():
        rates = [1e-2 / (1 + number) for number in range(members)]
        cohort = [member_on(device, precision, options, rate) for rate in rates]
        return weights_after(cohort, batches_on(device))

    recorded = found()
    assert len(recordings) == 1
    monkeypatch.setattr(Recording, "free", False)
    assert all(map(torch.equal, recorded, found()))


def test_a_shape_is_recorded_the_second_time_and_then_replayed(device):
    one, batch = member_on(device), batches_on(device)[0]
    for kept in (0, 1, 1):
        step_alone(one, batch)
        assert len(recordings) == kept


def test_the_last_used_recordings_are_kept(device):
    one = member_on(device)
    for rows in range(2, 4 + MOST):
        for batch in batches_on(device, rows)[:2]:
            step_alone(one, batch)
    assert len(recordings) == MOST


def test_whatever_a_batch_s_longest_row_one_recording_serves(device):
    one, few = member_on(device), range(3, WINDOW + 1)
    for batch in [batches_on(device, longest=longest)[0] for longest in few]:
        step_alone(one, batch)
    assert len(recordings) == 1


def test_shapes_that_take_turns_are_not_recorded_without_end(device, caplog, monkeypatch):
    made = []

    class Counted(Recording):
        def __init__(self, *arguments):
            made.append(1)
            super().__init__(*arguments)

    monkeypatch.setattr(trainers.kernels.graphs, "Recording", Counted)
    one = member_on(device)
    shapes = [batches_on(device, rows)[0] for rows in range(2, 4 + MOST)]
    with caplog.at_level(logging.WARNING, "trainers.kernels.graphs"):
        for _ in range(6):
            for batch in shapes:
                step_alone(one, batch)
    assert len(made) <= 2 * len(shapes) + MOST
    assert len(recordings) == MOST
    assert "more than 4 shapes take turns" in caplog.text


def test_a_second_forward_pass_before_backward_leaves_the_first_one_s_values(device):
    model = build_model(MODEL, VOCABULARY).to(device)
    model.p = 0.0
    first, second, third = batches_on(device)[:3]

    def losses():
        return [sequence_loss(model, b.tokens_BT, b.lengths_B) for b in (first, second, third)]

    with recordings.off():
        expected = gradients(model, losses())
    gradients(model, losses()[:1])
    for _ in range(2):
        for left, right in zip(gradients(model, losses()), expected, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)
    assert len(recordings) == 1


def test_a_recorded_pass_has_one_backward_pass(device):
    model = build_model(MODEL, VOCABULARY).to(device)
    batch = batches_on(device)[0]
    for _ in range(3):
        loss = sequence_loss(model, batch.tokens_BT, batch.lengths_B).nats
        loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="has one backward pass"):
        loss.backward()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_dropout_draws_anew_in_every_replay(precision, device):
    one, batch = member_on(device, precision), batches_on(device)[0]
    dropped = []
    for _ in range(5):
        with one.precision.forward():
            loss = sequence_loss(one.model, batch.tokens_BT, batch.lengths_B)
        gradients(one.model, [loss])
        dropped.append(one.model.mlp[0].weight.grad)
    assert len(recordings) == 1
    assert not any(torch.equal(*pair) for pair in itertools.combinations(dropped, 2))


def test_without_room_for_a_recording_training_goes_on(device, caplog, monkeypatch):
    def no_room(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainers.kernels.graphs, "Recording", no_room)
    with caplog.at_level(logging.WARNING, "trainers.kernels.graphs"):
        weights_after([member_on(device)], batches_on(device))
    assert [record.message for record in caplog.records] == [
        "no CUDA graph: every kernel is launched on its own, slower: CUDA out of memory"
    ]
    assert len(recordings) == 0


def test_what_takes_more_than_is_free_is_not_recorded(device, caplog, monkeypatch):
    monkeypatch.setattr(trainers.kernels.graphs, "free_bytes", lambda device: 1000)
    with caplog.at_level(logging.WARNING, "trainers.kernels.graphs"):
        weights_after([member_on(device)], batches_on(device))
    (record,) = caplog.records
    assert "launched on its own, slower: it takes " in record.message
    assert len(recordings) == 0
