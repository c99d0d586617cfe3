"""The corpus: vocabulary, what it measures, and the file it is kept in."""

import math
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file

import trainers
from trainers.config import DataConfig
from trainers.data import Corpus, build_corpus, load_corpus
from trainers.data.vocabulary import SPECIAL, Tokens, learn
from trainers.errors import TrainerError

TRAIN = """
Lobsters live in cold water, and lobsters hide by day.

At night lobsters leave their holes to look for mussels, worms and starfish.

A <unk> lobster may weigh six kilograms; <UNK> lobsters weigh less than that in cold water.

Harbour masters count the boats by day, and at night they count the mussels that boats brought.
"""
VALIDATION = """
Lobsters look for <unk> at night, and zebras do not look for lobsters in cold water.

Some <pad> or <eos> in a text is no padding and no end of the text.
"""


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "train.txt").write_text(TRAIN, encoding="utf-8")
    (folder / "valid.txt").write_text(VALIDATION, encoding="utf-8")
    return DataConfig(name=str(folder), window=8, stride=3)


def words(corpus: Corpus, row: torch.Tensor) -> list[str]:
    return [corpus.vocabulary[number] for number in row.tolist()]


def same(one: Corpus, other: Corpus) -> bool:
    tensors = [
        (getattr(a, name), getattr(b, name))
        for a, b in ((one.train, other.train), (one.validation, other.validation))
        for name in ("tokens", "lengths", "score_from")
    ]
    alike = all(x.dtype == y.dtype and torch.equal(x, y) for x, y in tensors)
    return alike and all(
        getattr(one, name) == getattr(other, name)
        for name in Corpus.__dataclass_fields__
        if name not in ("train", "validation")
    )


def test_vocabulary_is_by_count_then_alphabet_of_the_training_words(config: DataConfig) -> None:
    vocabulary = build_corpus(config).vocabulary
    assert vocabulary[:4] == SPECIAL == ("<pad>", "<unk>", "<bos>", "<eos>")
    assert "zebras" not in vocabulary
    counts = Counter(re.findall(r"\w+|[^\w\s]+", TRAIN.replace("<unk>", " ").lower()))
    assert list(vocabulary[4:]) == sorted(counts, key=lambda word: (-counts[word], word))


def test_unknown_words_and_a_literal_unk_are_unknown(config: DataConfig) -> None:
    corpus = build_corpus(replace(config, window=40, stride=20))
    first = words(corpus, corpus.validation.tokens[0])
    assert " ".join(first[:10]) == "<bos> lobsters look for <unk> at night , and <unk>"
    assert first[int(corpus.validation.lengths[0]) - 1] == "<eos>"
    second = words(corpus, corpus.validation.tokens[1][: corpus.validation.lengths[1]])
    assert "<pad>" not in second  # a text about padding
    assert second.count("<eos>") == 1


def numbered(paragraphs: list[str], size: int) -> tuple[tuple[str, ...], Tokens]:
    words, _ = learn(paragraphs, size)
    return words.vocabulary, words.tokens(paragraphs, np.arange(len(paragraphs)))


def test_vocabulary_size_counts_the_special_ones() -> None:
    vocabulary, tokens = numbered(["b b b a a c", "c a"], 6)
    assert vocabulary == (*SPECIAL, "a", "b")
    assert tokens.flat.tolist() == [2, 5, 5, 5, 4, 4, 1, 3, 2, 1, 4, 3]
    assert tokens.counts.tolist() == [8, 4]


def test_special_words_in_the_text_are_text() -> None:
    vocabulary, tokens = numbered(["<pad> a <eos>"], 100)
    assert vocabulary == (*SPECIAL, "<", ">", "a", "eos", "pad")
    assert tokens.flat.tolist() == [2, 4, 8, 5, 6, 4, 7, 5, 3]


