"""What is stepped: which parameters decay, which are Muon's, and that runs go on bit for bit."""

import dataclasses
import sys

import pytest
import torch
from torch import nn

from trainers import checkpoint
from trainers.batches import Batches
from trainers.config import DataConfig, LRSchedule, ModelConfig, TrainConfig
from trainers.data import Sequences
from trainers.errors import TrainerError
from trainers.length import length_of
from trainers.lockstep import Lockstep
from trainers.member import Member
from trainers.models import build_model
from trainers.optimizers import OPTIMIZERS, hidden_matrices, make_optimizer
from trainers.report import Report, Verdict
from trainers.steps.cohort import step_alone
from trainers.train import train, train_stepwise

CPU, VOCABULARY, RATE = torch.device("cpu"), 30, 1e-2
MODELS = {
    "context_vector": ModelConfig(
        options={"embed": 8, "hidden": 12, "layers": 3, "context": 6, "dropout": 0.2}
    ),
    "gpt": ModelConfig(
        name="gpt", options={"width": 8, "layers": 1, "heads": 2, "context": 16, "dropout": 0.2}
    ),
}
HIDDEN = {
    "context_vector": {
        "from_token.weight",
        "from_context.weight",
        "mlp.0.weight",
        "mlp.1.weight",
        "gates.weight",
    },
    "gpt": {
        "blocks.0.query_key_value.weight",
        "blocks.0.attention_out.weight",
        "blocks.0.mlp_in.weight",
        "blocks.0.mlp_out.weight",
    },
}
VECTORS = {
    "context_vector": {
        "from_token.bias",
        "mlp.0.bias",
        "mlp.1.bias",
        "gates.bias",
        "norm.weight",
        "norm.bias",
        "head.bias",
    },
    "gpt": {
        "blocks.0.attention_norm.weight",
        "blocks.0.attention_norm.bias",
        "blocks.0.query_key_value.bias",
        "blocks.0.attention_out.bias",
        "blocks.0.mlp_norm.weight",
        "blocks.0.mlp_norm.bias",
        "blocks.0.mlp_in.bias",
        "blocks.0.mlp_out.bias",
        "norm.weight",
        "norm.bias",
    },
}


class Signed(torch.optim.SGD):
    """An optimizer of the user's own."""

    def __init__(self, params, lr, momentum=0.5):
        super().__init__(params, lr=lr, momentum=momentum)


class Undecayed(torch.optim.Rprop):
    """One that knows no weight decay."""


OWN = f"{__name__}:Signed"
EVERY = ("adam", "adamw", "muon", "sgd", OWN)


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Signed.__module__])


def configured(optimizer="adam", model="context_vector", **changes):
    """As sweep.toml has it, where the decay is left to the optimizer."""
    auto = {"weight_decay": "auto", "decayed": "auto", "batch_size": 10, "epochs": 6}
    return TrainConfig(
        learning_rate=RATE, optimizer=optimizer, model=MODELS[model], **{**auto, **changes}
    )


def made(config):
    """The optimizer's groups, each with its parameters' names in their place."""
    model = build_model(config.model, VOCABULARY)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizer = make_optimizer(config, model, VOCABULARY)
    groups = [
        {**group, "params": {names[id(p)] for p in group["params"]}}
        for group in optimizer.param_groups
    ]
    return groups, set(names.values())


# --- which parameters


@pytest.mark.parametrize("model", MODELS)
def test_adamw_decays_matrices_by_a_tenth_and_nothing_else(model):
    (matrices, others), names = made(configured("adamw", model))
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert others["params"] == VECTORS[model]
    assert matrices["params"] == names - VECTORS[model]
    assert matrices["lr"] == others["lr"] == RATE


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_others_have_one_group_that_does_not_decay(optimizer):
    (group,), names = made(configured(optimizer))
    assert (group["params"], group["weight_decay"], group["lr"]) == (names, 0.0, RATE)
    assert bool(group["fused"]) == (optimizer == "adam")
    assert group.get("momentum", 0.9) == 0.9


@pytest.mark.parametrize("model", MODELS)
def test_muon_has_the_hidden_matrices_and_adamw_the_rest(model):
    config = configured("muon", model, muon_ratio=0.25)
    (muon, matrices, others), names = made(config)
    assert muon["params"] == HIDDEN[model]
    assert others["params"] == VECTORS[model]
    assert matrices["params"] == names - HIDDEN[model] - VECTORS[model]
    assert [group["lr"] for group in (muon, matrices, others)] == [RATE, RATE / 4, RATE / 4]
    decays = [group["weight_decay"] for group in (muon, matrices, others)]
    assert decays == [0.1, 0.1, 0.0]
    assert (muon["momentum"], muon["adjust_lr_fn"]) == (0.95, "match_rms_adamw")


