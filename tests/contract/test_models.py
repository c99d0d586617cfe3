"""Every model found, a new file too, keeps the contract of `trainers.models`."""

import collections
import subprocess
import sys

import pytest
import torch
from torch import nn

from trainers.config import ModelConfig
from trainers.errors import TrainerError
from trainers.models import (
    build_model,
    count_parameters,
    has_features,
    model_names,
    parameter_count,
)
from trainers.precision import Precision
from trainers.steps.loss import sequence_loss

VOCABULARY = 40
# A model without an entry is tested as it is by default.
SMALL = {
    "context_vector": {"embed": 16, "hidden": 32, "layers": 2, "context": 16},
    "transformers:gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "transformers:llama": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    },
    "gpt": {"width": 32, "layers": 2, "heads": 2, "context": 32},
}
USER_MODEL = """
import torch
class Model(torch.nn.Module):
    def __init__(self, vocabulary_size, size):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary_size, size)
        self.recurrent = torch.nn.GRU(size, size, batch_first=True)
        self.out = torch.nn.Linear(size, vocabulary_size)
    def forward(self, tokens):
        return self.out(self.recurrent(self.embedding(tokens))[0])
def make(vocabulary_size, size=32):
    return Model(vocabulary_size, size)
def none(vocabulary_size):
    return None
def values(vocabulary_size):
    module = torch.nn.Linear(vocabulary_size, 2)
    assert module.weight.abs().sum().item() > 0
    return module
def anything(vocabulary_size, **options):
    raise TypeError(f"cannot use {sorted(options)}")
"""


