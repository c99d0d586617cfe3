"""Files of token numbers, mapped into memory: `.bin` as nanoGPT, llm.c and modded-nanogpt write it.

A file is raw little-endian uint16 or uint32, or has llm.c's header of 256 int32 before them: its
magic number, a version, and how many tokens follow. Nothing of it is ever held whole.
"""

import hashlib
import logging
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainers.errors import TrainerError
from trainers.naming import TOKEN_SUFFIX, local_path

log = logging.getLogger("trainers.data")

HEADER_BYTES = 1024
HEADERS = {20240520: "<u2", 20240801: "<u4"}
"""The type behind each magic number of llm.c: GPT-2's tokens, and Llama 3's."""
RAW = ("<u2", "<u4")
AT_ONCE = 2**22  # tokens that are looked at together
PIECES, PIECE_BYTES = 64, 2**20  # of a file that stand for its content
COUNTED = 2**27  # tokens whose frequencies are counted: more change no unigram perplexity

Numbers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A file of tokens.

    Attributes:
        path: absolute.
        type: "<u2" or "<u4".
        offset: bytes before the first token.
        count: its tokens.
    """

    path: str
    type: str
    offset: int
    count: int

    def tokens(self) -> Numbers:
        """Its tokens, (count,), mapped: what is read of them is read from the file.

        Raises:
            TrainerError: the file is gone or shorter than it was.
        """
        try:
            status = Path(self.path).stat()
            return _mapped(self, status.st_mtime_ns, status.st_size)
        except (OSError, ValueError) as error:
            raise TrainerError(
                f"the token file {self.path} cannot be mapped ({error}): put it back, or delete "
                "the study's corpus.safetensors to build it again"
            ) from None


@lru_cache(maxsize=64)
def _mapped(file: TokenFile, modified_ns: int, size: int) -> Numbers:
    return np.memmap(file.path, file.type, "r", file.offset, (file.count,))


@dataclass(frozen=True, slots=True)
class MappedSequences:
    """The windows of one split in token files, which are cut from these as batches are made.

    Window k of a file begins at its token k * (window - 1), so that each token but its first is
    predicted once; a file's last window is shorter. They are numbered through all files.

    Attributes:
        files: in their order.
        window: W, tokens of a window.
        most: the first so many windows; 0 takes all.
        scored_bytes: as of `Sequences`.
    """

    files: tuple[TokenFile, ...]
    window: int
    most: int = 0
    scored_bytes: int = 0

    def __len__(self) -> int:
        every = sum(self._windows())
        return min(self.most, every) if self.most else every

    @property
    def targets(self) -> int:
        """How many tokens are predicted."""
        return sum(end - 1 for _, end in self.parts())

    @property
    def scored(self) -> int:
        """How many tokens validation scores: all that are predicted."""
        return self.targets

    def parts(self) -> Iterator[tuple[TokenFile, int]]:
        """Yield the files that are read, and how many of the tokens of each."""
        left = len(self)
        for file, windows in zip(self.files, self._windows(), strict=True):
            if left > 0:
                yield file, min(file.count, 1 + min(left, windows) * (self.window - 1))
            left -= windows

    def rows(self, numbers: npt.NDArray[np.int64]) -> tuple[list[Numbers], npt.NDArray[np.int64]]:
        """Cut windows out.

        Args:
            numbers: which.

        Returns:
            The tokens of each, mapped, and how many each has.
        """
        firsts = np.cumsum([0, *self._windows()])
        which = np.searchsorted(firsts, numbers, "right") - 1
        starts = (numbers - firsts[which]) * (self.window - 1)
        maps = [file.tokens() for file in self.files]
        rows = [
            maps[file][start : start + self.window]
            for file, start in zip(which.tolist(), starts.tolist(), strict=True)
        ]
        return rows, np.array([len(row) for row in rows], np.int64)

    def content(self) -> str:
        """Hash what the windows are: the files' content as `digest` has it, and how it is cut."""
        hashes = [[digest(Path(file.path)).hex(), file.type, file.count] for file in self.files]
        return hashlib.sha256(repr((hashes, self.window, self.most)).encode()).hexdigest()

    def _windows(self) -> list[int]:
        return [math.ceil((file.count - 1) / (self.window - 1)) for file in self.files]


def is_token_files(name: str) -> bool:
    """Say whether a name is that of a .bin file, or of a folder with such of training."""
    path = local_path(name)
    return path.suffix == TOKEN_SUFFIX or (path.is_dir() and bool(_named(path, "train")))


