"""Token files: their forms, that nothing of them is held, and what is said of wrong ones."""

import math
import os
import pickle
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from trainers.batches import Batches, batches_of
from trainers.config import DataConfig
from trainers.data import build_corpus, load_corpus, source_bytes, source_fingerprint, take_corpus
from trainers.data.subwords import open_tokenizer
from trainers.data.token_files import MappedSequences, TokenFile
from trainers.errors import TrainerError

CPU = torch.device("cpu")
SIZE = 500


def numbers(count: int, seed: int, largest: int = SIZE - 1) -> np.ndarray:
    found = np.random.default_rng(seed).integers(0, largest, count)
    found[count // 2] = largest
    return found


def header(magic: int, count: int) -> bytes:
    fields = np.zeros(256, "<i4")
    fields[:3] = magic, 1, count
    return fields.tobytes()


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    folder = tmp_path / "tokens"
    folder.mkdir()
    numbers(1003, 0).astype("<u2").tofile(folder / "train.bin")
    numbers(131, 1).astype("<u2").tofile(folder / "val.bin")
    return DataConfig(name=str(folder), vocabulary_size=SIZE, window=8, stride=4)


def windows_of(tokens: np.ndarray, window: int) -> list[list[int]]:
    """By the definition: each token but the first is predicted once."""
    starts = range(0, len(tokens) - 1, window - 1)
    return [tokens[start : start + window].tolist() for start in starts]


def rows_of(batches: Batches, batch_size: int = 5) -> list[list[int]]:
    return [
        row[:length].tolist()
        for batch in batches.by_length(batch_size)
        for row, length in zip(batch.tokens_BT, batch.lengths_B, strict=True)
    ]


def test_raw_files_of_two_bytes_a_token(config: DataConfig) -> None:
    corpus = build_corpus(config)
    assert rows_of(batches_of(corpus.train, CPU)) == windows_of(numbers(1003, 0), 8)
    assert rows_of(batches_of(corpus.validation, CPU)) == windows_of(numbers(131, 1), 8)
    assert (corpus.train.targets, corpus.validation.scored) == (1002, 130)
    assert (corpus.vocabulary_size, corpus.vocabulary, corpus.separator) == (SIZE, (), -1)
    assert corpus.notes == ("1,002 tokens of training, 130 of validation, 500 different tokens",)
    assert source_bytes(config) == 0


def test_raw_files_of_four_bytes_a_token(config: DataConfig) -> None:
    for largest in (SIZE - 1, 100_000):  # the second would not fit two bytes
        numbers(1003, 0, largest).astype("<u4").tofile(Path(config.name) / "train.bin")
        corpus = build_corpus(replace(config, vocabulary_size=largest + 1))
        found = rows_of(batches_of(corpus.train, CPU))
        assert found == windows_of(numbers(1003, 0, largest), 8)


@pytest.mark.parametrize(("magic", "type_"), [(20240520, "<u2"), (20240801, "<u4")])
def test_files_with_a_header_say_what_they_are(config: DataConfig, magic: int, type_: str) -> None:
    folder = Path(config.name)
    (folder / "train.bin").unlink()
    for part in (1, 2):
        tokens = numbers(50 + part, part)
        content = header(magic, len(tokens)) + tokens.astype(type_).tobytes()
        (folder / f"fineweb_train_{part:06}.bin").write_bytes(content)
    (folder / "val.bin").rename(folder / "fineweb_val_000000.bin")
    corpus = build_corpus(config)
    parts = [windows_of(numbers(50 + part, part), 8) for part in (1, 2)]
    assert sorted(rows_of(batches_of(corpus.train, CPU))) == sorted(parts[0] + parts[1])
    assert corpus.train.targets == 50 + 51
    one = build_corpus(replace(config, name=str(folder / "fineweb_train_000002.bin")))
    assert rows_of(batches_of(one.train, CPU)) == parts[1]


def test_a_part_is_the_first_windows(config: DataConfig) -> None:
    corpus = build_corpus(replace(config, train_sequences=9, validation_sequences=3))
    assert rows_of(batches_of(corpus.train, CPU)) == windows_of(numbers(1003, 0), 8)[:9]
    assert (corpus.train.targets, corpus.validation.scored) == (9 * 7, 3 * 7)
    every = build_corpus(replace(config, train_sequences=9_999))
    assert every.train.targets == 1002


def test_an_epoch_has_every_window_once_in_an_order_of_seed_and_epoch(config: DataConfig) -> None:
    batches = batches_of(build_corpus(config).train, CPU)

    def order(seed: int, epoch: int, first: int = 0) -> list[list[tuple[int, ...]]]:
        found = batches.shuffled(32, seed, epoch, first)
        return [[tuple(row.tolist()) for row in batch.tokens_BT] for batch in found]

    one = order(0, 1)
    assert [len(rows) for rows in one] == [32, 32, 32, 32, 16]
    padded = [(*row, *[0] * (8 - len(row))) for row in windows_of(numbers(1003, 0), 8)]
    assert sorted(row for rows in one for row in rows) == sorted(padded)
    assert one == order(0, 1)
    assert one[2:] == order(0, 1, first=2)
    assert len({str(order(seed, epoch)) for seed in (0, 1) for epoch in (1, 2)}) == 4
    for batch in batches.shuffled(32, 0, 1):
        assert batch.lengths_B.tolist() == sorted(batch.lengths_B.tolist(), reverse=True)
        assert batch.scored == batch.targets
        assert batch.tokens_BT.dtype == torch.int64


@given(
    counts=st.lists(st.integers(2, 60), min_size=1, max_size=4),
    window=st.integers(2, 12),
    most=st.integers(0, 30),
)
def test_windows_run_on_from_file_to_file(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], window: int, most: int
) -> None:
    folder, files, expected = tmp_path_factory.mktemp("files"), [], []
    for number, count in enumerate(counts):
        tokens = np.arange(count) + 1000 * number
        tokens.astype("<u2").tofile(folder / f"{number}.bin")
        files.append(TokenFile(str(folder / f"{number}.bin"), "<u2", 0, count))
        expected += windows_of(tokens, window)
    split = MappedSequences(tuple(files), window, most)
    expected = expected[:most] if most else expected
    rows, lengths = split.rows(np.arange(len(split)))
    assert [row.tolist() for row in rows] == expected
    assert lengths.tolist() == [len(row) for row in expected]
    assert split.targets == sum(len(row) - 1 for row in expected)
    read = [file.tokens()[1:end].tolist() for file, end in split.parts()]
    assert [t for part in read for t in part] == [t for row in expected for t in row[1:]]


