"""From a DataConfig to a corpus: which source, and where it is kept."""

import hashlib
import itertools
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

from trainers.config import DataConfig
from trainers.data import corpus as stored
from trainers.data import docstrings, hub, streaming, text, token_files
from trainers.data.corpus import NO_SEPARATOR, Corpus, Numbering
from trainers.data.files import own_files
from trainers.data.paragraphs import Again, Paragraphs, long_enough, repeated
from trainers.data.reach import UnreachableError
from trainers.data.subwords import (
    Encoder,
    Subwords,
    open_tokenizer,
    read_tokenizer,
    tokenizer_content,
)
from trainers.data.token_files import MappedSequences
from trainers.data.vocabulary import Integers, learn
from trainers.data.windows import cut_text, pack_text
from trainers.errors import TrainerError
from trainers.importing import import_object
from trainers.naming import (
    BYTES,
    DOCSTRINGS,
    LEARNED,
    TEXT_SUFFIXES,
    TOKENIZER_FILE,
    WORDS,
    is_function,
    is_path,
    local_path,
    plain_name,
)

log = logging.getLogger("trainers.data")

FILE = "corpus.safetensors"
MOST_LOST = 0.01
"""Of the paragraphs, that do not come back from their tokens: beyond, bits a byte means little."""


def load_corpus(config: DataConfig, directory: Path) -> Corpus:
    """Take the corpus from `directory`, else from its parent; else build it and keep it there.

    Args:
        config: which text, and how it is cut.
        directory: a trial's or a study's; the parent's corpus is taken where it has none.

    Returns:
        The corpus; the same object again while its file stays as it is.

    Raises:
        TrainerError: where the text cannot be had, the file cannot be read or written, or the
            stored corpus was made from another config.
    """
    for path in (directory / FILE, directory.parent / FILE):
        if path.is_file():
            return _stored(config, path)
    built = build_corpus(config)
    if built.tokenizer:
        stored.write_file(directory / TOKENIZER_FILE, built.tokenizer.encode())
    stored.write(built, directory / FILE)
    return _stored(config, directory / FILE)


def take_corpus(source: Path, directory: Path) -> None:
    """Copy a study's stored corpus to a directory that has none: tokenised again it might differ.

    Args:
        source: the study's directory; nothing happens where it holds no corpus.
        directory: made where it does not exist.
    """
    if not (source / FILE).is_file() or (directory / FILE).exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    for name in (TOKENIZER_FILE, FILE):
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)


def build_corpus(config: DataConfig) -> Corpus:
    """Read, split, tokenise and cut the text of a config.

    Raises:
        TrainerError: where the text cannot be had or is too little.
    """
    if _kind(config.name) == "tokens":
        return _of_token_files(config)
    if config.stream:
        return _of_stream(config)
    paragraphs = _paragraphs(config)
    train = _enough(paragraphs.train, "training", config, paragraphs.source)
    validation = _enough(paragraphs.validation, "validation", config, paragraphs.source)
    encoder, counts = _encoder(config, train)
    lost = encoder.lost(validation) if isinstance(encoder, Subwords) else 0.0
    cut = pack_text if config.pack else partial(cut_text, stride=config.stride)
    size, measured = config.window, lost <= MOST_LOST
    return stored.assemble(
        config,
        paragraphs.source,
        cut(encoder, train, counts, size, most=config.train_sequences),
        cut(
            encoder,
            validation,
            encoder.counts(validation),
            size,
            most=config.validation_sequences,
            measured=measured,
        ),
        encoder,
        (*paragraphs.notes, *repeated(train, validation), *_not_told(lost)),
        source_fingerprint(config),
    )


def _of_token_files(config: DataConfig) -> Corpus:
    if config.stream:
        raise TrainerError(f"data.stream: {config.name} is token files already: set it to false")
    if config.tokenizer in (BYTES, LEARNED):
        raise TrainerError(
            f'data.tokenizer = "{config.tokenizer}" says nothing of token files: name the '
            'tokenizer.json that made them, or leave it "words"'
        )
    encoder = None if config.tokenizer == WORDS else open_tokenizer(config, ())
    vocabulary = () if encoder is None else encoder.vocabulary
    size = len(vocabulary) or config.vocabulary_size
    opened = [token_files.open_files(paths, size) for paths in token_files.paths_of(config.name)]
    return stored.assemble_mapped(
        config,
        config.name,
        MappedSequences(opened[0], config.window, config.train_sequences),
        _measured(MappedSequences(opened[1], config.window, config.validation_sequences), encoder),
        Numbering(
            vocabulary,
            unknown=-1 if encoder is None else encoder.unknown,
            separator=_separator(config, encoder),
            tokenizer="" if encoder is None else encoder.tokenizer.to_str(),
        ),
        (),
        source_fingerprint(config),
    )


