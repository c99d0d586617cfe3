"""Text files: one, or a folder of them."""

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from trainers.data.files import own_files
from trainers.data.paragraphs import (
    Kept,
    Paragraphs,
    in_units,
    split_paragraphs,
    split_units,
)
from trainers.errors import TrainerError
from trainers.naming import TEXT_SUFFIXES, local_path

_MANY_FILES = 40  # from here on a whole file is the unit that is held out or not
_SPLIT = re.compile(
    r"(train(?:ing)?|validation|valid|val|dev|test)(?![a-z])(.*)", re.IGNORECASE | re.DOTALL
)
_LINE_ENDS = str.maketrans({"\u2028": "\n", "\u2029": "\n\n", "\x85": "\n"})


def files(name: str) -> list[Path]:
    """List the text files behind a path: itself, or a folder's .txt and .md, sorted.

    Raises:
        TrainerError: where there is nothing of the kind.
    """
    path = local_path(name)
    if path.is_dir():
        found = [file for file in own_files(path) if _is_text(file)]
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


def digest(file: Path) -> bytes:
    """Hash a file's bytes.

    Raises:
        TrainerError: where they cannot be read.
    """
    try:
        status = file.stat()
        return _digest(file.absolute(), status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise _unreadable(file, error) from None


@lru_cache(maxsize=10_000)
def _digest(path: Path, modified_ns: int, size: int) -> bytes:
    """A command asks for the same files several times."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _unreadable(file: Path, error: OSError) -> TrainerError:
    return TrainerError(f"data.name: {file} cannot be read: {error.strerror}")


def read(name: str, minimum_words: int) -> Paragraphs:
    """Read text and split it.

    Files called train and valid (validation, val, dev), with a number or the same word behind
    both, are the splits as they are, and the other files are left out. Otherwise one unit of ten
    is held out by a hash of its content: 50 consecutive paragraphs of a file, or, from 40 files
    on, a file.

    Args:
        name: a .txt or .md file, or a folder of them.
        minimum_words: shorter paragraphs are left out.

    Raises:
        TrainerError: where it cannot be read, or is too little for two splits.
    """
    found, kept = files(name), Kept(minimum_words)
    train, validation = _splits(found)
    if train:
        first, second = (
            [text for file in each for text in kept.of(_paragraphs(file))]
            for each in (train, validation)
        )
        others = [file for file in found if file not in {*train, *validation}]
        left = left_out(others, "neither training nor validation")
        return Paragraphs(first, second, source=name, notes=(*left, *kept.notes))
    each = [list(kept.of(_paragraphs(file))) for file in found]
    units = each if len(each) >= _MANY_FILES else [unit for one in each for unit in in_units(one)]
    path = local_path(name)
    others = [file for file in own_files(path) if not _is_text(file)] if path.is_dir() else []
    left = left_out(others, "neither .txt nor .md")
    return Paragraphs(*split_units(units, name), source=name, notes=(*left, *kept.notes))


def _splits(found: list[Path]) -> tuple[list[Path], list[Path]]:
    """The files of training and of validation; none where the names do not say so.

    "train-delays" and "dev-notes" are notes; "train-en" and "dev-en" are splits, as are
    "train-00000-of-00002" and "valid", or any where every file is called so.
    """
    named = [(file, _SPLIT.fullmatch(file.stem)) for file in found]
    splits = [(file, match[1].lower(), _word(match[2])) for file, match in named if match]
    train = {file: word for file, split, word in splits if split.startswith("train")}
    validation = {file: word for file, split, word in splits if split[0] in "vd"}
    words = {*train.values()} & {*validation.values()}
    if len(splits) == len(found) and train and validation:
        words = {*train.values(), *validation.values()}
    first, second = ([file for file in each if each[file] in words] for each in (train, validation))
    return first, second


def _word(rest: str) -> str:
    """What stands behind a split's name, but for the numbers of its parts."""
    return re.sub(r"[-_. ]*(\d+([-_. ]*of[-_. ]*\d+)?)?", "", rest).lower()


def left_out(files: list[Path], why: str) -> tuple[str, ...]:
    """What to say of files that are not read, and how much that is."""
    if not files:
        return ()
    names = ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "")
    size = f"{sum(file.stat().st_size for file in files) / 1000:,.0f} kB"
    number = "1 file is" if len(files) == 1 else f"{len(files)} files are"
    return (f"{number} left out ({size}), {why}: {names}",)


def _is_text(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in TEXT_SUFFIXES


def _paragraphs(file: Path) -> list[str]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(file, error) from None
    except UnicodeDecodeError as error:
        raise TrainerError(
            f"data.name: {file} is not UTF-8 text (byte {error.start}): convert it or leave it out"
        ) from None
    return split_paragraphs(text.translate(_LINE_ENDS))
