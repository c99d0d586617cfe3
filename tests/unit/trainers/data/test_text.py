"""Text files: how they are cut into paragraphs and splits, and what the user is told."""

import argparse
import inspect
import json
import logging
import string
import subprocess
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from trainers.config import DataConfig
from trainers.data import build_corpus, source_fingerprint, text
from trainers.data.paragraphs import Paragraphs, held_out, long_enough, split_paragraphs
from trainers.errors import TrainerError

WRAPPED = """The lobster is a large crustacean that lives
in cold water, on rocky ground,
and hides by day.

It eats mussels, starfish and worms.
\t
At night it leaves its hole to look for food.
"""


def read(name: str, minimum_words: int) -> Paragraphs:
    """A text's splits as lists."""
    found = text.read(name, minimum_words)
    return replace(found, train=list(found.train), validation=list(found.validation))


def sentence(number: int) -> str:
    return f"On day {number} the harbour master counted {number * 3} boats and wrote them down."


def real_paragraphs() -> list[str]:
    texts = [
        inspect.getdoc(thing) or ""
        for module in (argparse, json, logging, string, subprocess)
        for thing in (module, *vars(module).values())
        if inspect.ismodule(thing) or inspect.isclass(thing) or inspect.isfunction(thing)
    ]
    return list(long_enough((text for each in texts for text in split_paragraphs(each)), 5))


def test_blank_lines_separate_hard_wrapped_paragraphs() -> None:
    assert split_paragraphs(WRAPPED) == [
        "The lobster is a large crustacean that lives in cold water, on rocky ground, "
        "and hides by day.",
        "It eats mussels, starfish and worms.",
        "At night it leaves its hole to look for food.",
    ]
    assert split_paragraphs(WRAPPED.replace("\n", "\r\n")) == split_paragraphs(WRAPPED)


def test_wikitext_has_a_paragraph_a_line() -> None:
    long = "The lobster is related to the crayfish , and lives in the sea , not in a brook . " * 4
    text = f" \n = Lobster = \n \n {long}\n {long[10:]}\n \n = = Food = = \n \n {long[20:]}\n"
    found = split_paragraphs(text)
    assert [len(each) > 160 for each in found] == [False, True, True, False, True]
    assert found[0] == "= Lobster ="


def test_text_without_blank_lines_has_a_paragraph_a_line() -> None:
    assert split_paragraphs("\nOne sentence stands here.\nAnother one there.\n\n") == [
        "One sentence stands here.",
        "Another one there.",
    ]


def test_words_are_counted_without_punctuation() -> None:
    assert list(long_enough(["= = Food = =", "It eats mussels , mostly .", "a b c"], 4)) == [
        "It eats mussels , mostly ."
    ]


def test_train_and_validation_files_are_the_splits(tmp_path: Path) -> None:
    for name, day in (("train-1", 1), ("train-2", 2), ("Valid", 3), ("test", 4), ("notes", 5)):
        (tmp_path / f"{name}.txt").write_text(sentence(day), encoding="utf-8")
    found = read(str(tmp_path), 5)
    assert (found.train, found.validation) == ([sentence(1), sentence(2)], [sentence(3)])


def test_no_paragraph_stands_in_both_splits(tmp_path: Path) -> None:
    paragraphs = real_paragraphs()
    refrain = "For the options see the manual that came with the program."
    for number in range(45):  # each file repeats the refrain, and half of the file before
        part = paragraphs[number * 4 : number * 4 + 8]
        text = "\n\n".join([refrain, *part, refrain.upper()])
        (tmp_path / f"{number:02}.md").write_text(text, encoding="utf-8")
    found = read(str(tmp_path), 5)
    train, validation = ([t.lower() for t in part] for part in (found.train, found.validation))
    assert len(train) > len(validation) > 1
    assert not set(train) & set(validation)
    assert (train + validation).count(refrain.lower()) == 1


def test_many_files_are_kept_whole(tmp_path: Path) -> None:
    files = [[sentence(100 * file + number) for number in range(70)] for file in range(40)]
    for number, lines in enumerate(files):
        (tmp_path / f"{number}.txt").write_text("\n".join(lines), encoding="utf-8")
    validation = set(read(str(tmp_path), 5).validation)
    assert validation
    assert {len(validation & set(lines)) for lines in files} == {0, 70}


def test_a_long_file_is_split_in_units_of_fifty(tmp_path: Path) -> None:
    lines = [sentence(number) for number in range(2_000)]
    (tmp_path / "log.txt").write_text("\n".join(lines), encoding="utf-8")
    found = read(str(tmp_path / "log.txt"), 5)
    units = ["\n".join(lines[start : start + 50]) for start in range(0, 2_000, 50)]
    assert found.validation == "\n".join(filter(held_out, units)).split("\n")
    assert sorted(found.train + found.validation) == sorted(lines)


