"""Text files: one, or a folder of them."""

import re
from pathlib import Path

from trainers.data.paragraphs import (
    Paragraphs,
    in_units,
    long_enough,
    split_paragraphs,
    split_units,
)
from trainers.errors import TrainerError

SUFFIXES = (".txt", ".md")
_MANY_FILES = 40  # from here on a whole file is the unit that is held out or not
_TRAIN = re.compile(r"train", re.IGNORECASE)
_VALIDATION = re.compile(r"(valid|validation|val|dev)(?![a-z])", re.IGNORECASE)


def local_path(name: str) -> Path:
    """Turn a name into a path, "~" for the home folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise TrainerError(
            f"data.name: there is no home folder for {name}: check the path"
        ) from None


def files(name: str) -> list[Path]:
    """List the text files behind a path: itself, or a folder's .txt and .md, sorted.

    Raises:
        TrainerError: where there is nothing of the kind.
    """
    path = local_path(name)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if _is_text(file))
        if not found:
            raise TrainerError(
                f"data.name: the folder {name} holds no .txt or .md file: name one that does"
            )
        return found
    if not path.is_file():
        raise TrainerError(f"data.name: there is no file or folder {name}: check the path")
    if not _is_text(path):
        raise TrainerError(
            f"data.name: {name} is neither .txt nor .md: rename it if it is text; put .parquet, "
            ".jsonl or .csv into a folder and name the folder"
        )
    return [path]


def content(file: Path) -> bytes:
    """Read a file's bytes.

    Raises:
        TrainerError: where they cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise TrainerError(f"data.name: {file} cannot be read: {error.strerror}") from None


def read(name: str, minimum_words: int) -> Paragraphs:
    """Read text and split it.

    Files called train... and valid... (validation, val, dev) are the splits as they are, and
    test files are left alone. Otherwise one unit of ten is held out by a hash of its content:
    50 consecutive paragraphs of a file, or, from 40 files on, a file.

    Args:
        name: a .txt or .md file, or a folder of them.
        minimum_words: shorter paragraphs are left out.

    Raises:
        TrainerError: where it cannot be read, or is too little for two splits.
    """
    found = files(name)
    train = [file for file in found if _TRAIN.match(file.stem)]
    validation = [file for file in found if _VALIDATION.match(file.stem)]
    if train and validation:
        return Paragraphs(
            [text for file in train for text in _paragraphs(file, minimum_words)],
            [text for file in validation for text in _paragraphs(file, minimum_words)],
            source=name,
        )
    each = [_paragraphs(file, minimum_words) for file in found]
    units = each if len(each) >= _MANY_FILES else [unit for one in each for unit in in_units(one)]
    return Paragraphs(*split_units(units, name), source=name)


def _is_text(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def _paragraphs(file: Path, minimum_words: int) -> list[str]:
    try:
        text = content(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TrainerError(
            f"data.name: {file} is not UTF-8 text (byte {error.start}): convert it or leave it out"
        ) from None
    return long_enough(split_paragraphs(text), minimum_words)
