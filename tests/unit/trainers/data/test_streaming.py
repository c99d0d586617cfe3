"""A text that is read once, from its beginning, no more of it than is asked for."""

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest

from trainers.config import DataConfig
from trainers.data import build_corpus, hub, load_corpus, source_bytes, source_fingerprint, text
from trainers.data.reach import UnreachableError
from trainers.data.streaming import Documents, Streamed, stream
from trainers.data.subwords import read_tokenizer
from trainers.errors import TrainerError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    return tmp_path / "cache" / "sweep"


def document(number: int) -> str:
    return f"In year {number} the town built a bridge,\n\n  and größere Häuser for {number} 🦞."


CONFIG = DataConfig(
    name="towns",
    tokenizer="bytes",
    vocabulary_size=300,
    window=16,
    stride=8,
    pack=True,
    stream=True,
)


class Read:
    """Documents, and how many of them were read."""

    def __init__(self, count: int, held: int | None = None) -> None:
        self.count, self.held, self.read = count, held, 0

    def __call__(self) -> Documents:
        held = None if self.held is None else (document(-1 - n) for n in range(self.held))
        return Documents(self._each(), held, source="towns")

    def _each(self) -> Iterator[str]:
        for number in range(self.count):
            self.read += 1
            yield document(number)


def tokens_of(folder: Path, name: str, made: tuple[str, int]) -> list[int]:
    found = np.fromfile(folder / name, made[0])
    assert len(found) == made[1]
    return [int(token) for token in found]


def documents_of(folder: Path, made: Streamed, name: str) -> list[str]:
    """What a file says, read back by the tokenizer beside it."""
    encoder = read_tokenizer(folder / "tokenizer.json")
    tokens = tokens_of(folder, name, made.train if name == "train.bin" else made.validation)
    assert tokens[0] == tokens[-1] == made.separator == encoder.end
    parts: list[list[int]] = [[]]
    for token in tokens[1:]:
        if token == made.separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return [encoder.tokenizer.decode(part) for part in parts[:-1]]


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_documents_stand_as_they_are_one_of_ten_held_out(kind: str) -> None:
    folder, made = stream(replace(CONFIG, tokenizer=kind), Read(300), "")
    train, held = (documents_of(folder, made, name) for name in ("train.bin", "val.bin"))
    assert sorted(train + held) == sorted(document(number) for number in range(300))
    assert 15 < len(held) < 50
    assert made.lost == 0
    assert len(made.vocabulary) == (260 if kind == "bytes" else 300)


def test_a_split_of_its_own_is_taken() -> None:
    folder, made = stream(CONFIG, Read(20, held=3), "")
    assert documents_of(folder, made, "train.bin") == [document(number) for number in range(20)]
    assert documents_of(folder, made, "val.bin") == [document(-1 - number) for number in range(3)]


def test_no_more_is_read_than_is_asked_for() -> None:
    reads = Read(10**9, held=10**9)
    asked = replace(CONFIG, train_sequences=5_000, validation_sequences=20)
    _, made = stream(asked, reads, "")
    assert 5_000 * 15 < made.train[1] < 5_000 * 15 + 100_000
    # A million characters from which words or subwords would be learned are the least.
    assert reads.read < 20_000
    held_out = Read(10**9)
    _, made = stream(replace(asked, minimum_words=4), held_out, "")
    assert held_out.read < 30_000
    assert made.validation[1] >= 20 * 15 + 1


def test_words_are_learned_from_the_beginning() -> None:
    folder, made = stream(replace(CONFIG, tokenizer="words"), Read(300), "")
    assert made.vocabulary[:4] == ("<pad>", "<unk>", "<bos>", "<eos>")
    assert {"town", "bridge", "🦞."} <= set(made.vocabulary)
    assert not (folder / "tokenizer.json").exists()
    tokens = tokens_of(folder, "val.bin", made.validation)
    assert {made.vocabulary[token] for token in tokens} >= {"<eos>", "in", "year", "town"}


def test_it_is_made_once_for_the_same_settings(cache: Path) -> None:
    reads = Read(300)
    folder, made = stream(CONFIG, reads, "abc")
    first = reads.read
    assert stream(CONFIG, reads, "abc") == (folder, made)
    assert reads.read == first
    for other, content in ((replace(CONFIG, window=17), "abc"), (CONFIG, "abd")):
        assert stream(other, reads, content)[0] != folder
    assert len(list(cache.iterdir())) == 3  # and nothing that was left half done