def test_tiny_text_still_has_two_splits(tmp_path: Path) -> None:
    for count in (2, 3, 9, 30, 60):
        (tmp_path / "a.txt").write_text("\n".join(map(sentence, range(count))), encoding="utf-8")
        found = read(str(tmp_path / "a.txt"), 5)
        assert 1 <= len(found.validation) <= max(1, count // 4)
        assert len(found.train) + len(found.validation) == count


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "there is no file or folder"),
        ("./no/such/folder", None, "there is no file or folder"),
        (
            "latin.txt",
            "Käse und Brot gibt es im Café.".encode("latin-1"),
            r"not UTF-8 text \(byte 1\)",
        ),
        ("utf-16.txt", "\ufeffCheese".encode("utf-16-le"), r"not UTF-8 text \(byte 0\)"),
        ("no-mark.txt", "Cheese and bread".encode("utf-16-le"), r"not UTF-8 text \(byte 1\)"),
        ("late.txt", b"\xef\xbb\xbfOne line\nand \xff", r"not UTF-8 text \(byte 16\)"),
        ("empty.txt", b"", "too little text: 0 paragraphs"),
        ("short.txt", b"Too short.\n\nThis too.", "too little text: 0 paragraphs"),
        ("one.txt", sentence(1).encode(), "too little text: 1 paragraphs"),
        ("table.xlsx", b"PK", "neither .txt nor .md"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_bytes(content)
    with pytest.raises(TrainerError, match=message) as caught:
        build_corpus(DataConfig(name=name))
    assert "\n" not in str(caught.value)


def test_folders_that_cannot_be_used_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"holds no \.txt or \.md file"):
        build_corpus(DataConfig(name=str(tmp_path)))
    (tmp_path / "train.txt").write_text("\n".join(map(sentence, range(9))), encoding="utf-8")
    (tmp_path / "valid.txt").write_text("Nothing here.", encoding="utf-8")
    with pytest.raises(TrainerError, match="no validation paragraph of 5 words"):
        build_corpus(DataConfig(name=str(tmp_path)))
    with pytest.raises(TrainerError, match=r"data\.name is empty"):
        build_corpus(DataConfig(name=" "))


def test_source_fingerprint_follows_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text(sentence(1), encoding="utf-8")
    config = DataConfig(name=str(tmp_path / "a"))
    before = source_fingerprint(config)
    assert len(before) == 64
    (tmp_path / "a").rename(tmp_path / "b")
    assert source_fingerprint(DataConfig(name=str(tmp_path / "b"))) == before
    (tmp_path / "b" / "x.txt").write_text(sentence(2), encoding="utf-8")
    assert source_fingerprint(DataConfig(name=str(tmp_path / "b"))) != before
    with pytest.raises(TrainerError, match="there is no file or folder"):
        source_fingerprint(config)
    assert source_fingerprint(DataConfig(name="docstrings")) == ""
    assert source_fingerprint(DataConfig(name="Salesforce/wikitext")) == ""


def notes_of(folder: Path) -> str:
    return "; ".join(build_corpus(DataConfig(name=str(folder))).notes)


def write(folder: Path, name: str, first: int, count: int = 60) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(sentence(first + each) for each in range(count)), encoding="utf-8")


def words_of(folder: Path) -> set[str]:
    found = read(str(folder), 5)
    return {text.split()[2] for text in (*found.train, *found.validation)}


def test_what_tools_leave_is_neither_read_nor_hashed(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", 0)
    before = source_fingerprint(DataConfig(name=str(tmp_path)))
    for name in ("._a.txt", ".ipynb_checkpoints/a.md", "~$a.md", "__MACOSX/b.txt"):
        write(tmp_path, name, 900)
    (tmp_path / ".DS_Store").write_bytes(b"\x00\xff")
    (tmp_path / ".cache.csv").write_text("text\n")  # no data set either
    assert words_of(tmp_path) == {str(number) for number in range(60)}
    assert source_fingerprint(DataConfig(name=str(tmp_path))) == before


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    write(tmp_path / "text", "a.txt", 0)
    write(tmp_path / "elsewhere", "b.txt", 500)
    (tmp_path / "text" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "text" / "back").symlink_to(tmp_path / "text")
    assert words_of(tmp_path / "text") == {str(n) for n in (*range(60), *range(500, 560))}


def test_notes_on_trains_are_notes(tmp_path: Path) -> None:
    for number in range(50):
        write(tmp_path, f"note-{number}.md", 100 * number, 5)
    write(tmp_path, "train-delays.md", 9_000, 5)
    write(tmp_path, "dev-notes.md", 9_100, 5)
    assert len(words_of(tmp_path)) == 52 * 5


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ("train", "valid"),
        ("train-en", "dev-en"),
        ("train-00000-of-00002", "validation-00000-of-00001"),
        ("training", "val"),
        ("train_small", "dev"),
    ],
)
def test_splits_have_one_name_but_for_the_numbers(
    tmp_path: Path, train: str, validation: str
) -> None:
    write(tmp_path, f"{train}.txt", 0)
    write(tmp_path, f"{validation}.txt", 500)
    found = read(str(tmp_path), 5)
    assert (len(list(found.train)), found.validation[0]) == (60, sentence(500))


