"""The one evaluation: exact, FP32, each validation token once."""

import copy
import inspect
import textwrap
import threading

import pytest
import torch
from torch import nn

import trainers.evaluate
from trainers.batches import Batches
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.data import build_corpus
from trainers.evaluate import evaluate
from trainers.length import length_of
from trainers.member import Member
from trainers.models import build_model
from trainers.steps.cohort import step_alone

CPU = torch.device("cpu")
OPTIONS = {
    "context_vector": {"embed": 8, "hidden": 16, "layers": 2, "context": 8},
    "gpt": {"width": 8, "layers": 1, "heads": 2},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Real text: the docstrings of two modules, cut into windows that overlap."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    found = [value for module in (threading, textwrap) for value in vars(module).values()]
    documents = [inspect.getdoc(value) for value in found if inspect.isroutine(value)]
    path.write_text("\n\n".join(filter(None, documents)))
    return build_corpus(
        DataConfig(name=str(path), window=12, stride=5, minimum_words=2, vocabulary_size=100)
    )


@pytest.fixture(params=sorted(OPTIONS))
def model(request, corpus):
    torch.manual_seed(0)
    model = build_model(
        ModelConfig(name=request.param, options=OPTIONS[request.param]), len(corpus.vocabulary)
    )
    with torch.no_grad():  # away from the uniform prediction
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


@torch.no_grad()
def by_hand(model, sequences):
    """(nats, right predictions, targets): a sequence at a time, a plain softmax in FP64."""
    model.eval()
    nats, right, targets = 0.0, 0, 0
    for tokens, length, start in zip(
        sequences.tokens, sequences.lengths, sequences.score_from, strict=True
    ):
        logits = model(tokens[None, : length - 1])[0].double()
        p = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
        for position in range(int(start), int(length)):
            token = tokens[position]
            nats -= float(p[position - 1, token].log())
            right += int(logits[position - 1].argmax() == token)
            targets += 1
    return nats, right, targets


@pytest.mark.parametrize("rows", [1, 7, 10_000])
def test_it_is_the_exact_token_mean(model, corpus, rows, monkeypatch):
    validation = corpus.validation
    assert len(set(validation.lengths.tolist())) > 2
    assert len(validation.lengths) % 7, "a partial batch is part of the test"
    assert (validation.score_from > 1).any(), "and so are overlapping windows"
    monkeypatch.setitem(trainers.evaluate.EVALUATION_ROWS, "cpu", rows)
    found = evaluate(model, Batches(validation, CPU))
    nats, right, targets = by_hand(model, validation)
    assert targets == validation.scored
    assert found.loss == pytest.approx(nats / targets, rel=1e-6)
    assert found.accuracy == pytest.approx(right / targets, abs=1.5 / targets)


def test_a_mean_of_batch_means_would_be_another_number(model, corpus, monkeypatch):
    monkeypatch.setitem(trainers.evaluate.EVALUATION_ROWS, "cpu", 7)
    batches = Batches(corpus.validation, CPU)
    exact = evaluate(model, batches).loss

    def means():
        for batch in batches.by_length(7):
            only = copy.copy(batches)
            only.by_length = lambda _, batch=batch: iter([batch])
            yield evaluate(model, only).loss

    losses = list(means())
    assert sum(losses) / len(losses) != pytest.approx(exact, rel=1e-4)


def test_each_token_of_the_text_is_scored_exactly_once(tmp_path, monkeypatch):
    """Numbered words: the model's targets, read back, are the paragraphs without their begin."""
    words = [f"w{number}" for number in range(10, 61)]
    (tmp_path / "train.txt").write_text(" ".join(words))
    (tmp_path / "valid.txt").write_text(" ".join(words))
    corpus = build_corpus(DataConfig(name=str(tmp_path), window=12, stride=5, vocabulary_size=100))
    scored = []
    real = trainers.evaluate.sequence_loss

    def listening(model, tokens_BT, lengths_B, *, score_from_B):
        for tokens, length, start in zip(tokens_BT, lengths_B, score_from_B, strict=True):
            scored.extend(corpus.vocabulary[token] for token in tokens[start + 1 : length])
        part = real(model, tokens_BT, lengths_B, score_from_B=score_from_B)
        assert part.targets == sum(lengths_B - 1 - score_from_B)
        return part

    monkeypatch.setattr(trainers.evaluate, "sequence_loss", listening)
    model = build_model(ModelConfig(options=OPTIONS["context_vector"]), len(corpus.vocabulary))
    evaluate(model, Batches(corpus.validation, CPU))
    assert sorted(scored) == sorted([*words, "<eos>"])


class Plain(nn.Module):
    """A user's own model of the plain contract; remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 8)
        self.out = nn.Linear(8, 100)
        self.dropout = nn.Dropout(0.5)
        self.seen = []

    def forward(self, tokens_BT):
        logits_BTV = self.out(self.dropout(self.embedding(tokens_BT)))
        self.seen.append((logits_BTV.dtype, self.training, torch.is_grad_enabled()))
        return logits_BTV


def test_it_computes_in_fp32_without_dropout_and_gradients_and_restores_the_mode(corpus):
    model = Plain()
    first = evaluate(model, Batches(corpus.validation, CPU))
    model.seen.clear()  # the first one measures what a row takes, as of training
    assert evaluate(model, Batches(corpus.validation, CPU)) == first
    assert set(model.seen) == {(torch.float32, False, False)}
    assert model.training
    assert evaluate(model.eval(), Batches(corpus.validation, CPU)) == first
    assert not model.training


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_it_is_fp32_and_the_same_value_whatever_the_precision_of_training(
    corpus, precision, monkeypatch
):
    """Two members of the same weights; each trains a step in its precision before the second."""
    model = ModelConfig(options=OPTIONS["context_vector"])
    members = [
        Member(config, len(corpus.vocabulary), length_of(config, 1), CPU)
        for name in ("fp32", precision)
        for config in [TrainConfig(learning_rate=1e-2, precision=name, model=model)]
    ]
    batch = next(Batches(corpus.train, CPU).shuffled(16, 0, 1))
    validation = Batches(corpus.validation, CPU)
    kinds = {"training": [], "evaluation": []}
    where = "training"
    product = torch.baddbmm

    def noted(*a, **k):
        out = product(*a, **k)
        kinds[where].append(out.dtype)
        return out

    monkeypatch.setattr(torch, "baddbmm", noted)
    assert evaluate(members[0].model, validation) == evaluate(members[1].model, validation)
    for member in members:
        where = "training"
        kinds["training"].clear()
        step_alone(member, batch)
        where = "evaluation"
    assert set(kinds["training"]) != {torch.float32}, "the step was in the low precision"
    members[0].model.load_state_dict(members[1].model.state_dict())
    kinds["evaluation"].clear()
    first, second = (evaluate(member.model, validation) for member in members)
    assert first == second
    assert set(kinds["evaluation"]) == {torch.float32}


def test_a_broken_model_has_a_loss_that_is_not_finite(model, corpus):
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    assert not torch.tensor(evaluate(model, Batches(corpus.validation, CPU)).loss).isfinite()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_it_is_the_cpu_s_value(model, corpus):
    here = evaluate(model, Batches(corpus.validation, CPU))
    device = torch.device("cuda")
    there = evaluate(model.to(device), Batches(corpus.validation, device))
    assert there.loss == pytest.approx(here.loss, rel=1e-5)
    assert there.accuracy == pytest.approx(here.accuracy, abs=2 / corpus.validation.scored)
