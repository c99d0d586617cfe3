"""Windows of several documents: within each, a model computes what it would of that alone."""

import dataclasses

import pytest
import torch
from torch import nn

from trainers.batches import Batch
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.errors import TrainerError
from trainers.length import length_of
from trainers.member import Member
from trainers.models import build_model, check_packing, set_packing
from trainers.precision import Precision
from trainers.steps.cohort import step_alone, step_together
from trainers.steps.loss import sequence_loss
from trainers.steps.memory import bytes_of_a_row

VOCABULARY, SEPARATOR = 40, 3
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
PACK = {
    "gpt": {"width": 32, "layers": 2, "heads": 2, "context": 32},
    "transformers:gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "transformers:llama": LLAMA,
}
OWN = """
from torch import nn
def build(vocabulary_size):
    return nn.Sequential(nn.Embedding(vocabulary_size, 8), nn.Linear(8, vocabulary_size))
"""


@pytest.fixture(params=PACK)
def config(request):
    if request.param.startswith("transformers:"):
        pytest.importorskip("transformers")
    return ModelConfig(name=request.param, options=PACK[request.param])


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return build_model(config, VOCABULARY).eval()


def documents():
    """Token numbers of some documents, a separator before each."""
    generator = torch.Generator().manual_seed(1)
    parts = [
        torch.randint(SEPARATOR + 1, VOCABULARY, (length,), generator=generator)
        for length in (5, 1, 9, 3)
    ]
    return [torch.cat([torch.tensor([SEPARATOR]), part]) for part in parts]


def test_a_document_is_computed_as_if_it_stood_alone(model, config):
    parts = documents()
    alone = torch.cat([model(part[None])[0] for part in parts])
    packed_BT = torch.stack([torch.cat(parts), torch.cat(parts[::-1])])
    open_ = model(packed_BT)
    assert not torch.allclose(open_[0], alone, atol=1e-3)  # a document sees those before it
    set_packing(model, config, SEPARATOR, "document")
    first, second = model(packed_BT)
    torch.testing.assert_close(first, alone, rtol=1e-4, atol=1e-5)
    turned = torch.cat([model(part[None])[0] for part in parts[::-1]])
    torch.testing.assert_close(second, turned, rtol=1e-4, atol=1e-5)


def test_the_rest_of_a_document_begins_at_the_window_s_begin(model, config):
    set_packing(model, config, SEPARATOR, "document")
    rest, whole = documents()[2][4:], documents()[0]
    logits = model(torch.cat([rest, whole])[None])[0]
    torch.testing.assert_close(logits[: len(rest)], model(rest[None])[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits[len(rest) :], model(whole[None])[0], rtol=1e-4, atol=1e-5)


def test_the_window_is_attended_to_as_in_any_text(model, config):
    packed_BT = torch.cat(documents())[None]
    expected = model(packed_BT)
    set_packing(model, config, SEPARATOR, "window")
    assert torch.equal(model(packed_BT), expected)


def test_gradients_are_those_of_the_documents_alone(model, config):
    set_packing(model, config, SEPARATOR, "document")
    parts = documents()
    # Each document's own targets: the next separator is the last of them.
    rows = [torch.cat([part, torch.tensor([SEPARATOR])]) for part in parts]
    for row in rows:
        sequence_loss(model, row[None], torch.tensor([len(row)])).nats.backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    packed = torch.cat([*parts, torch.tensor([SEPARATOR])])
    sequence_loss(model, packed[None], torch.tensor([len(packed)])).nats.backward()
    for parameter, grad in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["fp32", "tf32", "fp16", "bf16"])
def test_documents_are_kept_apart_in_every_precision(model, config, name):
    set_packing(model, config, SEPARATOR, "document")
    parts = documents()
    before = torch.cat([parts[0].flip(0), *parts[1:]])
    before[0], before[len(parts[0]) - 1] = SEPARATOR, 7
    precision = Precision(name, torch.device("cpu"))
    with torch.no_grad(), precision.forward():
        first, second = (model(row[None])[0] for row in (torch.cat(parts), before))
    own = slice(len(parts[0]), None)
    assert torch.equal(first[own], second[own])
    assert not torch.equal(first[1 : len(parts[0])], second[1 : len(parts[0])])
    assert first.isfinite().all()


def test_a_mask_is_kept_once_for_all_layers():
    options = {"width": 32, "heads": 2, "layers": 6}
    model = build_model(ModelConfig(name="gpt", options=options), VOCABULARY)
    open_ = bytes_of_a_row(model, 257, torch.device("cpu"))
    model.attend_within_documents(SEPARATOR)
    masked = bytes_of_a_row(model, 257, torch.device("cpu"))
    assert masked - open_ < 2 * 4 * 256**2  # the mask's own bytes, and less than a second


def test_members_side_by_side_have_each_its_own_documents(config):
    data = DataConfig(window=23, stride=10, pack=True)
    train = TrainConfig(learning_rate=1e-3, batch_size=1, model=config, data=data)
    parts = documents()
    rows = [torch.cat([*order, parts[0][:1]])[None] for order in (parts, parts[::-1])]
    lengths_B = torch.tensor([rows[0].shape[1]])
    batches = [Batch(tokens_BT, lengths_B, torch.zeros(1)) for tokens_BT in rows]

    def members():
        made = (dataclasses.replace(train, seed=seed) for seed in (0, 1))
        device = torch.device("cpu")
        return [
            Member(each, VOCABULARY, length_of(each, 9), device, separator=SEPARATOR)
            for each in made
        ]

    apart = [
        float(step_alone(member, batch)[0])
        for member, batch in zip(members(), batches, strict=True)
    ]
    together = members()
    assert all(member.model.separator == SEPARATOR for member in together)
    found = [float(nats) for nats, _ in step_together(together, batches)]
    assert apart[0] != pytest.approx(apart[1], rel=1e-4)
    assert found == pytest.approx(apart, rel=1e-5)


def test_a_recurrence_does_not_take_them():
    message = r"^model context_vector would carry .* data.pack = true is for gpt and transformers"
    for attend in ("document", "window"):
        with pytest.raises(TrainerError, match=message):
            check_packing(ModelConfig(name="context_vector"), DataConfig(pack=True, attend=attend))
    check_packing(ModelConfig(name="context_vector"), DataConfig())


def test_a_model_of_the_user_s_own_takes_the_window(tmp_path, monkeypatch):
    (tmp_path / "own_packing.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    config = ModelConfig(name="own_packing:build")
    check_packing(config, DataConfig(pack=True, attend="window"))
    with pytest.raises(TrainerError, match=r'no method attend_within_documents.*"window"'):
        check_packing(config, DataConfig(pack=True))


def test_a_transformer_without_positions_is_named():
    pytest.importorskip("transformers")
    options = {"hidden_size": 32, "n_layer": 1, "n_head": 2}
    config = ModelConfig(name="transformers:bloom", options=options)
    with pytest.raises(TrainerError, match=r"BloomForCausalLM .* cannot attend within documents"):
        set_packing(build_model(config, VOCABULARY), config, SEPARATOR, "document")


def test_every_token_of_a_transformer_is_learned():
    pytest.importorskip("transformers")
    model = build_model(ModelConfig(name="transformers:llama", options=LLAMA), VOCABULARY)
    tokens_BT = torch.tensor([[5, 0, 7, 0, 9]])
    sequence_loss(model, tokens_BT, torch.tensor([5])).nats.backward()
    grad = model.inner.get_input_embeddings().weight.grad
    assert isinstance(model.inner.get_input_embeddings(), nn.Embedding)
    assert grad[0].any()  # a published tokenizer has a token 0
