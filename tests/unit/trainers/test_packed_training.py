"""Runs on packed windows and on token files: they learn, and go on bit for bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training import trained

from trainers.batches import Batches
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.data import build_corpus
from trainers.data.subwords import open_tokenizer
from trainers.evaluate import evaluate
from trainers.length import length_of
from trainers.member import Member
from trainers.report import Outcome

CPU = torch.device("cpu")
PACKED = {"tokenizer": "bytes", "pack": True}
KINDS = ["document", "window", "files", "stream"]


def config_of(kind: str, english: Path, folder: Path) -> TrainConfig:
    data = DataConfig(name=str(english), window=32, stride=16, **PACKED)
    if kind == "files":
        paragraphs = [file.read_text(encoding="utf-8") for file in sorted(english.iterdir())]
        encoder = open_tokenizer(data, ())
        for name, texts in (("train", paragraphs[:-1]), ("val", paragraphs[-1:])):
            flat = encoder.tokens(texts, np.arange(len(texts))).flat
            flat.astype("<u2").tofile(folder / f"{name}.bin")
        name = str(folder)
        data = DataConfig(name=name, window=32, stride=16, vocabulary_size=260, train_sequences=600)
    elif kind == "stream":
        data = replace(data, stream=True, train_sequences=600, validation_sequences=90)
    else:
        data = replace(data, attend=kind, train_sequences=600)
    options = {"width": 32, "layers": 1, "heads": 2, "context": 32}
    model = ModelConfig(name="gpt", options=options)
    return TrainConfig(learning_rate=1e-2, batch_size=32, epochs=3, model=model, data=data)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_resumes_bit_for_bit(
    kind: str, english: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = config_of(kind, english, tmp_path)
    straight, _ = trained(config, tmp_path / "straight")
    _, paused = trained(config, tmp_path / "stopped", pause_after=1)
    whole, outcome = trained(config, tmp_path / "stopped")
    assert (paused, outcome) == (Outcome.PAUSED, Outcome.COMPLETED)
    assert [r.validation_loss for r in whole] == [r.validation_loss for r in straight]
    assert straight[-1].validation_loss < straight[0].validation_loss < np.log(260)
    corpus = build_corpus(config.data)
    assert straight[0].tokens == corpus.train.targets
    scored = corpus.validation.scored
    expected = straight[-1].validation_loss / np.log(2) * (corpus.tokens_per_byte or 0)
    assert scored > 1000
    assert straight[-1].metrics.get("bits_per_byte", 0) == pytest.approx(expected)
    assert (kind == "files") == (expected == 0)


def test_documents_packed_have_the_loss_of_documents_apart(english: Path) -> None:
    """Where windows are longer than all documents and cut few, the two are the same model's."""
    apart = DataConfig(name=str(english), tokenizer="words", window=400, stride=399)
    packed = replace(apart, pack=True)
    options = {"width": 32, "layers": 1, "heads": 2, "context": 400}
    model = ModelConfig(name="gpt", options=options)
    losses = []
    for data in (apart, packed):
        corpus = build_corpus(data)
        config = TrainConfig(learning_rate=1e-3, model=model, data=data)
        length = length_of(config, 1)
        member = Member(config, corpus.vocabulary_size, length, CPU, separator=corpus.separator)
        with torch.no_grad():  # the token before a document is <bos> in one, <eos> in the other
            member.model.embedding.weight[2] = member.model.embedding.weight[3]
            for parameter in member.model.blocks.parameters():
                parameter.mul_(3.0)  # so that what is attended to shows
        found = evaluate(member.model, Batches(corpus.validation, CPU))
        losses.append((found.loss, corpus.validation.scored))
    assert losses[0][1] == losses[1][1]
    assert losses[1][0] == pytest.approx(losses[0][0], rel=2e-3)