def _separator(config: DataConfig, encoder: Subwords | None) -> int:
    """Of token files: where documents are to be told apart, what tells them."""
    if not config.pack:
        return NO_SEPARATOR
    if config.separator >= 0 or config.attend == "window":
        return max(0, config.separator)
    if encoder is None:
        raise TrainerError(
            'data.pack with data.attend = "document" needs the number of the token between '
            'documents: set data.separator (GPT-2: 50256), or data.attend = "window"'
        )
    return encoder.end


def _of_stream(config: DataConfig) -> Corpus:
    kind = _kind(config.name)
    if kind not in ("datasets", "text"):
        raise TrainerError(
            f"data.stream: {config.name} is no data set and no text file: set it to false"
        )
    opened = partial(hub.stream, config)
    if kind == "text":
        opened = partial(text.stream, config.name)
    try:
        folder, made = streaming.stream(config, opened, source_fingerprint(config))
    except UnreachableError as error:
        if not config.fallback:
            raise
        note = _fallen_back(config, error)
        fallback = replace(config, name=config.fallback, subset="", fallback="", stream=False)
        built = build_corpus(fallback)
        return replace(built, config=config, notes=(note, *built.notes))
    train, validation = made.windows(folder, config)
    tokenizer = folder / TOKENIZER_FILE
    encoder = read_tokenizer(tokenizer) if tokenizer.is_file() else None
    return stored.assemble_mapped(
        config,
        made.source,
        train,
        _measured(validation, encoder if made.lost <= MOST_LOST else None),
        Numbering(
            made.vocabulary,
            unknown=made.unknown,
            separator=made.separator,
            tokenizer="" if encoder is None else encoder.tokenizer.to_str(),
        ),
        (*made.notes, *(() if encoder is None else _not_told(made.lost))),
        source_fingerprint(config),
    )


def _measured(split: MappedSequences, encoder: Subwords | None) -> MappedSequences:
    """Count the bytes of what validation scores, where the tokens tell them."""
    if encoder is None:
        return split
    parts = (
        file.tokens()[start : min(start + token_files.AT_ONCE, end)]
        for file, end in split.parts()
        for start in range(1, end, token_files.AT_ONCE)
    )
    return replace(split, scored_bytes=sum(map(encoder.bytes_of, parts)))


def _not_told(lost: float) -> tuple[str, ...]:
    if lost <= MOST_LOST:
        return ()
    return (
        f"bits a byte is not given: {100 * lost:.0f} % of the paragraphs do not come back from "
        "their tokens",
    )


def _encoder(config: DataConfig, train: Iterable[str]) -> tuple[Encoder, Integers]:
    """What numbers the text, and the tokens of each training paragraph."""
    if config.tokenizer == WORDS:
        return learn(train, config.vocabulary_size)
    subwords = open_tokenizer(config, train)
    return subwords, subwords.counts(train)


def source_fingerprint(config: DataConfig, *, everything: bool = False) -> str:
    """Hash the files of a local path: sha256 in hex, "" for what is no file.

    Args:
        config: which text.
        everything: as earlier versions did: with what tools leave, without linked folders.

    Raises:
        TrainerError: where a path names nothing that can be read.
    """
    files, root = _source_files(config, everything=everything), local_path(config.name)
    if not files:
        return ""
    digest = hashlib.sha256()
    tokens = _kind(config.name) == "tokens"
    if tokens:
        root = files[0].parent
    sampled = config.stream or tokens  # too much to be read each time
    for path in files:
        digest.update(os.fsencode(path.relative_to(root).as_posix()) + b"\0")
        digest.update(token_files.digest(path) if sampled else text.digest(path))
    return digest.hexdigest()


def source_bytes(config: DataConfig) -> int:
    """The size of the files of a local path; 0 for what is no file, or is not read whole."""
    if config.stream or _kind(config.name) == "tokens":
        return 0
    return sum(path.stat().st_size for path in _source_files(config))