class Tied(nn.Module):
    """A head whose weight is the embedding's, and one more matrix that is not a layer's."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 4)
        self.inner = nn.Linear(4, 4)
        self.out = nn.Linear(4, VOCABULARY, bias=False)
        self.out.weight = self.words.weight
        self.mix = nn.Parameter(torch.eye(4))


def test_a_tied_head_is_no_hidden_matrix_nor_is_one_of_another_name():
    tied = Tied()
    assert set(hidden_matrices(tied, VOCABULARY)) == {"inner.weight", "mix"}
    tied.out = nn.Linear(4, VOCABULARY)
    assert set(hidden_matrices(tied, VOCABULARY)) == {"inner.weight", "mix"}


def test_a_hidden_layer_as_wide_as_the_vocabulary_is_told_from_a_head_of_that_name():
    model = nn.Module()
    model.inner, model.head = nn.Linear(4, VOCABULARY), nn.Linear(VOCABULARY, VOCABULARY)
    assert set(hidden_matrices(model, VOCABULARY)) == {"inner.weight"}


def test_without_hidden_matrices_muon_is_refused():
    model = nn.Sequential(nn.Embedding(VOCABULARY, 4), nn.Linear(4, VOCABULARY))
    with pytest.raises(TrainerError, match="no hidden matrix, only embeddings and heads"):
        make_optimizer(configured("muon"), model, VOCABULARY)


# --- what "auto" is


@pytest.mark.parametrize(
    ("optimizer", "given", "decay", "decayed"),
    [
        ("adam", "auto", 0.0, "all"),
        ("adam", 0.3, 0.3, "all"),
        ("sgd", "auto", 0.0, "all"),
        ("adamw", "auto", 0.1, "matrices"),
        ("adamw", 0.02, 0.02, "matrices"),
        ("adamw", 0.0, 0.0, "all"),  # the study that it was before matrices were told apart
        ("muon", "auto", 0.1, "matrices"),
    ],
)
def test_what_is_left_open_is_a_number_in_the_config(optimizer, given, decay, decayed):
    config = configured(optimizer, weight_decay=given)
    assert (config.weight_decay, config.decayed) == (decay, decayed)
    assert TrainConfig(**dataclasses.asdict(config)) == config


def test_what_an_earlier_version_stored_decays_as_it_did():
    stored = TrainConfig(learning_rate=RATE, optimizer="adamw", weight_decay=0.05)
    assert stored.decayed == "all"
    assert TrainConfig(learning_rate=RATE, optimizer="adamw").weight_decay == 0.0


# --- a step


def test_muon_s_first_step_is_the_gradient_s_nearest_orthogonal_matrix():
    """Liu et al. 2025: by 0.2 sqrt(larger side); five iterations leave singular values near 1."""
    model = nn.Sequential(nn.Linear(12, 6, bias=False))
    before = model[0].weight.detach().clone()
    config = configured("muon", weight_decay=0.0)
    gradient = torch.randn(6, 12, generator=torch.Generator().manual_seed(1))
    model[0].weight.grad = gradient.clone()
    make_optimizer(config, model, VOCABULARY).step()
    update = (before - model[0].weight.detach()) / (RATE * 0.2 * 12**0.5)
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    alike = torch.nn.functional.cosine_similarity(update.flatten(), (left @ right).flatten(), 0)
    assert alike > 0.97
    assert torch.linalg.svdvals(update).sub(1).abs().max() < 0.5


def test_sgd_s_steps_are_the_gradients_with_momentum():
    model = nn.Linear(1, 1, bias=False)
    optimizer, start = make_optimizer(configured("sgd"), model, VOCABULARY), model.weight.item()
    for _ in range(3):
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
    # 1, 1.9, 2.71: each the last times 0.9, and the gradient.
    assert model.weight.item() == pytest.approx(start - RATE * 5.61, rel=1e-6)


def test_the_options_are_the_class_s_own():
    (group, *_), _ = made(configured("muon", optimizer_options={"momentum": 0.8, "ns_steps": 3}))
    assert (group["momentum"], group["ns_steps"]) == (0.8, 3)
    (group,), _ = made(configured(OWN, optimizer_options={"momentum": 0.7}))
    assert (group["momentum"], group["weight_decay"]) == (0.7, 0)


def batches():
    chance = torch.Generator().manual_seed(5)
    tokens = torch.randint(1, VOCABULARY, (40, 8), generator=chance)
    lengths = torch.full((40,), 8)
    return list(
        Batches(Sequences(tokens, lengths, torch.ones_like(lengths)), CPU).shuffled(10, 0, 1)
    )


@pytest.mark.parametrize("optimizer", EVERY)
def test_an_overflow_skips_the_whole_step_and_the_rate_waits(optimizer, monkeypatch):
    """FP16's scaler, over one optimizer and over two."""
    monkeypatch.setattr("trainers.precision.INITIAL_SCALE", 2.0**10)
    schedule = LRSchedule(warmup_steps=4)
    config = configured(optimizer, precision="fp16", lr_schedule=schedule, seed=1)
    one = Member(config, VOCABULARY, length_of(config, 4), CPU)
    first, *_ = batches()
    before = {name: p.detach().clone() for name, p in one.model.named_parameters()}
    hook = one.model.head.weight.register_hook(lambda gradient: gradient * float("inf"))
    assert step_alone(one, first)[1] is False
    hook.remove()
    assert all(torch.equal(before[name], p) for name, p in one.model.named_parameters())
    assert one.learning_rate == pytest.approx(RATE / 4)
    assert step_alone(one, first)[1] is True
    assert one.learning_rate == pytest.approx(RATE / 2)
    rates = [group["lr"] / group["initial_lr"] for group in one.optimizer.param_groups]
    assert rates == [pytest.approx(0.5)] * len(rates)
    moved = {name for name, p in one.model.named_parameters() if not torch.equal(before[name], p)}
    assert moved >= {"head.weight", "head.bias", "gates.weight"}


