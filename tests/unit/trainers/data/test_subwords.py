"""Bytes, subwords learned from the text, and published tokenizers."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer, WordLevelTrainer
from torch import nn

import trainers.data
from trainers.batches import Batches
from trainers.config import DataConfig
from trainers.data import Corpus, build_corpus, load_corpus, take_corpus
from trainers.data.subwords import BEGINS, Subwords, open_tokenizer
from trainers.errors import TrainerError
from trainers.evaluate import evaluate

TRAIN = [
    "Lobsters live in cold water, and lobsters hide by day; at night they look for mussels.",
    "Ein Hummer wiegt bis zu sechs Kilogramm, größere gibt es selten: <eos> ist hier Text.",
    "龙虾生活在冷水中。 A lobster's shell is shed once a year 🦞, say the fishermen.",
]
VALIDATION = [
    "Größere Hummer leben in kaltem Wasser, und 龙虾 hide by day 🦞, <pad> and <eos> or not.",
    "At night lobsters leave their holes to look for mussels, worms and starfish.",
]
KINDS = ["bytes", "bpe"]


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "train.txt").write_text("\n\n".join(TRAIN), encoding="utf-8")
    (folder / "valid.txt").write_text("\n\n".join(VALIDATION), encoding="utf-8")
    return DataConfig(name=str(folder), window=12, stride=5, vocabulary_size=300, tokenizer="bytes")


def published(path: Path, special: Iterable[str] = ("<|endoftext|>",)) -> Path:
    """Writes a tokenizer.json as one may find it: with numbers, limits and a frame of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TRAIN, trainer)
    tokenizer.add_special_tokens(list(special))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=7)
    tokenizer.save(str(path))
    return path


def lower_cased(path: Path) -> Path:
    """Writes a tokenizer of words, which gives no text back."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = WordLevelTrainer(special_tokens=["[UNK]", "[CLS]", "[SEP]"])
    tokenizer.train_from_iterator(TRAIN, trainer)
    tokenizer.save(str(path))
    return path


def scored_of(corpus: Corpus) -> list[str]:
    split = corpus.validation
    return [corpus.vocabulary[number] for number in split.tokens[split.is_scored].tolist()]


def subwords(config: DataConfig) -> Subwords:
    return open_tokenizer(config, TRAIN)


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_comes_back_from_its_tokens(config: DataConfig, kind: str) -> None:
    encoder = subwords(replace(config, tokenizer=kind))
    tokens = encoder.tokens(VALIDATION, np.arange(2))
    assert tokens.counts.tolist() == encoder.counts(VALIDATION).tolist()
    first, second = np.split(tokens.flat, [tokens.counts[0]])
    for text, numbers in zip(VALIDATION, (first, second), strict=True):
        assert (numbers[0], numbers[-1]) == (2, 3)
        assert encoder.tokenizer.decode(numbers[1:-1].tolist()) == text
        assert not {0, 1, 2, 3} & set(numbers[1:-1].tolist())  # "<eos>" in a text is text


def test_bytes_are_256_and_the_special_ones(config: DataConfig) -> None:
    encoder = subwords(config)
    assert len(encoder.vocabulary) == 260
    sizes = [len(text.encode()) + 2 for text in VALIDATION]
    assert encoder.counts(VALIDATION).tolist() == sizes


def test_bpe_has_as_many_tokens_as_it_is_told_and_fewer_a_text(config: DataConfig) -> None:
    encoder = subwords(replace(config, tokenizer="bpe"))
    assert len(encoder.vocabulary) == 300
    assert encoder.counts(TRAIN).sum() < subwords(config).counts(TRAIN).sum()
    with pytest.raises(ValueError, match=r"must be at least 260 for bpe .*, got 259"):
        replace(config, tokenizer="bpe", vocabulary_size=259)


def test_bpe_does_not_depend_on_the_process(config: DataConfig) -> None:
    config = replace(config, tokenizer="bpe")
    code = (
        "import sys; from trainers.config import DataConfig\n"
        "from trainers.data import build_corpus\n"
        "print(build_corpus(DataConfig(name=sys.argv[1], window=12, stride=5, "
        "vocabulary_size=300, tokenizer='bpe')).fingerprint)"
    )
    root = str(Path(trainers.data.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "RAYON_NUM_THREADS": "3"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, config.name],
            env={**environment, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    found = {process.communicate(timeout=120)[0].strip() for process in running}
    assert found == {build_corpus(config).fingerprint}


@pytest.mark.parametrize("kind", [*KINDS, "published"])
def test_each_byte_of_the_text_is_one_token_s(
    config: DataConfig, tmp_path: Path, kind: str
) -> None:
    name = str(published(tmp_path / "other.json")) if kind == "published" else kind
    corpus = build_corpus(replace(config, tokenizer=name))
    whole = sum(len(text.encode()) for text in VALIDATION)
    assert corpus.validation.scored_bytes == whole
    assert corpus.tokens_per_byte == corpus.validation.scored / whole
    assert corpus.notes[-1].endswith(f"{whole / corpus.validation.scored:.2f} bytes a token")
    assert corpus.train.scored_bytes == 0


def test_bytes_are_those_of_the_windows_that_are_scored(config: DataConfig) -> None:
    corpus = build_corpus(replace(config, validation_sequences=7))
    tokens = [token for token in scored_of(corpus) if token != "<eos>"]
    assert 0 < corpus.validation.scored_bytes < sum(len(text.encode()) for text in VALIDATION)
    # A letter of several bytes is its first token's, whose window may not be the others'.
    assert corpus.validation.scored_bytes == pytest.approx(len(tokens), abs=4 * 7)


class Uniform(nn.Module):
    """Gives each token one probability: a loss that is known."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(size))

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(*tokens_BT.shape, -1)