def _source_files(config: DataConfig, *, everything: bool = False) -> list[Path]:
    kind, root = _kind(config.name), local_path(config.name)
    if kind == "tokens":
        return [*itertools.chain(*token_files.paths_of(config.name))]
    if kind in ("docstrings", "function") or (kind == "datasets" and not root.is_dir()):
        return []
    if everything and root.is_dir():
        suffixes = TEXT_SUFFIXES if kind == "text" else None
        all_files = (path for path in sorted(root.rglob("*")) if path.is_file())
        return [path for path in all_files if not suffixes or path.suffix.lower() in suffixes]
    return text.files(config.name) if kind == "text" else own_files(root)


def _own(config: DataConfig) -> Paragraphs:
    function = import_object(config.name, what="data")
    try:
        found = function(config)
    except TrainerError:
        raise
    except Exception as error:  # a user's own function may raise anything
        reason = " ".join(str(error).split())
        raise TrainerError(
            f"data {config.name} failed with {type(error).__name__}: {reason}"
        ) from error
    if not isinstance(found, Paragraphs):
        raise TrainerError(
            f"data {config.name} must return trainers.data.Paragraphs, it returned a "
            f"{type(found).__name__}"
        )
    return found


def _kind(name: str) -> Literal["docstrings", "text", "datasets", "function", "tokens"]:
    """Say who reads a name: a path that exists, or is written as one, is never a hub name."""
    if not name.strip():
        raise TrainerError(
            'data.name is empty: take "docstrings", a text file or folder, or a data set of the hub'
        )
    if name == DOCSTRINGS:
        return "docstrings"
    if is_function(name):
        return "function"
    if token_files.is_token_files(name):
        return "tokens"
    path = local_path(name)
    if path.is_dir():
        return "datasets" if hub.is_data_set(path) else "text"
    return "text" if is_path(name) else "datasets"


def _paragraphs(config: DataConfig) -> Paragraphs:
    kind = _kind(config.name)
    if kind == "docstrings":
        return docstrings.read()
    if kind == "function":
        return _own(config)
    if kind == "text":
        return text.read(config.name, config.minimum_words)
    try:
        return hub.read(config)
    except UnreachableError as error:
        if not config.fallback:
            raise
        note = _fallen_back(config, error)
        other = _paragraphs(replace(config, name=config.fallback, subset="", fallback=""))
        return replace(other, notes=(note, *other.notes))


def _fallen_back(config: DataConfig, error: UnreachableError) -> str:
    note = f"{error.reason}: training on {config.fallback} instead of {config.name}"
    log.info(note)
    return note


def _enough(
    paragraphs: Iterable[str], split: str, config: DataConfig, source: str
) -> Iterable[str]:
    kept = Again(lambda: long_enough(paragraphs, config.minimum_words))
    if next(iter(kept), None) is None:
        raise TrainerError(
            f"too little text: {source} has no {split} paragraph of {config.minimum_words} words: "
            "name more text, or lower data.minimum_words"
        )
    return kept


def _stored(config: DataConfig, path: Path) -> Corpus:
    status = path.stat()
    corpus = _read(path.resolve(), status.st_mtime_ns, status.st_size)
    now, then = asdict(config), asdict(corpus.config)
    if now["name"] != then["name"] and _is_same_text(config, corpus):
        del now["name"]
    if corpus.tokenizer_content and corpus.tokenizer_content == tokenizer_content(config):
        del now["tokenizer"]
    changed = [
        f"{name} (was {then[name]!r}, now {now[name]!r})" for name in now if now[name] != then[name]
    ]
    if changed:
        raise TrainerError(
            f"{path} was made with other data settings: {', '.join(changed)}: "
            "set them back, or take another folder or study name"
        )
    return corpus


def _is_same_text(config: DataConfig, corpus: Corpus) -> bool:
    """Say whether another name is the same text's: moved, renamed, or spelled otherwise."""
    if plain_name(config.name) == plain_name(corpus.config.name):
        return True
    return bool(corpus.content) and corpus.content == source_fingerprint(config)


@lru_cache(maxsize=4)
def _read(path: Path, modified_ns: int, size: int) -> Corpus:
    """Keep the last corpora in memory: a worker process has its own through all its trials."""
    return stored.read(path)
