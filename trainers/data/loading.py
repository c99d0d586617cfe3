"""From a DataConfig to a corpus: which source, and where it is kept."""

import logging
import shutil
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path

from trainers.config import DataConfig
from trainers.data import corpus as stored
from trainers.data import docstrings, hub, streaming, text
from trainers.data.corpus import Corpus
from trainers.data.mapped import MOST_LOST, not_told, of_stream, of_token_files
from trainers.data.paragraphs import Again, Paragraphs, long_enough, repeated
from trainers.data.reach import UnreachableError
from trainers.data.sources import kind_of, source_fingerprint
from trainers.data.subwords import Encoder, Subwords, open_tokenizer, tokenizer_content
from trainers.data.vocabulary import Integers, learn
from trainers.data.windows import cut_text, pack_text
from trainers.errors import TrainerError
from trainers.importing import import_object
from trainers.naming import TOKENIZER_FILE, WORDS, plain_name

log = logging.getLogger("trainers.data")

FILE = "corpus.safetensors"


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
    if kind_of(config.name) == "tokens":
        return of_token_files(config)
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
        (*paragraphs.notes, *repeated(train, validation), *not_told(lost)),
        source_fingerprint(config),
    )


def _of_stream(config: DataConfig) -> Corpus:
    kind = kind_of(config.name)
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
    return of_stream(config, folder, made)


def _encoder(config: DataConfig, train: Iterable[str]) -> tuple[Encoder, Integers]:
    """What numbers the text, and the tokens of each training paragraph."""
    if config.tokenizer == WORDS:
        return learn(train, config.vocabulary_size)
    subwords = open_tokenizer(config, train)
    return subwords, subwords.counts(train)


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


def _paragraphs(config: DataConfig) -> Paragraphs:
    kind = kind_of(config.name)
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