def test_nothing_of_a_file_is_held(tmp_path: Path) -> None:
    tokens = numbers(8_000_000, 0).astype("<u2")  # 16 MB
    tokens.tofile(tmp_path / "train.bin")
    tokens[:5000].tofile(tmp_path / "val.bin")
    del tokens
    config = DataConfig(name=str(tmp_path), vocabulary_size=SIZE, window=64, stride=32)
    study = tmp_path / "study"
    load_corpus(config, study)
    tracemalloc.start()
    try:
        batches = batches_of(load_corpus(config, study).train, CPU)
        batch = next(batches.shuffled(32, 0, 1))
        assert batch.targets == 32 * 63
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert (study / "corpus.safetensors").stat().st_size < 5_000


def test_a_stored_corpus_is_the_files_and_knows_them_by_content(
    config: DataConfig, tmp_path: Path
) -> None:
    built, stored = build_corpus(config), load_corpus(config, tmp_path / "study")
    assert stored == replace(built, notes=stored.notes)
    take_corpus(tmp_path / "study", tmp_path / "other")
    assert load_corpus(config, tmp_path / "other") == stored
    (tmp_path / "tokens").rename(tmp_path / "moved")
    with pytest.raises(TrainerError, match=r"tokens/train.bin cannot be mapped .*put it back"):
        batches_of(stored.train, CPU).by_length(5).__next__()
    moved = replace(config, name=str(tmp_path / "moved"))
    assert source_fingerprint(moved) == stored.content
    assert build_corpus(moved).fingerprint == stored.fingerprint
    numbers(1003, 7).astype("<u2").tofile(tmp_path / "moved" / "train.bin")
    assert source_fingerprint(moved) != stored.content
    assert build_corpus(moved).fingerprint != stored.fingerprint