def test_unigram_perplexity_and_unknown_share_are_those_of_the_definition(
    config: DataConfig,
) -> None:
    corpus = build_corpus(replace(config, train_sequences=7))
    assert len(corpus.train.lengths) == 7
    seen: Counter[int] = Counter()
    for row, length in zip(corpus.train.tokens.tolist(), corpus.train.lengths, strict=True):
        seen.update(row[1:length])
    total = sum(seen.values()) + len(corpus.vocabulary)
    validation = corpus.validation
    scored = [
        token
        for row, length, first in zip(
            validation.tokens.tolist(), validation.lengths, validation.score_from, strict=True
        )
        for token in row[first:length]
    ]
    nats = [-math.log((seen[token] + 1) / total) for token in scored]
    assert corpus.unigram_perplexity == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-12)
    assert corpus.unknown_share == pytest.approx(scored.count(1) / len(scored))
    assert corpus.unknown_share > 0
    assert corpus.notes == (f"{100 * corpus.unknown_share:.1f} % of the words are unknown",)


def test_a_stored_corpus_is_the_one_that_was_built(config: DataConfig, tmp_path: Path) -> None:
    built, study = build_corpus(config), tmp_path / "study"
    assert same(load_corpus(config, study), built)
    (Path(config.name) / "train.txt").write_text("Gone.", encoding="utf-8")
    from_parent = load_corpus(config, study / "trial-3")
    assert same(from_parent, built)
    assert from_parent is load_corpus(config, study)  # a worker reads it once
    assert [file.name for file in study.iterdir()] == ["corpus.safetensors"]


def test_another_config_is_refused_by_its_fields(config: DataConfig, tmp_path: Path) -> None:
    load_corpus(config, tmp_path)
    with pytest.raises(
        TrainerError, match=r"window \(was 8, now 9\), minimum_words \(was 5, now 4\)"
    ):
        load_corpus(replace(config, window=9, minimum_words=4), tmp_path)


def damage_bytes(path: Path) -> None:
    path.write_bytes(b"\x80\x04 this is no safetensors file")


def damage_length(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def damage_header(path: Path) -> None:
    save_file({"train.tokens": torch.zeros(2, 2)}, path)


def damage_all(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_bytes, damage_length, damage_header, damage_all])
def test_a_file_that_cannot_be_read_is_said_so(
    config: DataConfig, tmp_path: Path, damage: object
) -> None:
    load_corpus(config, tmp_path)
    assert callable(damage)
    damage(tmp_path / "corpus.safetensors")
    with pytest.raises(TrainerError, match="is no corpus that can be read") as caught:
        load_corpus(config, tmp_path)
    assert "\n" not in str(caught.value)
    assert "delete it" in str(caught.value)


def test_changed_tokens_are_noticed(config: DataConfig, tmp_path: Path) -> None:
    load_corpus(config, tmp_path)
    path = tmp_path / "corpus.safetensors"
    before = load_tensors(path.read_bytes())
    content = bytearray(path.read_bytes())
    content[8 + int.from_bytes(content[:8], "little")] ^= 1  # a bit of the first tensor
    path.write_bytes(content)
    after = load_tensors(path.read_bytes())
    assert sum(not torch.equal(before[name], after[name]) for name in before) == 1
    with pytest.raises(TrainerError, match="another fingerprint"):
        load_corpus(config, tmp_path)


def test_a_folder_that_cannot_be_written_is_said_so(config: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(TrainerError, match="cannot be written"):
        load_corpus(config, tmp_path / "file" / "study")
    (tmp_path / "study" / "corpus.safetensors").mkdir(parents=True)
    with pytest.raises(TrainerError, match="cannot be written"):
        load_corpus(config, tmp_path / "study")
    assert len(list((tmp_path / "study").iterdir())) == 1  # no half of a file stays behind


def test_the_fingerprint_does_not_depend_on_the_process(config: DataConfig) -> None:
    code = (
        "import sys; from trainers.config import DataConfig\n"
        "from trainers.data import build_corpus\n"
        "print(build_corpus(DataConfig(name=sys.argv[1], window=8, stride=3)).fingerprint)"
    )
    root = str(Path(trainers.__file__).parents[1])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, config.name],
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": root,
                "RAYON_NUM_THREADS": "2",
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    found = {process.communicate(timeout=120)[0].strip() for process in running}
    assert found == {build_corpus(config).fingerprint}