@pytest.fixture
def user_model(tmp_path, monkeypatch):
    (tmp_path / "usermodel.py").write_text(USER_MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("usermodel", None)


FOREIGN = [name for name in SMALL if name.startswith("transformers:")]


@pytest.fixture(params=[*model_names(), "usermodel:make", *FOREIGN])
def config(request, user_model):
    if request.param in FOREIGN:
        pytest.importorskip("transformers")
    return ModelConfig(name=request.param, options=SMALL.get(request.param, {}))


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return build_model(config, VOCABULARY)


def real_text():
    """A batch of real words: rows by decreasing length, words numbered by their frequency."""
    words = collections.__doc__.split() + collections.OrderedDict.__doc__.split()
    words += collections.Counter.__doc__.lower().split()
    number = {w: i + 1 for i, (w, _) in enumerate(collections.Counter(words).most_common(38))}
    lengths_B = torch.tensor([12, 12, 9, 8, 5, 2])
    tokens_BT = torch.zeros(6, 12, dtype=torch.int64)
    for row, length in enumerate(lengths_B.tolist()):
        text = words[row * 12 : row * 12 + length]
        tokens_BT[row, :length] = torch.tensor([number.get(word, 39) for word in text])
    return tokens_BT, lengths_B


def test_logits_have_the_stated_shape(model):
    logits_BTV = model(torch.randint(0, VOCABULARY, (3, 7)))
    assert logits_BTV.shape == (3, 7, VOCABULARY)
    assert logits_BTV.dtype == torch.float32
    assert model(torch.ones(1, 1, dtype=torch.int64)).shape == (1, 1, VOCABULARY)


def test_starts_near_the_uniform_distribution(model):
    loss = sequence_loss(model.eval(), *real_text())
    nats = loss.nats.item() / loss.targets
    assert nats == pytest.approx(torch.tensor(float(VOCABULARY)).log().item(), rel=0.1)


def test_causal(model):
    model.eval()
    tokens_BT = torch.randint(0, VOCABULARY, (2, 10))
    expected = model(tokens_BT)
    for position in range(1, 10):
        changed_BT = tokens_BT.clone()
        changed_BT[:, position:] = (changed_BT[:, position:] + 1) % VOCABULARY
        found = model(changed_BT)
        torch.testing.assert_close(found[:, :position], expected[:, :position])
        assert not torch.allclose(found[:, position], expected[:, position])


def test_rows_do_not_see_each_other(model):
    model.eval()
    tokens_BT = torch.randint(0, VOCABULARY, (4, 6))
    alone = torch.cat([model(tokens_T[None]) for tokens_T in tokens_BT])
    torch.testing.assert_close(model(tokens_BT), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["context_vector", "gpt"])
def test_parameters_are_counted_without_pytorchs_compiler(name):
    """Which takes seconds to load: every command that makes a plan would wait for it."""
    code = (
        "import sys; from trainers.config import ModelConfig; "
        "from trainers.models import count_parameters; "
        f"assert count_parameters(ModelConfig(name={name!r}), {VOCABULARY}) > 0; "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_parameters_are_counted_without_memory(config, model):
    assert parameter_count(model) == count_parameters(config, VOCABULARY) > 0
    if config.name in model_names():
        with torch.device("meta"):
            assert all(p.is_meta for p in build_model(config, VOCABULARY).parameters())


def test_same_seed_same_weights(config, model):
    torch.manual_seed(0)
    again = build_model(config, VOCABULARY)
    assert all(map(torch.equal, model.parameters(), again.parameters()))


def test_every_parameter_gets_a_gradient(model):
    sequence_loss(model, *real_text()).nats.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_features_and_head_equal_forward(model):
    if not has_features(model):
        pytest.skip("the model keeps the plain contract only")
    model.eval()
    tokens_BT, lengths_B = real_text()
    hidden_NH = model.features(tokens_BT, lengths_B)
    assert hidden_NH.shape == (int(lengths_B.sum()), model.head.in_features)
    packed = nn.utils.rnn.pack_padded_sequence(model(tokens_BT), lengths_B, batch_first=True)
    torch.testing.assert_close(model.head(hidden_NH), packed.data, rtol=1e-5, atol=1e-5)


def test_padding_changes_nothing(model):
    model.eval()
    tokens_BT, lengths_B = real_text()
    expected = sequence_loss(model, tokens_BT, lengths_B).nats
    noise = torch.where(torch.arange(12) < lengths_B[:, None], tokens_BT, 7)
    wider = torch.cat([noise, torch.full((6, 5), 3)], dim=1)
    torch.testing.assert_close(sequence_loss(model, wider, lengths_B).nats, expected)
    rows = [
        sequence_loss(model, tokens_T[None, :length], length[None]).nats
        for tokens_T, length in zip(tokens_BT, lengths_B, strict=True)
    ]
    torch.testing.assert_close(torch.stack(rows).sum(), expected)


@pytest.mark.parametrize("name", ["fp32", "fp16"])
def test_learns(model, name):
    precision = Precision(name, torch.device("cpu"))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    batch = real_text()
    nats, skipped = [], 0
    for _ in range(30):
        optimizer.zero_grad()
        with precision.forward():
            loss = sequence_loss(model, *batch)
        with precision.products():
            precision.scaled(loss.nats / loss.targets).backward()
        precision.unscale(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        skipped += not precision.step(optimizer)
        nats.append(loss.nats.item() / loss.targets)
    assert nats[-1] < 0.75 * nats[0]
    # The scale starts high on purpose, and comes down in the first steps.
    assert skipped <= (6 if name == "fp16" else 0)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(TrainerError, match=r'no model "gtp" .did you mean "gpt".*context_vector'):
        build_model(ModelConfig(name="gtp"), VOCABULARY)
    with pytest.raises(TrainerError, match="no model"):
        count_parameters(ModelConfig(name="../x"), VOCABULARY)


def test_width_must_be_a_multiple_of_heads():
    config = ModelConfig(name="gpt", options={"width": 10, "heads": 4})
    with pytest.raises(TrainerError, match=r"width must be a multiple of heads \(4\), got 10"):
        build_model(config, VOCABULARY)


def test_too_long_a_window_is_named():
    model = build_model(ModelConfig(name="gpt", options=SMALL["gpt"]), VOCABULARY)
    with pytest.raises(ValueError, match="context must be at least the 33 positions"):
        model(torch.ones(1, 33, dtype=torch.int64))


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        ("none", {}, "must return a torch.nn.Module, it returned a NoneType"),
        ("anything", {"size": 3}, r"cannot be built: cannot use \['size'\]"),
        ("make", {"sise": 3}, 'has no option "sise" .did you mean "size".*; it has size'),
        ("none", {"x": 3}, 'has no option "x"; it has none'),
    ],
)
def test_a_users_factory_that_fails_is_named(user_model, factory, options, message):
    with pytest.raises(TrainerError, match=message):
        build_model(ModelConfig(name=f"usermodel:{factory}", options=options), VOCABULARY)


def test_a_users_factory_may_read_its_weights(user_model):
    assert count_parameters(ModelConfig(name="usermodel:values"), VOCABULARY) == 82


BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("gptt2", {}, r'no causal model "gptt2": did you mean "transformers:gpt2"'),
        (
            "gpt2",
            {"n_layers": 2},
            r'^model transformers:gpt2 has no option "n_layers" .* "n_layer"',
        ),
        ("gpt2", {"vocab_size": 9}, '"vocab_size" is not an option: the text decides it'),
        ("gpt2", {"attn_implementation": "some/kernel"}, 'no option "attn_implementation"'),
        ("gpt2", {"n_layer": "two"}, "^model transformers:gpt2 cannot be built: "),
        ("bert", BERT, "is not causal: .* later tokens. .* is_decoder = true"),
    ],
)
def test_what_transformers_cannot_build_is_named(kind, options, message):
    pytest.importorskip("transformers")
    with pytest.raises(TrainerError, match=message):
        build_model(ModelConfig(name=f"transformers:{kind}", options=options), VOCABULARY)