# --- whole runs


@pytest.fixture(scope="session")
def data(english):
    return DataConfig(name=str(english), window=16, stride=8, vocabulary_size=300)


def driven(config, directory):
    reports, run, verdict = [], train(config, device=CPU, directory=directory), None
    while True:
        try:
            said = run.send(verdict)
        except StopIteration:
            return reports, checkpoint.latest(directory)
        verdict = Verdict.CONTINUE if isinstance(said, Report) else None
        reports += [said] if isinstance(said, Report) else []


def equal(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


WSD = LRSchedule(name="wsd", warmup_share=0.1, horizon_epochs=4)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("optimizer", EVERY)
def test_four_epochs_are_two_and_two_bit_for_bit(data, optimizer, precision, tmp_path):
    changes = {"precision": precision, "batch_size": 64, "data": data, "lr_schedule": WSD}
    config = configured(optimizer, epochs=4, **changes)
    _, whole = driven(config, tmp_path / "whole")
    driven(dataclasses.replace(config, epochs=2), tmp_path / "parts")
    reports, parts = driven(config, tmp_path / "parts")
    assert len(reports) == 4
    for part in ("model", "optimizer", "scheduler", "precision"):
        assert equal(whole[part], parts[part]), part
    losses = [[each["validation_loss"] for each in run["history"]] for run in (whole, parts)]
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_side_by_side_each_is_the_run_that_it_is_alone(data, optimizer, tmp_path):
    rates = (3e-3, 1e-2)
    config = configured(optimizer, epochs=2, batch_size=64, data=data)
    runs = [dataclasses.replace(config, learning_rate=rate) for rate in rates]
    expected = [driven(run, tmp_path / f"alone{n}")[0] for n, run in enumerate(runs)]
    together, found = Lockstep(), {0: [], 1: []}
    for number, run in enumerate(runs):
        directory = tmp_path / f"side{number}"
        together.add(
            number, lambda run=run, to=directory: train_stepwise(run, device=CPU, directory=to)
        )
    while said := together.advance():
        for number, word in said.items():
            if isinstance(word, Report):
                found[number].append(word.validation_loss)
                together.answer(number, Verdict.CONTINUE)
    for number, reports in enumerate(expected):
        losses = [report.validation_loss for report in reports]
        assert found[number] == pytest.approx(losses, abs=1e-4 if optimizer == "muon" else 1e-5)


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "adamx"}, r'there is no optimizer "adamx" \(did you mean "adam"\?\)'),
        ({"optimizer": "nowhere:Lion"}, 'optimizer "nowhere:Lion": there is no module nowhere'),
        ({"optimizer": "builtins:dict"}, "optimizer builtins:dict cannot be made"),
        ({"optimizer": "builtins:print"}, "optimizer builtins:print cannot be made"),
        ({"optimizer": "sgd", "optimizer_options": {"speed": 1}}, "sgd cannot be made: .*speed"),
        (
            {"optimizer": f"{__name__}:Undecayed", "weight_decay": 0.1},
            "has no weight_decay: set trainer.weight_decay to 0",
        ),
        ({"optimizer": "torch.optim:LBFGS"}, "torch.optim:LBFGS steps by a closure"),
    ],
)
def test_what_cannot_be_made_is_one_line(changes, words):
    with pytest.raises(TrainerError, match=words) as refused:
        made(configured(**changes))
    assert "\n" not in str(refused.value)


def test_the_checkpoint_of_another_optimizer_is_refused(data, tmp_path):
    config = configured("muon", batch_size=64, epochs=1, data=data)
    driven(config, tmp_path)
    with pytest.raises(TrainerError, match="with optimizer = muon, not sgd"):
        driven(dataclasses.replace(config, optimizer="sgd"), tmp_path)


def test_every_optimizer_of_the_tool_is_tried_here():
    assert set(EVERY) - {OWN} == set(OPTIMIZERS.built_in)
