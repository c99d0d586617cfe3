"""Every precision, on every model: where it is switched off it is FP32, and its types are CUDA's.

CUDA autocast's lists: https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior
"""

from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainers.config import ModelConfig, PrecisionName
from trainers.models import build_model, model_names
from trainers.precision import Precision
from trainers.steps.loss import sequence_loss

CPU = torch.device("cpu")
NAMES = get_args(PrecisionName)
TYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
SMALL = {
    "context_vector": {"embed": 16, "hidden": 32, "layers": 2, "context": 16},
    "gpt": {"width": 32, "layers": 2, "heads": 2, "context": 32},
}


@pytest.fixture(params=model_names())
def model_name(request):
    return request.param


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(autouse=True)
def _no_step_is_skipped(monkeypatch):
    """The usual scale of 2**16 first comes down by skipped steps, as it does on CUDA."""
    monkeypatch.setattr("trainers.precision.INITIAL_SCALE", 2.0**10)


def fresh(model_name):
    torch.manual_seed(0)
    return build_model(ModelConfig(name=model_name, options=SMALL.get(model_name, {})), 40)


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 40, (4, 9), generator=generator), torch.tensor([9, 9, 6, 2])


def trained(model_name, precision, steps=4):
    model = fresh(model_name)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        with precision.forward():
            loss = sequence_loss(model, *batch())
        with precision.products():
            precision.scaled(loss.nats / loss.targets).backward()
        precision.unscale(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        assert precision.step(optimizer)
    return [loss.nats.detach(), *(p.detach() for p in model.parameters())]


def plain(model_name, steps=4):
    """The loop without any of `Precision`."""
    model = fresh(model_name)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sequence_loss(model, *batch())
        (loss.nats / loss.targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    return [loss.nats.detach(), *(p.detach() for p in model.parameters())]


def test_disabled_equals_fp32_bit_for_bit(model_name, name):
    expected = plain(model_name)
    assert all(map(torch.equal, trained(model_name, Precision(name, CPU, enabled=False)), expected))
    assert all(map(torch.equal, trained(model_name, Precision("fp32", CPU)), expected))


def test_enabled_stays_near_fp32(model_name, name):
    found, expected = trained(model_name, Precision(name, CPU)), plain(model_name)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=0.02)
    assert all(p.dtype == torch.float32 for p in found)
    if name not in ("fp32", "tf32"):  # the CPU has no TF32
        assert not all(map(torch.equal, found, expected))


def test_the_same_seed_gives_the_same_bits(model_name, name):
    first, second = (trained(model_name, Precision(name, CPU)) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_types_are_those_of_cuda(model_name, name, monkeypatch):
    types = {"linear": set(), "norm": set(), "log_softmax": set(), "attention": set()}
    log_softmax = F.log_softmax

    def note(kind, result):
        types[kind].add(result.dtype)
        return result

    inside = []  # FP16's products on the CPU are made of FP32's: those are not the model's

    def noted(kind, function):
        def call(*a, **k):
            inside.append(function)
            result = function(*a, **k)
            inside.pop()
            if not inside:
                note(kind, result[0] if isinstance(result, tuple) else result)
            return result

        return call

    def watch(module, _, output):
        note("linear" if isinstance(module, nn.Linear) else "norm", output)

    model = fresh(model_name)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            module.register_forward_hook(watch)
    for owner, function, kind in (  # a stacked model calls none of its modules
        (torch, "baddbmm", "linear"),
        (torch, "native_layer_norm", "norm"),
        (F, "layer_norm", "norm"),
        (F, "linear", "linear"),
        (F, "scaled_dot_product_attention", "attention"),
    ):
        monkeypatch.setattr(owner, function, noted(kind, getattr(owner, function)))
    monkeypatch.setattr(F, "log_softmax", lambda *a, **k: note("log_softmax", log_softmax(*a, **k)))
    with Precision(name, CPU).forward():
        loss = sequence_loss(model, *batch())
    assert types["linear"] == {TYPES[name]}
    assert types["norm"] == {torch.float32}
    assert types["log_softmax"] <= {torch.float32}
    # gpt computes BF16's on the CPU in FP32, of operands that are BF16's: that is faster there.
    assert types["attention"] <= {torch.float32 if name == "bf16" else TYPES[name]}
    assert loss.nats.dtype == torch.float32


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_disabled_equals_fp32(name):
    device = torch.device("cuda")
    results = []
    for precision in (Precision(name, device, enabled=False), Precision("fp32", device)):
        torch.manual_seed(0)
        model = build_model(ModelConfig(options=SMALL["context_vector"]), 40).to(device)
        tokens_BT, lengths_B = batch()
        with precision.forward():
            loss = sequence_loss(model, tokens_BT.to(device), lengths_B)
        with precision.products():
            precision.scaled(loss.nats).backward()
        results.append([loss.nats.detach(), *(p.grad for p in model.parameters())])
    assert all(map(torch.equal, *results))
