import pytest
import torch
from torch.nn import functional as F

from trainers.config import ModelConfig
from trainers.errors import TrainerError
from trainers.kernels.recurrence_state import CONTEXT_LIMIT
from trainers.models import build_model, count_parameters, parameter_count
from trainers.models.context_vector import advanced, build
from trainers.precision.half import HalfProducts
from trainers.steps.loss import sequence_loss


def by_the_formula(model, tokens_T):
    """One row, one position after another, as the design states it: no packing, no hoisting."""
    context_C = torch.zeros(model.context)
    first_weight = torch.cat([model.from_token.weight, model.from_context.weight], dim=1)
    forget, gate_in, delta = model.gates.weight.chunk(3)
    biases = model.gates.bias.chunk(3)
    logits = []
    for token in tokens_T:
        joined = torch.cat([model.embedding.weight[token], context_C])
        hidden = F.relu(F.linear(joined, first_weight, model.from_token.bias))
        for linear in model.mlp:
            hidden = F.relu(linear(hidden))
        logits.append(model.head(hidden))
        mixed = torch.sigmoid(forget @ hidden + biases[0]) * context_C
        mixed += torch.sigmoid(gate_in @ hidden + biases[1]) * (delta @ hidden + biases[2])
        context_C = F.layer_norm(mixed, (model.context,), model.norm.weight, model.norm.bias)
        context_C = context_C.clamp(-CONTEXT_LIMIT, CONTEXT_LIMIT)
    return torch.stack(logits)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = build(20, embed=5, hidden=7, layers=3, context=4).eval()
    for parameter in model.parameters():  # larger than at the start: the clamp is reached
        torch.nn.init.normal_(parameter, std=0.7)
    torch.nn.init.constant_(model.norm.weight, 9.0)
    return model


def test_has_the_known_number_of_parameters():
    assert count_parameters(ModelConfig(), 1000) == 2_739_432
    assert parameter_count(build(1000)) == 2_739_432


def test_advanced_is_larger():
    config = ModelConfig(name="trainers.models.context_vector:advanced", options={"hidden": 64})
    model = build_model(config, 50)
    assert model.context == 512
    assert len(model.mlp) == 11
    assert parameter_count(advanced(1000)) == 4_840_936


def test_weights_start_as_stated():
    torch.manual_seed(0)
    for name, parameter in build(1000).named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all()
        elif "norm" not in name:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.02)


def test_equals_the_formula(model):
    tokens_BT = torch.randint(0, 20, (3, 9))
    expected = torch.stack([by_the_formula(model, tokens_T) for tokens_T in tokens_BT])
    torch.testing.assert_close(model(tokens_BT), expected, rtol=1e-4, atol=1e-4)


def test_gradients_equal_the_formulas(model):
    tokens_BT = torch.randint(0, 20, (3, 9))
    results = []
    for logits_BTV in (
        model(tokens_BT),
        torch.stack([by_the_formula(model, tokens_T) for tokens_T in tokens_BT]),
    ):
        model.zero_grad()
        logits_BTV.tanh().mean().backward()
        results.append([parameter.grad.clone() for parameter in model.parameters()])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_no_work_on_padding(model, monkeypatch):
    rows = []

    def noted(product):
        return lambda b, x, *a: rows.append(x.shape[1]) or product(b, x, *a)

    monkeypatch.setattr(torch, "baddbmm", noted(torch.baddbmm))
    monkeypatch.setattr(torch.Tensor, "baddbmm_", noted(torch.Tensor.baddbmm_))
    lengths_B = torch.tensor([4, 2, 1])
    assert model.features(torch.ones(3, 4, dtype=torch.int64), lengths_B).shape == (7, 7)
    assert rows[0] == 7  # the token's part of the first Linear, in one product
    # The context's part (the first one is zero) and the rest of the MLP; gates only for rows that
    # go on.
    assert rows[1:] == [*(3, 3, 2), *(2, 2, 2, 1), *(1, 1, 1, 1), *(1, 1, 1)]


def test_dropout_only_in_training(model):
    tokens_BT = torch.randint(0, 20, (3, 9))
    assert torch.equal(model(tokens_BT), model(tokens_BT))
    model.train()
    assert not torch.equal(model(tokens_BT), model(tokens_BT))


@pytest.mark.parametrize("autocast", [torch.float16, torch.bfloat16])
def test_context_is_an_fp32_island(model, autocast, monkeypatch):
    types = []
    clamp = torch.clamp
    monkeypatch.setattr(
        torch, "clamp", lambda x, *a, **k: types.append(x.dtype) or clamp(x, *a, **k)
    )
    with torch.autocast("cpu", autocast):
        hidden = model.features(torch.ones(2, 5, dtype=torch.int64), torch.tensor([5, 5]))
    assert types == [torch.float32] * 4
    assert hidden.dtype == autocast


def test_half_values_kept_in_fp32_are_those_of_half_products(model, monkeypatch):
    """Bit for bit what the same loop computes with FP16 tensors and `HalfProducts`."""
    tokens_BT, lengths_B = torch.randint(0, 20, (3, 9)), torch.tensor([9, 6, 2])
    model.train()
    results = []
    for _ in range(2):
        model.zero_grad()
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.float16), HalfProducts():
            loss = sequence_loss(model, tokens_BT, lengths_B)
        with HalfProducts():
            loss.nats.backward()
        results.append([loss.nats.detach(), *(p.grad.clone() for p in model.parameters())])
        assert all(bool(found.isfinite().all()) for found in results[-1])
        monkeypatch.setattr("trainers.precision.products.stored_type", lambda type_, device: type_)
        monkeypatch.setattr(  # HalfProducts has no kernel for the product in place
            torch.Tensor, "baddbmm_", lambda b, *a, **k: b.copy_(torch.baddbmm(b, *a, **k))
        )
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"hiden": 3},
            'has no option "hiden" \\(did you mean "hidden"\\?\\); it has embed, hidden,',
        ),
        ({"hidden": "x"}, "hidden must be a whole number, got 'x'"),
        ({"hidden": "64"}, "hidden must be a whole number, got '64'"),
        ({"hidden": True}, "hidden must be a whole number, got True"),
        ({"layers": 0}, "layers must be greater than 0, got 0"),
        ({"dropout": 1.0}, "dropout must be below 1, got 1.0"),
        ({"vocabulary_size": 3}, 'has no option "vocabulary_size"'),
    ],
)
@pytest.mark.parametrize("name", ["context_vector", "trainers.models.context_vector:advanced"])
def test_bad_options_are_named(name, options, message):
    with pytest.raises(TrainerError, match=message) as caught:
        build_model(ModelConfig(name=name, options=options), 50)
    assert name in str(caught.value)
