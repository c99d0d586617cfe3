"""The fast form of `context_vector` is the plain one: outputs and gradients, at its full size."""

import pytest
import torch
from plain_context_vector import PlainContextVector
from torch.nn.utils.rnn import pack_padded_sequence

from trainers.kernels import recurrence_state
from trainers.models import parameter_count
from trainers.models.context_vector import build
from trainers.steps.loss import sequence_loss

VOCABULARY, ROWS, WINDOW = 1000, 5, 40


@pytest.fixture(params=["as it starts", "far from there"])
def models(request):
    torch.manual_seed(0)
    fast = build(VOCABULARY, dropout=0.0)
    if request.param == "far from there":  # the gates are open and the context moves
        with torch.no_grad():
            for parameter in fast.parameters():
                parameter.mul_(2).add_(0.01 * torch.randn_like(parameter))
    plain = PlainContextVector(VOCABULARY, dropout=0.0)
    plain.take(fast)
    return plain, fast


@pytest.fixture
def batch():
    lengths_B = torch.tensor([40, 40, 33, 12, 2])
    tokens_BT = torch.randint(1, VOCABULARY, (ROWS, WINDOW))
    return tokens_BT.where(torch.arange(WINDOW) < lengths_B[:, None], 0), lengths_B


def test_both_have_the_known_number_of_parameters(models):
    assert [parameter_count(model) for model in models] == [2_739_432] * 2


def test_logits_are_equal(models, batch):
    plain, fast = models
    tokens_BT, lengths_B = batch
    expected = pack_padded_sequence(plain(tokens_BT), lengths_B, batch_first=True).data
    found = fast.head(fast.features(tokens_BT, lengths_B))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("positions", [1, 10, 2048])
def test_gradients_are_equal_however_many_wait_for_a_product(models, batch, positions, monkeypatch):
    monkeypatch.setitem(recurrence_state.GRADIENT_POSITIONS, "cpu", positions)
    plain, fast = models
    expected = plain.nats(batch[0])
    loss = sequence_loss(fast, *batch)
    assert loss.nats.item() == pytest.approx(expected.item(), rel=1e-6)
    (expected / loss.targets).backward()
    (loss.nats / loss.targets).backward()
    by_name = [
        {name: parameter.grad for name, parameter in model.named_parameters()} for model in models
    ]
    largest = max(gradient.abs().max() for gradient in by_name[0].values())
    for ours, theirs in plain.pairs(fast, *by_name):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5 * largest.item())
        assert ours.abs().max() > 0


def test_dropout_drops_and_scales_each_layer(batch, monkeypatch):
    """With the same masks in both."""
    torch.manual_seed(0)
    fast = build(VOCABULARY, embed=16, hidden=24, layers=3, context=8, dropout=0.3)
    plain = PlainContextVector(VOCABULARY, 16, 24, 3, 8, dropout=0.0)
    plain.take(fast)
    keep_RTLH = torch.rand(ROWS, WINDOW - 1, 3, 24) >= 0.3
    monkeypatch.setattr("trainers.kernels.dropout.Dropout.keep", lambda *_: keep_RTLH[None])

    calls = []

    def drop(module, _, output_BH):
        position, layer = divmod(len(calls), 3)
        calls.append(module)
        return output_BH * keep_RTLH[:, position, layer] / 0.7

    for module in plain.mlp:
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_hook(drop)
    expected = plain.nats(batch[0])
    loss = sequence_loss(fast, *batch)
    assert loss.nats.item() == pytest.approx(expected.item(), rel=1e-6)
    expected.backward()
    loss.nats.backward()
    by_name = [
        {name: parameter.grad for name, parameter in model.named_parameters()}
        for model in (plain, fast)
    ]
    for ours, theirs in plain.pairs(fast, *by_name):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
