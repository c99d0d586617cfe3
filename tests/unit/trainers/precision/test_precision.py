import pytest
import torch
from torch import nn

from trainers.precision import INITIAL_SCALE, MINIMUM_SCALE, Precision, settle
from trainers.precision.half import HalfProducts

CPU = torch.device("cpu")


@pytest.fixture
def setup():
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    return model, torch.optim.Adam(model.parameters(), 1e-2)


def step(precision, model, optimizer, factor=1.0):
    optimizer.zero_grad()
    with precision.forward():
        loss = (model(torch.ones(2, 4)).float() ** 2).mean() * factor
    with precision.products():
        precision.scaled(loss).backward()
    precision.unscale(optimizer)
    return precision.step(optimizer)


def values(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_infinite_gradient_skips_the_step_and_halves_the_scale(setup):
    model, optimizer = setup
    precision = Precision("fp16", CPU)
    before = values(model)
    assert step(precision, model, optimizer, factor=float("inf")) is False
    assert all(map(torch.equal, values(model), before))
    assert precision.scale == INITIAL_SCALE / 2
    assert not optimizer.state
    assert not precision.overflowed
    assert step(precision, model, optimizer) is True
    assert not any(map(torch.equal, values(model), before))


def test_overflow_is_the_scale_at_its_floor(setup):
    precision = Precision("fp16", CPU)
    skips = 0
    while not precision.overflowed:
        assert not step(precision, *setup, factor=float("nan"))
        skips += 1
    assert precision.scale == MINIMUM_SCALE
    assert skips == 16
    assert step(precision, *setup)
    assert not precision.overflowed


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16"])
def test_without_a_scaler_every_step_is_taken(setup, name):
    precision = Precision(name, CPU)
    assert precision.scale == 1
    assert precision.state_dict() == {}
    assert step(precision, *setup, factor=float("inf")) is True
    assert not precision.overflowed


def test_unscaled_gradients_are_the_true_ones(setup):
    model, optimizer = setup
    model.double()  # no FP16 product: the gradients are FP32's but for the scale, a power of two
    clipped = []
    for name in ("fp32", "fp16"):
        precision = Precision(name, CPU)
        optimizer.zero_grad()
        with precision.products():
            precision.scaled((model(torch.ones(2, 4).double()) ** 2).mean()).backward()
        precision.unscale(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        clipped.append([norm, *(parameter.grad.clone() for parameter in model.parameters())])
    assert all(map(torch.equal, *clipped))


def test_state_round_trip(setup):
    precision = Precision("fp16", CPU)
    step(precision, *setup, factor=float("inf"))
    step(precision, *setup)
    other = Precision("fp16", CPU)
    other.load_state_dict(precision.state_dict())
    assert other.scale == precision.scale
    assert other.state_dict() == precision.state_dict()
    Precision("fp32", CPU).load_state_dict(Precision("fp32", CPU).state_dict())


def test_the_scale_grows(setup, monkeypatch):
    monkeypatch.setattr("trainers.precision.GROWTH_INTERVAL", 3)
    precision = Precision("fp16", CPU)
    assert all(step(precision, *setup) for _ in range(3))
    assert precision.scale == 2 * INITIAL_SCALE


@pytest.mark.parametrize("fused", [True, False])
def test_a_skipped_step_is_told_whoever_skips_it(setup, fused):
    model, _ = setup
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)
    precision = Precision("fp16", CPU)
    before = [parameter.clone() for parameter in model.parameters()]
    assert step(precision, model, optimizer, factor=float("inf")) is False
    assert all(map(torch.equal, before, model.parameters()))
    assert step(precision, model, optimizer) is True
    assert not any(map(torch.equal, before, model.parameters()))


@pytest.mark.parametrize(("name", "count"), [("fp32", 0), ("bf16", 0), ("fp16", 2)])
def test_only_fp16_on_the_cpu_replaces_products(setup, name, count, monkeypatch):
    entered = []
    monkeypatch.setattr(HalfProducts, "__enter__", lambda self: entered.append(self))
    monkeypatch.setattr(HalfProducts, "__exit__", lambda *_: None)
    step(Precision(name, CPU), *setup)
    assert len(entered) == count


def test_an_error_in_forward_leaves_nothing_on():
    with pytest.raises(ZeroDivisionError), Precision("fp16", CPU).forward():
        _ = 1 / 0
    assert not torch.is_autocast_enabled("cpu")
    assert HalfProducts._entered == 0


def test_of_several_each_is_told_of_its_own_step():
    precisions = [Precision("fp16", CPU) for _ in range(3)]
    for precision, factor in zip(precisions, (1.0, float("inf"), 1.0), strict=True):
        model = nn.Linear(4, 3)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        with precision.forward():
            loss = model(torch.ones(2, 4)).float().mean() * factor
        with precision.products():
            precision.scaled(loss).backward()
        precision.unscale(optimizer)
        precision.try_step(optimizer)
    assert settle(precisions) == [True, False, True]
    assert [each.scale / INITIAL_SCALE for each in precisions] == [1.0, 0.5, 1.0]


def test_tf32_is_a_step_s_own_and_leaves_the_process_as_it_was(setup):
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before, seen = [switch.allow_tf32 for switch in switches], []
    for switch in switches:
        switch.allow_tf32 = False
    try:
        for name in ("fp32", "tf32"):
            precision = Precision(name, CPU)
            with precision.products(), precision.forward():
                seen.append([switch.allow_tf32 for switch in switches])
            assert not any(switch.allow_tf32 for switch in switches), "as an evaluation finds it"
        assert seen == [[False, False], [True, True]]
    finally:
        for switch, was in zip(switches, before, strict=True):
            switch.allow_tf32 = was
