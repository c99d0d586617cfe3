"""muP: sizes of what a model computes do not grow with its width or depth as it trains."""

import math

import pytest
import torch

from trainers.config import ModelConfig, TrainConfig
from trainers.errors import TrainerError
from trainers.models import build_model
from trainers.optimizers import make_optimizer

VOCABULARY, BASE, STEPS = 100, 16, 4
MUP = {"parametrization": "mup", "base_width": BASE, "base_layers": 2}


def config(optimizer="adamw", **options):
    model = {"heads": 4, "layers": 2, "dropout": 0.0, "context": 16, "width": BASE, **options}
    return TrainConfig(
        learning_rate=1e-2,
        optimizer=optimizer,
        weight_decay=0.1,
        model=ModelConfig(name="gpt", options=model),
    )


def built(one):
    torch.manual_seed(0)
    return build_model(one.model, VOCABULARY)


def change_of_logits(**options):
    """Root mean square of what a few steps at one rate change in the logits."""
    one = config(**options)
    model = built(one)
    optimizer = make_optimizer(one, model, VOCABULARY)
    tokens = torch.randint(4, VOCABULARY, (8, 16), generator=torch.Generator().manual_seed(1))
    before = model(tokens).detach()
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits = model(tokens)[:, :-1].flatten(0, 1)
        torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).backward()
        optimizer.step()
    return float((model(tokens).detach() - before).square().mean().sqrt())


def slope(sizes, changes):
    """Of ln change by ln size, least squares."""
    x, y = (torch.tensor([math.log(each) for each in values]) for values in (sizes, changes))
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def test_the_coordinate_check():
    widths = [16, 64, 256]
    standard = slope(widths, [change_of_logits(width=width) for width in widths])
    mup = slope(widths, [change_of_logits(width=width, **MUP) for width in widths])
    assert standard > 0.4
    assert abs(mup) < 0.25


def test_depth_changes_no_more():
    depths = [2, 8, 32]
    standard = slope(depths, [change_of_logits(layers=layers) for layers in depths])
    mup = slope(depths, [change_of_logits(layers=layers, **MUP) for layers in depths])
    assert abs(mup) < 0.25
    assert abs(mup) < 0.5 * abs(standard)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_at_the_base_size_it_is_the_standard_one(optimizer):
    one, other = config(optimizer), config(optimizer, **MUP)
    tokens = torch.randint(4, VOCABULARY, (2, 9))
    logits = []
    for each in (one, other):
        model = built(each)
        stepped = make_optimizer(each, model, VOCABULARY)
        model(tokens).square().sum().backward()
        stepped.step()
        logits.append(model(tokens))
    assert torch.equal(*logits)


def test_the_table_at_four_times_the_width_and_twice_the_depth():
    one = config(width=4 * BASE, layers=4, **MUP)
    model = built(one)
    optimizer = make_optimizer(one, model, VOCABULARY)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: tuple(group[key] for key in ("lr", "weight_decay", "eps"))
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    rate, eps = one.learning_rate, one.eps
    assert found["embedding.weight"] == pytest.approx((rate, 0.1, eps / 4))
    assert found["positions.weight"] == pytest.approx((rate, 0.1, eps / 4))
    assert found["head.weight"] == pytest.approx((rate, 0.1, eps))
    assert found["norm.bias"] == pytest.approx((rate, 0.0 if one.decayed != "all" else 0.1, eps))
    assert found["blocks.3.mlp_in.weight"] == pytest.approx((rate / 4, 0.4, eps / 8))
    assert found["blocks.0.attention_norm.weight"][0::2] == pytest.approx((rate, eps / 8))
    assert optimizer.param_groups[0]["lr"] == rate, "the rate that is reported"
    std = model.blocks[0].mlp_in.weight.std().item()
    assert std == pytest.approx(0.02 / 2, rel=0.05)


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_other_optimizers_are_refused(optimizer):
    one = config(optimizer, width=64, **MUP)
    with pytest.raises(TrainerError, match=r"mup.* is for adam and adamw"):
        make_optimizer(one, built(one), VOCABULARY)
