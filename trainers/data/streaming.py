"""A text that is read once, from its beginning, into token files: no more of it than is asked for.

The files lie in the user's cache, by the settings that made them, and serve every study with the
same ones.
"""

import hashlib
import itertools
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter
from tqdm import tqdm

from trainers.config import DataConfig
from trainers.data.paragraphs import held_out, long_enough
from trainers.data.subwords import Encoder, Subwords, open_tokenizer, tokenizer_content
from trainers.data.token_files import MappedSequences, TokenFile
from trainers.data.vocabulary import learn
from trainers.errors import TrainerError
from trainers.naming import TOKENIZER_FILE, WORDS

log = logging.getLogger("trainers.data")

FORMAT = 1  # raise it when the rules below change: older caches are then not read
TRAIN, VALIDATION, ABOUT = "train.bin", "val.bin", "about.json"
NARROW, WIDE = "<u2", "<u4"
LEARNED_FROM = 50_000_000  # characters at most, from which words and subwords are learned
LEAST_LEARNED_FROM = 1_000_000
CHARACTERS_A_TOKEN = 16  # more than a token has in any text
DOCUMENTS, CHARACTERS = 1_000, 4_000_000  # numbered at once, whichever is reached first
_MADE_BY = (
    *("name", "subset", "text_column", "tokenizer", "vocabulary_size", "window"),
    *("minimum_words", "train_sequences", "validation_sequences"),
)


@dataclass(frozen=True, slots=True)
class Documents:
    """A text as it is streamed.

    Attributes:
        train: its documents, gone through once.
        validation: those of its own validation split; None holds one of ten out, by a hash.
        source: what the text really is.
        notes: what the user should know, a sentence each.
    """

    train: Iterable[str]
    validation: Iterable[str] | None
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Streamed:
    """Token files that were made, and what numbered them.

    Attributes:
        train, validation: (type, tokens) of each file.
        vocabulary: every token, in the order of their numbers.
        separator: the number of the token between documents.
        unknown: the number of what the tokenizer does not know; -1 where there is none.
        lost: the share of the first validation documents that do not come back from their tokens.
        source, notes: of the documents.
    """

    train: tuple[str, int]
    validation: tuple[str, int]
    vocabulary: tuple[str, ...]
    separator: int
    unknown: int
    lost: float
    source: str
    notes: tuple[str, ...]

    def windows(self, folder: Path, config: DataConfig) -> tuple[MappedSequences, MappedSequences]:
        """The windows of the two splits, in the folder where they lie."""
        files = zip((TRAIN, VALIDATION), (self.train, self.validation), strict=True)
        train, validation = (
            (TokenFile(str(folder / name), type_, 0, count),) for name, (type_, count) in files
        )
        return (
            MappedSequences(train, config.window, config.train_sequences),
            MappedSequences(validation, config.window, config.validation_sequences),
        )


_STREAMED = TypeAdapter(Streamed)


def stream(
    config: DataConfig, documents: Callable[[], Documents], content: str
) -> tuple[Path, Streamed]:
    """Make the token files of a text, unless they are there.

    Args:
        config: of the text.
        documents: opens it.
        content: hash of the user's own files; "" of other texts.

    Returns:
        The folder of the files, and what they are.

    Raises:
        TrainerError: the text has too few documents, or the files cannot be written.
    """
    made_by = {name: getattr(config, name) for name in _MADE_BY}
    key = json.dumps([FORMAT, made_by, content, tokenizer_content(config)])
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sweep"
    folder = home / f"tokens-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    try:
        if not (folder / ABOUT).is_file():
            home.mkdir(parents=True, exist_ok=True)
            _make(config, documents(), folder)
        made = _STREAMED.validate_json((folder / ABOUT).read_bytes())
    except (OSError, ValueError) as error:
        if isinstance(error, TrainerError):
            raise
        raise TrainerError(f"the token files in {folder} cannot be made or read: {error}") from None
    return folder, made