def test_a_transformer_with_more_than_a_linear_head_keeps_the_plain_contract():
    pytest.importorskip("transformers")
    small = {**BERT, "num_key_value_heads": 1, "head_dim": 16}
    capped = build_model(ModelConfig(name="transformers:gemma2", options=small), VOCABULARY)
    assert not has_features(capped)
    assert capped(torch.ones(2, 3, dtype=torch.int64)).shape == (2, 3, VOCABULARY)


def test_a_transformer_names_too_long_a_window():
    pytest.importorskip("transformers")
    options = SMALL["transformers:gpt2"]
    model = build_model(ModelConfig(name="transformers:gpt2", options=options), VOCABULARY)
    with pytest.raises(ValueError, match="max_position_embeddings must be at least the 33"):
        model(torch.ones(1, 33, dtype=torch.int64))


def test_without_transformers_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TrainerError, match=r"pip install 'lr-sweep\[transformers\]'"):
        build_model(ModelConfig(name="transformers:gpt2"), VOCABULARY)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
def test_cuda_equals_the_cpu(model, name):
    model.eval()
    tokens_BT, lengths_B = real_text()
    losses, gradients = [], []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        # cuDNN's GRU has no backward pass in eval mode.
        with torch.backends.cudnn.flags(enabled=False):
            with Precision(name, torch.device(device)).forward():
                loss = sequence_loss(model, tokens_BT.to(device), lengths_B)
            loss.nats.backward()
        losses.append(loss.nats.item())
        gradients.append(torch.cat([p.grad.flatten().cpu() for p in model.parameters()]))
    assert losses[0] == pytest.approx(losses[1], rel=5e-3)
    assert (gradients[0] - gradients[1]).norm() < 0.03 * gradients[0].norm()


KINDS = """
from torch import nn
def typed(vocabulary_size, width: "int" = None, tie: bool = False):
    return nn.Embedding(vocabulary_size, vocabulary_size)
def plain(vocabulary_size, width=8, tie=False, dropout=0, act="gelu", other=None):
    return nn.Embedding(vocabulary_size, vocabulary_size)
"""


@pytest.mark.parametrize(
    ("factory", "option", "value", "words"),
    [
        ("typed", "tie", "no", "tie must be true or false, got 'no'"),
        ("typed", "width", "8", "width must be a whole number, got '8'"),
        ("plain", "tie", 1, "tie must be true or false, got 1"),
        ("plain", "width", True, "width must be a number, got True"),
        ("plain", "act", 3, "act must be text, got 3"),
        ("plain", "dropout", 0.1, ""),
        ("plain", "other", "what", ""),
        ("plain", "tie", True, ""),
    ],
)
def test_an_option_is_what_the_factory_says(
    factory: str, option: str, value: object, words: str, tmp_path, monkeypatch
) -> None:
    (tmp_path / "kinds_of_options.py").write_text(KINDS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kinds_of_options", raising=False)
    config = ModelConfig(name=f"kinds_of_options:{factory}", options={option: value})
    if not words:
        assert build_model(config, 4) is not None
        return
    with pytest.raises(TrainerError, match=words):
        build_model(config, 4)