def test_what_is_left_out_is_said_with_its_size(tmp_path: Path) -> None:
    for name in ("train.txt", "valid.txt", "notes.txt"):
        write(tmp_path, name, 0)
    size = (tmp_path / "notes.txt").stat().st_size / 1000
    assert notes_of(tmp_path).startswith(
        f"1 file is left out ({size:.0f} kB), neither training nor validation: notes.txt"
    )
    (tmp_path / "train.txt").write_text(sentence(1) + "\n" + "Too short.\n" * 30)
    assert "7 % of the text is left out: paragraphs of under 5 words" in notes_of(tmp_path)
    for name in ("valid.txt", "notes.txt"):
        (tmp_path / name).unlink()
    write(tmp_path, "train.txt", 0)
    (tmp_path / "a.rst").write_text("Not read.")
    assert "1 file is left out (0 kB), neither .txt nor .md: a.rst" in notes_of(tmp_path)


@pytest.mark.parametrize("end", [" ", "\u2028", "\u2029", "\x85"])
def test_one_long_line_and_other_line_ends_are_text(tmp_path: Path, end: str) -> None:
    text = end.join(map(sentence, range(200)))
    (tmp_path / "line.txt").write_text(text, encoding="utf-8")
    found = read(str(tmp_path), 5)
    assert " ".join((*found.train, *found.validation)) == text.replace(end, " ")
    assert 0 < len(found.validation) <= len(found.train) / 4


def test_a_text_without_blanks_is_read_by_its_letters(tmp_path: Path) -> None:
    lines = [f"第{number}天港务长数了船只然后记在本子上。" for number in range(300)]
    (tmp_path / "zh.txt").write_text("\n".join(lines), encoding="utf-8")
    corpus = build_corpus(DataConfig(name=str(tmp_path)))
    assert {"港", "务", "长"} <= set(corpus.vocabulary)
    assert corpus.unknown_share < 0.1
    assert len(corpus.train.lengths) + len(corpus.validation.lengths) == 300
    assert len(list(long_enough(["ここで夜になると海老は岩を出る"], 5))) == 1


def test_a_name_that_is_no_utf8_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "a\udcff.txt").write_text("\n".join(map(sentence, range(60))))
    assert len(words_of(tmp_path)) == 60
    assert len(source_fingerprint(DataConfig(name=str(tmp_path)))) == 64


def test_validation_that_stands_in_training_is_counted(tmp_path: Path) -> None:
    write(tmp_path, "train.txt", 0)
    write(tmp_path, "valid.txt", 40, 25)  # 20 of them are training's
    corpus = build_corpus(DataConfig(name=str(tmp_path)))
    told = "20 of 25 validation paragraphs stand in training too: they are no new text"
    assert told in corpus.notes
    write(tmp_path, "valid.txt", 500, 25)
    assert "stand in training" not in " ".join(build_corpus(DataConfig(name=str(tmp_path))).notes)


def test_a_plan_beside_others_is_no_split(tmp_path: Path) -> None:
    write(tmp_path, "training-plan.md", 0)
    write(tmp_path, "dev.md", 500)
    write(tmp_path, "other.md", 1000)
    assert len(words_of(tmp_path)) == 180


def test_a_text_of_any_size_is_read_a_line_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same windows as of a text that is held, in memory that does not grow with it."""
    file = tmp_path / "long.txt"
    line = "they wrote down what the harbour master had told them of the boats" * 12
    file.write_text("\n".join(f"on day {number} {line}" for number in range(2_000)))
    config = DataConfig(name=str(file), train_sequences=100, validation_sequences=9)
    held = build_corpus(config)
    monkeypatch.setattr(text, "_HELD_BYTES", 1_000_000)
    assert build_corpus(config).fingerprint == held.fingerprint
    tracemalloc.start()
    found = text.read(str(file), 5)
    assert sum(1 for _ in found.train) + sum(1 for _ in found.validation) == 2_000
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < file.stat().st_size / 2


def test_split_files_of_any_size_are_those_of_a_text_that_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, first in (("train-1", 0), ("train-2", 100), ("valid", 200)):
        write(tmp_path, f"{name}.txt", first)
    held = read(str(tmp_path), 5)
    monkeypatch.setattr(text, "_HELD_BYTES", 0)
    assert read(str(tmp_path), 5) == held
    assert len(list(held.train)) == 120