def _make(config: DataConfig, documents: Documents, folder: Path) -> None:
    """Write the files aside and move them in place together."""
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".tokens-"))
    try:
        _write(config, documents, aside)
        aside.chmod(0o755)
        if folder.exists():  # without about.json: left by nobody, for it comes in one move
            shutil.rmtree(folder)
        aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(config: DataConfig, documents: Documents, folder: Path) -> None:
    wanted, wanted_held = (
        most * (config.window - 1) + 1 if most else 0
        for most in (config.train_sequences, config.validation_sequences)
    )
    train = long_enough(documents.train, config.minimum_words)
    encoder, train = _learned(config, train, wanted)
    with ExitStack() as stack:
        files = [stack.enter_context((folder / name).open("wb")) for name in (TRAIN, VALIDATION)]
        bar = tqdm(total=wanted or None, unit="token", unit_scale=True, disable=None, leave=False)
        stack.enter_context(bar)
        bar.set_description(documents.source)
        first = _Writer(files[0].write, encoder, wanted, bar.update)
        second = _Writer(files[1].write, encoder, wanted_held, lambda _: None)
        if documents.validation is None:
            _divide(train, first, second)
        else:
            _fill(train, first)
            _fill(long_enough(documents.validation, config.minimum_words), second)
        for writer, split in ((first, "training"), (second, "validation")):
            if not writer.close():
                raise TrainerError(
                    f"too little text: {documents.source} has no {split} document of "
                    f"{config.minimum_words} words: name more text, or lower data.minimum_words"
                )
    subwords = encoder if isinstance(encoder, Subwords) else None
    if subwords:
        subwords.tokenizer.save(str(folder / TOKENIZER_FILE))
    about = Streamed(
        train=(first.type, first.count),
        validation=(second.type, second.count),
        vocabulary=encoder.vocabulary,
        separator=encoder.end,
        unknown=encoder.unknown,
        lost=subwords.lost(second.few) if subwords else 1.0,
        source=documents.source,
        notes=documents.notes,
    )
    (folder / ABOUT).write_text(json.dumps(asdict(about)), encoding="utf-8")


def _learned(
    config: DataConfig, train: Iterator[str], wanted: int
) -> tuple[Encoder, Iterator[str]]:
    """What numbers the text, learned from its beginning, and the whole of it again."""
    characters = LEARNED_FROM
    if wanted:
        characters = min(characters, max(LEAST_LEARNED_FROM, wanted * CHARACTERS_A_TOKEN))
    begin: list[str] = []
    for document in train:
        begin.append(document)
        characters -= len(document)
        if characters <= 0:
            break
    of_training = [document for document in begin if not held_out(document)] or begin
    if config.tokenizer == WORDS:
        encoder: Encoder = learn(of_training, config.vocabulary_size)[0]
    else:
        encoder = open_tokenizer(config, of_training)
    return encoder, itertools.chain(begin, train)


def _divide(documents: Iterable[str], train: "_Writer", validation: "_Writer") -> None:
    """One document of ten, by a hash of it, is held out: the same text never stands in both."""
    for document in documents:
        writer = validation if held_out(document) else train
        if not writer.full:
            writer.add(document)
        if train.full and (validation.full or (not validation.wanted and validation.few)):
            return


def _fill(documents: Iterable[str], writer: "_Writer") -> None:
    for document in documents:
        writer.add(document)
        if writer.full:
            return


class _Writer:
    """Numbers documents, some at a time, and writes them end to end, a separator before each.

    Args:
        write: takes bytes.
        encoder: numbers them.
        wanted: tokens after which it is full; 0: never.
        told: is called with the tokens that were written.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        encoder: Encoder,
        wanted: int,
        told: Callable[[int], object],
    ) -> None:
        self._write, self._encoder, self._told = write, encoder, told
        self.wanted = wanted
        self.type = NARROW if len(encoder.vocabulary) <= 2**16 else WIDE
        self.count = 0
        self.few: list[str] = []
        self._waiting: list[str] = []
        self._characters = 0

    @property
    def full(self) -> bool:
        """Whether no more is wanted."""
        return 0 < self.wanted <= self.count

    def add(self, document: str) -> None:
        """Take a document."""
        if len(self.few) < DOCUMENTS:
            self.few.append(document)
        self._waiting.append(document)
        self._characters += len(document)
        least = min(CHARACTERS, self.wanted) if self.wanted else CHARACTERS
        if len(self._waiting) >= DOCUMENTS or self._characters >= least:
            self._flush()

    def close(self) -> bool:
        """Write the rest and the last separator; whether there was any document."""
        self._flush()
        self._put(np.array([self._encoder.end]))
        return self.count > 1

    def _flush(self) -> None:
        if not self._waiting:
            return
        tokens = self._encoder.tokens(self._waiting, np.arange(len(self._waiting)))
        ends = np.cumsum(tokens.counts)
        flat = tokens.flat.copy()
        flat[ends - tokens.counts] = self._encoder.end
        self._put(np.delete(flat, ends - 1))
        self._waiting, self._characters = [], 0

    def _put(self, tokens: np.ndarray) -> None:
        self._write(tokens.astype(self.type).tobytes())
        self.count += len(tokens)
        self._told(len(tokens))