def test_the_unigram_perplexity_is_that_of_the_definition(config: DataConfig) -> None:
    seen = np.bincount(numbers(1003, 0), minlength=SIZE) + 1
    nats = -np.log(seen / seen.sum())[numbers(131, 1)].mean()
    assert build_corpus(config).unigram_perplexity == pytest.approx(math.exp(nats))


def test_documents_are_told_apart_where_it_is_known_by_what(config: DataConfig) -> None:
    packed = replace(config, pack=True)
    assert build_corpus(replace(packed, separator=7)).separator == 7
    assert build_corpus(replace(config, separator=7)).separator == -1
    with pytest.raises(TrainerError, match=r'set data.separator .*, or data.attend = "window"'):
        build_corpus(packed)
    assert build_corpus(replace(packed, attend="window")).separator >= 0  # packed, and refused so


def test_a_tokenizer_tells_bytes_and_documents(config: DataConfig, tmp_path: Path) -> None:
    texts = ["Lobsters live in cold water: größere, 龙虾.", "They hide by day and look for 🦞."]
    made = open_tokenizer(replace(config, tokenizer="bpe", vocabulary_size=300), texts)
    made.tokenizer.save(str(tmp_path / "tokenizer.json"))
    counts = made.tokens(texts, np.arange(2))
    stream = [made.end, *(t for t in counts.flat.tolist() if t != made.begin)]
    np.array(stream).astype("<u2").tofile(Path(config.name) / "val.bin")
    known = replace(config, tokenizer=str(tmp_path / "tokenizer.json"), pack=True)
    numbers(1003, 0, 299).astype("<u2").tofile(Path(config.name) / "train.bin")
    corpus = build_corpus(known)
    assert corpus.vocabulary_size == 300
    assert corpus.separator == made.end
    assert corpus.validation.scored_bytes == sum(len(text.encode()) for text in texts)
    assert Tokenizer.from_str(corpus.tokenizer).get_vocab_size() == 300


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"val.bin": None}, "no file of validation tokens beside .*train.bin: name it val.bin"),
        ({"train.bin": b""}, "train.bin is no whole file of tokens: it has 0 bytes"),
        ({"train.bin": b"abc"}, "train.bin is no file of tokens: it has 3 bytes, odd"),
        (
            {"train.bin": header(20240520, 99) + b"12"},
            "train.bin is no whole file of tokens: it has 1,026 bytes, of 1,222",
        ),
        (
            {"val.bin": np.array([1, 500, 2], "<u2").tobytes()},
            " is 500, and .*val.bin holds the token 500: set it to the size",
        ),
    ],
)
def test_what_is_wrong_is_one_line(
    config: DataConfig, spoil: dict[str, bytes | None], message: str
) -> None:
    for name, content in spoil.items():
        path = Path(config.name) / name
        path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(TrainerError, match=rf"^data\.\w+.*{message}") as caught:
        build_corpus(config)
    assert "\n" not in str(caught.value)


def test_what_says_nothing_of_token_files_is_refused(config: DataConfig) -> None:
    with pytest.raises(TrainerError, match=re.escape('data.tokenizer = "bpe" says nothing')):
        build_corpus(replace(config, tokenizer="bpe"))
    with pytest.raises(TrainerError, match="is token files already"):
        build_corpus(replace(config, pack=True, stream=True))
    with pytest.raises(TrainerError, match=r"there is no file or folder nowhere/train.bin"):
        build_corpus(replace(config, name="nowhere/train.bin"))


def test_a_pickle_beside_them_is_not_read(config: DataConfig) -> None:
    mark = Path(config.name) / "mark"

    class Touches:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(mark),)

    content = pickle.dumps({"vocab_size": Touches()})
    pickle.loads(content)
    mark.rmdir()  # it was there: whoever loads the pickle makes it
    (Path(config.name) / "meta.pkl").write_bytes(content)
    build_corpus(config)
    assert not mark.exists()