def paths_of(name: str) -> tuple[list[Path], list[Path]]:
    """List the files of training and of validation behind a name.

    Args:
        name: a folder with train.bin and val.bin, or with parts such as fineweb_train_000001.bin;
            or a file of training with one of validation beside it.

    Raises:
        TrainerError: there are no two splits.
    """
    path = local_path(name)
    if not path.exists():
        raise TrainerError(f"data.name: there is no file or folder {name}: check the path")
    folder = path if path.is_dir() else path.parent
    train = _named(folder, "train") if path.is_dir() else [path]
    validation = [file for file in _named(folder, "val") if file not in train]
    if not validation:
        raise TrainerError(
            f"data.name: there is no file of validation tokens beside {train[0]}: name it val.bin"
        )
    return train, validation


def _named(folder: Path, split: str) -> list[Path]:
    named = re.compile(rf"(.*[^a-z])?{split}(id|idation|ing)?([^a-z].*)?", re.IGNORECASE)
    return sorted(path for path in folder.glob(f"*{TOKEN_SUFFIX}") if named.fullmatch(path.stem))


def open_files(paths: Sequence[Path], vocabulary_size: int) -> tuple[TokenFile, ...]:
    """Say of each file how its tokens lie in it.

    A raw file does not say its type: it is uint32 where all its tokens are then known ones.

    Args:
        paths: of files.
        vocabulary_size: tokens known.

    Raises:
        TrainerError: a file cannot be read, or is none of tokens.
    """
    return tuple(_opened(path, vocabulary_size) for path in paths)


def _opened(path: Path, vocabulary_size: int) -> TokenFile:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError as error:
        raise TrainerError(f"data.name: {path} cannot be read: {error.strerror}") from None
    where = str(path.absolute())
    magic, _, count = (int.from_bytes(header[at : at + 4], "little") for at in (0, 4, 8))
    if magic in HEADERS and len(header) == HEADER_BYTES:
        found = TokenFile(where, HEADERS[magic], HEADER_BYTES, count)
    else:
        found = _raw(where, size, vocabulary_size)
    whole = found.offset + found.count * np.dtype(found.type).itemsize
    if found.count < 2 or whole > size:
        raise TrainerError(
            f"data.name: {path} is no whole file of tokens: it has {size:,} bytes, of {whole:,}"
        )
    return found


def _raw(path: str, size: int, vocabulary_size: int) -> TokenFile:
    if size % 2:
        raise TrainerError(f"data.name: {path} is no file of tokens: it has {size:,} bytes, odd")
    narrow, wide = (TokenFile(path, type_, 0, size // np.dtype(type_).itemsize) for type_ in RAW)
    if size % 4 == 0 and size and int(wide.tokens()[:AT_ONCE].max()) < vocabulary_size:
        return wide
    return narrow


def counted(split: MappedSequences, vocabulary_size: int) -> npt.NDArray[np.int64]:
    """Look at every token that is read: check that it is known, and count how often each stands.

    Args:
        split: the windows.
        vocabulary_size: tokens known.

    Returns:
        (vocabulary_size,), the frequencies, of the first 134 million tokens where there are more.

    Raises:
        TrainerError: a token is over the vocabulary.
    """
    frequency = np.zeros(vocabulary_size, np.int64)
    seen = 0
    for file, end in split.parts():
        tokens = file.tokens()
        for start in range(0, end, AT_ONCE):
            part = tokens[start : min(start + AT_ONCE, end)]
            largest = int(part.max())
            if largest >= vocabulary_size:
                raise TrainerError(
                    f"data.vocabulary_size is {vocabulary_size}, and {file.path} holds the token "
                    f"{largest}: set it to the size of the tokenizer's vocabulary"
                )
            if seen < COUNTED:
                frequency += np.bincount(part, minlength=vocabulary_size)
            seen += len(part)
        log.info("tokens: %s is read", file.path)
    return frequency


def digest(path: Path) -> bytes:
    """Hash a token file by its size and 64 pieces of a megabyte each, over all its length.

    Raises:
        TrainerError: it cannot be read.
    """
    try:
        status = path.stat()
        return _digest(path.absolute(), status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise TrainerError(f"data.name: {path} cannot be read: {error.strerror}") from None


@lru_cache(maxsize=10_000)
def _digest(path: Path, modified_ns: int, size: int) -> bytes:
    found = hashlib.sha256(str(size).encode())
    step = max(PIECE_BYTES, (size - PIECE_BYTES) // (PIECES - 1))
    with path.open("rb") as file:
        for start in range(0, size, step):
            file.seek(start)
            found.update(file.read(PIECE_BYTES))
    return found.digest()
