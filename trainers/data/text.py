"""Text files: one, or a folder of them."""

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path

from trainers.data.files import own_files
from trainers.data.paragraphs import (
    Again,
    Kept,
    Paragraphs,
    is_a_line_each,
    long_enough,
    paragraphs_of,
    split_stream,
    units_of,
)
from trainers.data.streaming import Documents
from trainers.errors import TrainerError
from trainers.naming import TEXT_SUFFIXES, local_path

_HELD_BYTES = 50_000_000  # a text up to this is held: read anew each time it takes twice as long
_FEW_LINES = 10_000  # that say of a text that is read once where its paragraphs end
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
    hold = sum(file.stat().st_size for file in found) <= _HELD_BYTES
    train, validation = _splits(found)
    if train:
        first, second = (
            Again(partial(itertools.chain.from_iterable, _each(kept, split, hold)))
            for split in (train, validation)
        )
        others = [file for file in found if file not in {*train, *validation}]
        left = left_out(others, "neither training nor validation")
        return Paragraphs(first, second, source=name, notes=(*left, *kept.notes))
    each = _each(kept, found, hold)
    a_file = len(each) >= _MANY_FILES
    units = Again(lambda: (u for one in each for u in ([list(one)] if a_file else units_of(one))))
    path = local_path(name)
    others = [file for file in own_files(path) if not _is_text(file)] if path.is_dir() else []
    left = left_out(others, "neither .txt nor .md")
    return Paragraphs(*split_stream(units, name), source=name, notes=(*left, *kept.notes))


def stream(name: str) -> Documents:
    """Open text files to be read once, a paragraph a document; the splits are those of `read`.

    Raises:
        TrainerError: where they cannot be read.
    """
    found = files(name)
    train, validation = _splits(found)
    if not train:
        return Documents(_streamed(found), None, source=name)
    return Documents(_streamed(train), _streamed(validation), source=name)


def _streamed(files: list[Path]) -> Iterator[str]:
    for file in files:
        a_line_each = is_a_line_each(itertools.islice(_lines(file), _FEW_LINES))
        yield from paragraphs_of(_lines(file), a_line_each=a_line_each)


def _each(kept: Kept, files: list[Path], hold: bool) -> list[Iterable[str]]:
    return [_kept(kept, file, hold) for file in files]


def _kept(kept: Kept, file: Path, hold: bool) -> Iterable[str]:
    """A file's paragraphs that are long enough, counted; read anew each time if not held."""
    paragraphs = _paragraphs(file)
    if hold:
        return list(kept.of(paragraphs))
    for _ in kept.of(paragraphs):
        pass
    return Again(partial(long_enough, paragraphs, kept.minimum_words))


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


def _paragraphs(file: Path) -> Iterable[str]:
    """A file's paragraphs, a line at a time: it may be larger than the memory."""
    lines = Again(lambda: _lines(file))
    a_line_each = is_a_line_each(lines)  # what is wrong is found before anything is made of it
    return Again(lambda: paragraphs_of(lines, a_line_each=a_line_each))


def _lines(file: Path) -> Iterator[str]:
    position = 0
    try:
        with file.open("rb") as lines:
            for line in lines:
                yield from _decoded(file, line, position).split("\n")
                position += len(line)
    except OSError as error:
        raise _unreadable(file, error) from None


def _decoded(file: Path, line: bytes, position: int) -> str:
    wrong = line.find(b"\0")  # UTF-16 without a mark is UTF-8 too, of every other letter
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        wrong = error.start
    if wrong >= 0:
        raise TrainerError(
            f"data.name: {file} is not UTF-8 text (byte {position + wrong}): convert it or leave "
            "it out"
        )
    text = text if position else text.removeprefix("\ufeff")
    text = text.translate(_LINE_ENDS).replace("\r\n", "\n").replace("\r", "\n")
    return text.removesuffix("\n")
