import pytest
import torch
from support import waiting_is_an_error
from torch import nn
from torch.nn import functional as F

import trainers.kernels.cross_entropy
import trainers.steps.loss
from trainers.kernels.cross_entropy import linear_cross_entropy
from trainers.steps.loss import sequence_loss

VOCABULARY, HIDDEN = 11, 6


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, HIDDEN)
        self.out = nn.Linear(HIDDEN, VOCABULARY)

    def forward(self, tokens_BT):
        return self.out(self.embedding(tokens_BT).cumsum(1).tanh())


class Fast(Plain):
    @property
    def head(self):
        return self.out

    def features(self, tokens_BT, lengths_B):
        assert lengths_B.device.type == "cpu"
        hidden = self.embedding(tokens_BT).cumsum(1).tanh()
        return nn.utils.rnn.pack_padded_sequence(hidden, lengths_B, batch_first=True).data


@pytest.fixture(params=[Plain, Fast])
def model(request):
    torch.manual_seed(0)
    return request.param().double()


@pytest.fixture
def batch():
    lengths_B = torch.tensor([7, 5, 5, 2])
    tokens_BT = torch.randint(1, VOCABULARY, (4, 9), generator=torch.Generator().manual_seed(1))
    return tokens_BT.where(torch.arange(9) < lengths_B[:, None], 0), lengths_B


def by_hand(model, tokens_BT, lengths_B, score_from_B):
    """Row by row, target by target."""
    nats, correct = torch.zeros((), dtype=torch.float64), 0
    for tokens_T, length, start in zip(tokens_BT, lengths_B, score_from_B, strict=True):
        logits_TV = model(tokens_T[None, : length - 1])[0]
        for i in range(start, length - 1):
            nats = nats + F.cross_entropy(logits_TV[i], tokens_T[i + 1])
            correct += int(logits_TV[i].argmax() == tokens_T[i + 1])
    return nats, correct


def gradients(model, nats):
    model.zero_grad()
    nats.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("chunk", [1, 4, 5, 15, 1024])
@pytest.mark.parametrize("score_from", [None, [3, 0, 2, 0], [0, 0, 0, 0], [6, 4, 4, 0]])
def test_equals_cross_entropy_by_hand(model, batch, chunk, score_from, monkeypatch):
    monkeypatch.setitem(trainers.kernels.cross_entropy.CHUNK, "cpu", chunk)
    starts = None if score_from is None else torch.tensor(score_from)
    loss = sequence_loss(model, *batch, score_from_B=starts)
    nats, correct = by_hand(model, *batch, score_from or [0] * 4)
    torch.testing.assert_close(loss.nats, nats)
    torch.testing.assert_close(gradients(model, loss.nats / 3), gradients(model, nats / 3))
    assert loss.targets == 15 - sum(score_from or [])
    assert loss.correct is None
    with torch.inference_mode():
        scored = sequence_loss(model, *batch, score_from_B=starts)
    assert int(scored.correct) == correct
    torch.testing.assert_close(scored.nats, nats.detach())


def test_padding_is_never_read(model, batch):
    tokens_BT, lengths_B = batch
    padded = sequence_loss(model, tokens_BT, lengths_B).nats
    noise = torch.where(torch.arange(9) < lengths_B[:, None], tokens_BT, 10)
    assert torch.equal(padded, sequence_loss(model, noise, lengths_B).nats)


def test_head_is_seen_by_the_chunks_only_when_scored(batch, monkeypatch):
    seen = []
    monkeypatch.setattr(
        trainers.steps.loss,
        "linear_cross_entropy",
        lambda hidden, *_: seen.append(len(hidden)) or (hidden.sum(), None),
    )
    sequence_loss(Fast(), *batch, score_from_B=torch.tensor([4, 4, 4, 1]))
    assert seen == [2]


@pytest.mark.parametrize("with_bias", [True, False])
def test_gradcheck(with_bias, monkeypatch):
    monkeypatch.setitem(trainers.kernels.cross_entropy.CHUNK, "cpu", 3)
    torch.manual_seed(0)
    hidden, weight, bias = (
        torch.randn(size, dtype=torch.float64, requires_grad=True)
        for size in [(7, 4), (5, 4), (5,)]
    )
    targets = torch.randint(0, 5, (7,))
    arguments = (hidden, weight, bias) if with_bias else (hidden, weight)
    assert torch.autograd.gradcheck(
        lambda *a: linear_cross_entropy(*a[:2], a[2] if with_bias else None, targets)[0], arguments
    )


def test_fp32_gradients_are_exact_through_the_scale():
    torch.manual_seed(0)
    hidden = torch.randn(50, 16, requires_grad=True)
    weight = torch.randn(40, 16, requires_grad=True)
    targets = torch.randint(0, 40, (50,))
    ours = torch.autograd.grad(
        linear_cross_entropy(hidden, weight, None, targets)[0], [hidden, weight]
    )
    plain = torch.autograd.grad(
        F.cross_entropy(hidden @ weight.t(), targets, reduction="sum"), [hidden, weight]
    )
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("type_", [torch.float16, torch.bfloat16])
def test_autocast_multiplies_low_and_sums_high(type_):
    torch.manual_seed(0)
    hidden = torch.randn(300, 16, requires_grad=True)
    weight = (0.1 * torch.randn(40, 16)).requires_grad_()
    bias = torch.zeros(40, requires_grad=True)
    targets = torch.randint(0, 40, (300,))
    exact, _ = linear_cross_entropy(hidden, weight, bias, targets)
    expected = torch.autograd.grad(exact, [hidden, weight, bias])
    with torch.autocast("cpu", type_):
        nats, _ = linear_cross_entropy(hidden, weight, bias, targets)
    found = torch.autograd.grad(nats, [hidden, weight, bias])
    assert nats.dtype == torch.float32
    assert [gradient.dtype for gradient in found] == [torch.float32] * 3
    for left, right in zip((nats, *found), (exact, *expected), strict=True):
        assert (left - right).norm() < 0.01 * right.norm()


def test_small_probabilities_survive_fp16():
    # 60,000 tokens of equal probability: 1.7e-5 is among FP16's subnormals.
    hidden = torch.zeros(1, 4).half().requires_grad_()
    weight = torch.ones(60_000, 4).half()
    with torch.autocast("cpu", torch.float16):
        nats, _ = linear_cross_entropy(hidden, weight, torch.zeros(60_000), torch.tensor([0]))
    # The gradient of equal weights is zero: what is left is the probabilities' rounding.
    (gradient,) = torch.autograd.grad(nats, hidden)
    assert gradient.abs().max() < 5e-4


def test_gradients_overflow_as_native_ones_do():
    hidden = torch.zeros(1, 4).half().requires_grad_()
    weight = torch.eye(4).half().requires_grad_()
    with torch.autocast("cpu", torch.float16):
        nats, _ = linear_cross_entropy(hidden, weight, None, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(nats * 2.0**18, hidden)
    assert gradient.isinf().any()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("type_", [torch.float16, torch.bfloat16, torch.float32])
def test_cuda_equals_the_cpu_without_synchronising(type_, batch):
    torch.manual_seed(0)
    model = Fast()
    expected = gradients(model, sequence_loss(model, *batch).nats)
    model.cuda()
    tokens_BT = batch[0].cuda()
    autocast = torch.autocast("cuda", type_, enabled=type_ is not torch.float32)
    with waiting_is_an_error(), autocast:
        loss = sequence_loss(model, tokens_BT, batch[1])
    for left, right in zip(gradients(model, loss.nats), expected, strict=True):
        torch.testing.assert_close(left.cpu(), right, rtol=0.02, atol=0.02)