def test_what_breaks_off_leaves_nothing(cache: Path) -> None:
    class BrokenOffError(Exception):
        pass

    def broken() -> Documents:
        def each() -> Iterator[str]:
            yield from map(document, range(50))
            raise BrokenOffError

        return Documents(each(), None, source="towns")

    with pytest.raises(BrokenOffError):
        stream(CONFIG, broken, "")
    assert list(cache.iterdir()) == []
    with pytest.raises(TrainerError, match="too little text: towns has no validation document"):
        stream(CONFIG, Read(2, held=0), "")
    assert list(cache.iterdir()) == []


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A folder with a .jsonl, a document a line."""
    folder = tmp_path / "towns"
    folder.mkdir()
    rows = (json.dumps({"text": document(number)}) for number in range(3_000))
    (folder / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder


def test_a_folder_of_tables_is_streamed(lines: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, name=str(lines), train_sequences=400, validation_sequences=50)
    corpus = build_corpus(config)
    assert (len(corpus.train), len(corpus.validation)) == (400, 50)
    assert (corpus.source, corpus.separator) == (str(lines), 3)
    assert corpus.validation.scored_bytes == pytest.approx(50 * 15, rel=0.03)  # but for <eos>
    stored = load_corpus(config, tmp_path / "study")
    assert stored.fingerprint == corpus.fingerprint
    assert (tmp_path / "study" / "tokenizer.json").is_file()
    assert source_bytes(config) == 0 < source_bytes(replace(config, stream=False))
    before = source_fingerprint(config)
    with (lines / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps({"text": "more"}))
    assert source_fingerprint(config) != before


def test_a_folder_that_was_saved_is_streamed(tmp_path: Path) -> None:
    split = datasets.Dataset.from_dict({"text": [document(number) for number in range(200)]})
    datasets.DatasetDict({"train": split, "test": split.select(range(9))}).save_to_disk(
        str(tmp_path / "saved")
    )
    corpus = build_corpus(replace(CONFIG, name=str(tmp_path / "saved")))
    assert corpus.validation.scored == sum(len(document(n).encode()) + 1 for n in range(9))
    assert "rates are chosen by the test split" in corpus.notes[0]


@pytest.mark.parametrize("names", [["letters.txt"], ["train.txt", "valid.txt"]])
def test_text_files_are_streamed(tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    for name in names:
        parts = (f"{document(number)} {name}" for number in range(400))
        (folder / name).write_text("\n\n".join(parts), encoding="utf-8")
    corpus = build_corpus(replace(CONFIG, name=str(folder)))
    first = list(text.stream(str(folder)).train)
    assert first[:2] == [
        " ".join(part.split())
        for part in (
            "In year 0 the town built a bridge,",
            f"and größere Häuser for 0 🦞. {names[0]}",
        )
    ]
    assert corpus.validation.scored_bytes > 0


def test_the_hub_is_asked_for_a_stream(monkeypatch: pytest.MonkeyPatch, lines: Path) -> None:
    real, asked = datasets.load_dataset, []

    def load(name: str, subset: str | None, *, streaming: bool) -> object:
        asked.append((name, subset, streaming))
        return real(str(lines), streaming=streaming)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(hub, "why_unreachable", lambda: "")
    config = replace(CONFIG, name="someone/towns", subset="small", train_sequences=10)
    corpus = build_corpus(config)
    assert asked == [("someone/towns", "small", True)]
    assert (corpus.source, len(corpus.train)) == ("someone/towns/small", 10)


def test_where_the_hub_is_away_the_fallback_is_packed(
    monkeypatch: pytest.MonkeyPatch, lines: Path
) -> None:
    monkeypatch.setattr(hub, "why_unreachable", lambda: "the hub is away")
    config = replace(CONFIG, name="someone/towns")
    with pytest.raises(UnreachableError, match="the hub is away, and someone/towns is not in"):
        build_corpus(config)
    corpus = build_corpus(replace(config, fallback=str(lines)))
    assert corpus.notes[0].startswith("the hub is away: training on ")
    assert (corpus.separator, corpus.config.name) == (3, "someone/towns")


def test_what_cannot_be_streamed_is_refused() -> None:
    with pytest.raises(TrainerError, match="docstrings is no data set and no text file"):
        build_corpus(replace(CONFIG, name="docstrings"))
    with pytest.raises(ValueError, match=r"set data.pack = true as well"):
        replace(CONFIG, pack=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_shown_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (io.StringIO(), Terminal()):
        monkeypatch.setattr(sys, "stderr", terminal)
        stream(CONFIG, Read(300), type(terminal).__name__)
        said = terminal.getvalue()
        assert ("towns" in said and "token" in said) == terminal.isatty()
