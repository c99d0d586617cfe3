"""Corpora whose tokens stay in files: the user's own, and those of a text that was streamed."""

from dataclasses import replace
from pathlib import Path

from trainers.config import DataConfig
from trainers.data import token_files
from trainers.data.corpus import NO_SEPARATOR, Corpus, Numbering, assemble_mapped
from trainers.data.sources import source_fingerprint
from trainers.data.streaming import Streamed
from trainers.data.subwords import Subwords, open_tokenizer, read_tokenizer
from trainers.data.token_files import MappedSequences
from trainers.errors import TrainerError
from trainers.naming import BYTES, LEARNED, TOKENIZER_FILE, WORDS

MOST_LOST = 0.01
"""Of the paragraphs, that do not come back from their tokens: beyond, bits a byte means little."""


def of_token_files(config: DataConfig) -> Corpus:
    """The corpus of a user's token files.

    Raises:
        TrainerError: they are no such files, or a setting does not go with them.
    """
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
    return assemble_mapped(
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


def of_stream(config: DataConfig, folder: Path, made: Streamed) -> Corpus:
    """The corpus of a text that was streamed.

    Args:
        config: of the text.
        folder, made: as of `streaming.stream`.
    """
    train, validation = made.windows(folder, config)
    tokenizer = folder / TOKENIZER_FILE
    encoder = read_tokenizer(tokenizer) if tokenizer.is_file() else None
    return assemble_mapped(
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
        (*made.notes, *(() if encoder is None else not_told(made.lost))),
        source_fingerprint(config),
    )


def not_told(lost: float) -> tuple[str, ...]:
    """Say why there are no bits a byte, of such a share of lost paragraphs."""
    if lost <= MOST_LOST:
        return ()
    return (
        f"bits a byte is not given: {100 * lost:.0f} % of the paragraphs do not come back from "
        "their tokens",
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