@pytest.mark.parametrize("kind", KINDS)
def test_bits_a_byte_are_the_bits_of_all_scored_tokens(config: DataConfig, kind: str) -> None:
    corpus = build_corpus(replace(config, tokenizer=kind))
    batches = Batches(corpus.validation, torch.device("cpu"))
    found = evaluate(Uniform(corpus.vocabulary_size), batches)
    bits = corpus.validation.scored * math.log2(corpus.vocabulary_size)
    assert found.bits_per_byte is not None
    expected = bits / sum(len(text.encode()) for text in VALIDATION)
    assert found.bits_per_byte == pytest.approx(expected, rel=1e-6)
    assert found.metrics == {"bits_per_byte": found.bits_per_byte}


def test_words_give_no_bits_a_byte(config: DataConfig) -> None:
    corpus = build_corpus(replace(config, tokenizer="words"))
    batches = Batches(corpus.validation, torch.device("cpu"))
    assert corpus.tokens_per_byte is None
    assert evaluate(Uniform(corpus.vocabulary_size), batches).metrics == {}


def test_a_tokenizer_that_loses_text_gives_none_and_says_so(
    config: DataConfig, tmp_path: Path
) -> None:
    name = str(lower_cased(tmp_path / "words.json"))
    corpus = build_corpus(replace(config, tokenizer=name))
    assert corpus.tokens_per_byte is None
    assert 0 < corpus.unknown_share < 1
    assert corpus.notes[-2].startswith("bits a byte is not given: 100 % of the paragraphs")
    first = scored_of(corpus)[: int(corpus.validation.lengths[0]) - 1]
    assert "[UNK]" in first


def test_a_published_tokenizer_keeps_its_numbers_and_its_frame(
    config: DataConfig, tmp_path: Path
) -> None:
    path = published(tmp_path / "other.json")
    encoder = subwords(replace(config, tokenizer=str(path)))
    own = Tokenizer.from_file(str(path)).get_vocab()
    assert {name: number for number, name in enumerate(encoder.vocabulary)} == own
    tokens = encoder.tokens(VALIDATION, np.arange(2)).flat
    assert tokens[0] == own["<|endoftext|>"] == tokens[-1]
    assert len(tokens) > 2 * 7  # neither cut nor padded
    two = published(tmp_path / "two.json", special=["</s>", "<s>"])
    framed = subwords(replace(config, tokenizer=str(two)))
    assert (framed.vocabulary[framed.begin], framed.vocabulary[framed.end]) == ("<s>", "</s>")
    none = published(tmp_path / "none.json", special=[])
    added = subwords(replace(config, tokenizer=str(none)))
    assert added.begin == added.end == 280 == added.vocabulary.index("<eos>")
    assert "<s>" in BEGINS


def test_what_numbered_the_text_is_kept_beside_the_corpus(
    config: DataConfig, tmp_path: Path
) -> None:
    config, study = replace(config, tokenizer="bpe"), tmp_path / "study"
    stored, built = load_corpus(config, study), build_corpus(config)
    assert stored.validation.scored_bytes == built.validation.scored_bytes
    take_corpus(study, tmp_path / "other")
    kept = Tokenizer.from_file(str(tmp_path / "other" / "tokenizer.json"))
    ids = kept.encode(VALIDATION[1]).ids
    tokens = subwords(config).tokens(VALIDATION, np.array([1])).flat
    assert ids == tokens[1:-1].tolist()
    assert load_corpus(config, tmp_path / "other").fingerprint == built.fingerprint


def test_a_tokenizer_may_be_moved_and_not_changed(config: DataConfig, tmp_path: Path) -> None:
    first = published(tmp_path / "first.json")
    load_corpus(replace(config, tokenizer=str(first)), tmp_path / "study")
    folder = tmp_path / "moved"
    folder.mkdir()
    first.rename(folder / "tokenizer.json")
    moved = replace(config, tokenizer=str(folder))
    assert load_corpus(moved, tmp_path / "study").fingerprint == build_corpus(moved).fingerprint
    other = published(tmp_path / "third.json", special=["</s>"])
    with pytest.raises(TrainerError, match=r"other data settings: tokenizer .was .*, now "):
        load_corpus(replace(config, tokenizer=str(other)), tmp_path / "study")


def test_what_is_no_tokenizer_is_one_line(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.data.subwords.why_unreachable", lambda: "the hub is away")
    (tmp_path / "broken.json").write_text(json.dumps({"version": "1.0"}))
    for name, message in (
        (str(tmp_path / "broken.json"), "is no tokenizer that can be read"),
        (str(tmp_path / "gone.json"), r"gone.json cannot be read \(No such file"),
        (str(tmp_path), r"tokenizer.json cannot be read \(No such file"),
        ("someone/model", "the hub is away, and someone/model is not in the local cache"),
        ("bite", r'the hub is away, and bite .* take "words", "bytes", "bpe"'),
        ("not a name!", r"not a name! is no tokenizer that can be read \(Repo id"),
    ):
        with pytest.raises(TrainerError, match=rf"^data.tokenizer: .*{message}") as caught:
            build_corpus(replace(config, tokenizer=name))
        assert "\n" not in str(caught.value)
