"""The corpus of a study: what it holds, and how it is kept in a file. S windows of W tokens."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from trainers.config import DataConfig
from trainers.data.files import write_atomically
from trainers.data.subwords import Encoder, Subwords, tokenizer_content
from trainers.data.token_files import MappedSequences, TokenFile, counted
from trainers.errors import TrainerError

MAPPED = "mapped"

NO_SEPARATOR = -1
"""Of a corpus whose windows hold one document each."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """The windows of one split.

    Attributes:
        tokens: (S, W) int64, padded with 0 at the end.
        lengths: (S,) int64, the real tokens in each window, at least 2.
        score_from: (S,) int64, the first target (1 to length - 1) that validation scores: 1 in a
            paragraph's first window; the targets before were scored in the window before.
        scored_bytes: UTF-8 bytes of the text whose tokens validation scores; 0 where the tokens do
            not hold the text, as words do not, or nobody counted.
    """

    tokens: torch.Tensor
    lengths: torch.Tensor
    score_from: torch.Tensor
    scored_bytes: int = 0

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def targets(self) -> int:
        """How many tokens are predicted, those of overlapping windows once a window."""
        return int((self.lengths - 1).sum())

    @property
    def scored(self) -> int:
        """How many tokens validation scores: each of the text once."""
        return int((self.lengths - self.score_from).sum())

    @property
    def is_scored(self) -> torch.Tensor:
        """(S, W), whether validation scores the token."""
        return _between(self, self.score_from)


Windows = Sequences | MappedSequences


@dataclass(frozen=True, slots=True)
class Corpus:
    """Tokenised text, ready to train on.

    Attributes:
        config: as it was asked for.
        source: what the text really is: "docstrings" where the hub could not be reached.
        train: the windows to learn from.
        validation: the windows to score.
        vocabulary: the words in the order of their numbers; none of token files alone.
        fingerprint: sha256 in hex over both splits and the vocabulary.
        unknown_share: the part of the scored validation tokens that are unknown, 0 to 1.
        unigram_perplexity: of the scored validation tokens by their frequency in training alone.
        notes: what the user should know, a sentence each.
        content: sha256 in hex over the files of the user's own text; "" for any other, and where
            an earlier version made it.
        tokenizer: a tokenizer.json of what numbered the text, but for words; it is kept in a file
            of its own, so "" of a stored corpus.
        tokenizer_content: sha256 in hex over the tokenizer's file, where a file was named.
        separator: the number of the token between documents, where windows hold several.
    """

    config: DataConfig
    source: str
    train: Windows
    validation: Windows
    vocabulary: tuple[str, ...]
    fingerprint: str
    unknown_share: float
    unigram_perplexity: float
    notes: tuple[str, ...]
    content: str = ""
    tokenizer: str = field(default="", repr=False)
    tokenizer_content: str = ""
    separator: int = NO_SEPARATOR

    @property
    def vocabulary_size(self) -> int:
        """How many tokens a model must know."""
        return len(self.vocabulary) or self.config.vocabulary_size

    @property
    def tokens_per_byte(self) -> float | None:
        """Scored tokens over the bytes of their text; None where these were not counted."""
        scored_bytes = self.validation.scored_bytes
        return self.validation.scored / scored_bytes if scored_bytes else None


def fingerprint(train: Windows, validation: Windows, vocabulary: tuple[str, ...]) -> str:
    """Hash all that training and validation see, shapes included; token files by their pieces."""
    digest = hashlib.sha256(json.dumps(vocabulary).encode())
    for split in (train, validation):
        if isinstance(split, MappedSequences):
            digest.update(split.content().encode())
            continue
        for tensor in (split.tokens, split.lengths, split.score_from):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().astype("<i8", copy=False).tobytes())
    return digest.hexdigest()


def write(corpus: Corpus, path: Path) -> None:
    """Keep a corpus in a safetensors file, with all but the tensors as JSON in its header.

    Raises:
        TrainerError: where the file cannot be written.
    """
    splits = {"train": corpus.train, "validation": corpus.validation}
    tensors = {
        f"{name}.{tensor}": getattr(split, tensor).to(torch.int32)
        for name, split in splits.items()
        if isinstance(split, Sequences)
        for tensor in ("tokens", "lengths", "score_from")
    }
    names = {each.name for each in fields(corpus)} - {*splits, "config", "tokenizer"}
    about = {name: getattr(corpus, name) for name in sorted(names)}
    about |= {"config": asdict(corpus.config), "scored_bytes": corpus.validation.scored_bytes}
    about[MAPPED] = {
        name: asdict(split) for name, split in splits.items() if isinstance(split, MappedSequences)
    }
    header = {"corpus": json.dumps(about)}
    write_file(path, save(tensors, metadata=header))


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        TrainerError: where it cannot be written.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise TrainerError(f"{path} cannot be written: {error.strerror or error}") from None


def read(path: Path) -> Corpus:
    """Read a corpus, and check that it is the one that was written.

    Raises:
        TrainerError: where the file cannot be read or its content has changed.
    """
    try:
        corpus = _parse(path)
    except (OSError, SafetensorError, ValidationError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrainerError(
            f"{path} is no corpus that can be read ({reason}): delete it to build it again"
        ) from None
    if corpus.fingerprint != fingerprint(corpus.train, corpus.validation, corpus.vocabulary):
        raise TrainerError(
            f"{path} does not hold what was written (another fingerprint): "
            "delete it to build it again"
        )
    return corpus


def _parse(path: Path) -> Corpus:
    with safe_open(path, framework="pt") as file:
        header = (file.metadata() or {}).get("corpus")
        if header is None:
            raise ValueError("it says nothing of a corpus")
        about: dict[str, Any] = json.loads(header)
        mapped = about.pop(MAPPED, {})
        train, validation = (
            _mapped(mapped[split]) if split in mapped else _held(file, split)
            for split in ("train", "validation")
        )
    validation = replace(validation, scored_bytes=int(about.pop("scored_bytes", 0)))
    about["config"] = DataConfig(**about["config"])
    about["vocabulary"] = tuple(about["vocabulary"])
    about["notes"] = tuple(about["notes"])
    return Corpus(train=train, validation=validation, **about)


def _held(file: Any, split: str) -> Windows:
    names = ("tokens", "lengths", "score_from")
    return Sequences(*(file.get_tensor(f"{split}.{name}").to(torch.int64) for name in names))


def _mapped(stored: dict[str, Any]) -> Windows:
    return MappedSequences(**stored | {"files": tuple(TokenFile(**f) for f in stored["files"])})


@dataclass(frozen=True, slots=True)
class Numbering:
    """What is known of a text's tokens.

    Attributes:
        vocabulary, tokenizer, separator: as of `Corpus`.
        unknown: the number of what the tokenizer does not know; -1 where there is none.
    """

    vocabulary: tuple[str, ...]
    unknown: int
    separator: int
    tokenizer: str


def assemble(
    config: DataConfig,
    source: str,
    train: Sequences,
    validation: Sequences,
    encoder: Encoder,
    notes: tuple[str, ...],
    content: str = "",
) -> Corpus:
    """Put a corpus together and measure what a model should at least beat."""
    scored = validation.tokens[validation.is_scored]
    predicted = train.tokens[_between(train)]
    seen = torch.bincount(predicted, minlength=len(encoder.vocabulary)).double() + 1
    nats = -(seen / seen.sum()).log()[scored].mean()
    unknown = (scored == encoder.unknown).double().mean().item()
    subwords = isinstance(encoder, Subwords)
    said = (
        _about(len(encoder.vocabulary), validation)
        if subwords
        else f"{_percent(unknown)} of the words are unknown"
    )
    numbering = Numbering(
        encoder.vocabulary,
        encoder.unknown,
        encoder.end if config.pack else NO_SEPARATOR,
        encoder.tokenizer.to_str() if subwords else "",
    )
    splits = train, validation
    return _corpus(config, source, splits, numbering, nats.item(), unknown, (*notes, said), content)


def assemble_mapped(
    config: DataConfig,
    source: str,
    train: MappedSequences,
    validation: MappedSequences,
    numbering: Numbering,
    notes: tuple[str, ...],
    content: str = "",
) -> Corpus:
    """Put a corpus of token files together: they stay where they are.

    Raises:
        TrainerError: a file holds a token that is not known.
    """
    size = len(numbering.vocabulary) or config.vocabulary_size
    seen, scored = counted(train, size) + 1, counted(validation, size)
    nats = -(scored * np.log(seen / seen.sum())).sum() / scored.sum()
    tokens = f"{train.targets:,} tokens of training, {validation.targets:,} of validation"
    unknown = scored[numbering.unknown] if numbering.unknown >= 0 else 0
    share, notes = float(unknown / scored.sum()), (*notes, f"{tokens}, {_about(size, validation)}")
    splits = train, validation
    return _corpus(config, source, splits, numbering, float(nats), share, notes, content)


def _corpus(
    config: DataConfig,
    source: str,
    splits: tuple[Windows, Windows],
    numbering: Numbering,
    nats: float,
    unknown_share: float,
    notes: tuple[str, ...],
    content: str,
) -> Corpus:
    return Corpus(
        config=config,
        source=source,
        train=splits[0],
        validation=splits[1],
        vocabulary=numbering.vocabulary,
        fingerprint=fingerprint(*splits, numbering.vocabulary),
        unknown_share=unknown_share,
        unigram_perplexity=math.exp(nats),
        notes=notes,
        content=content,
        tokenizer=numbering.tokenizer,
        tokenizer_content=tokenizer_content(config),
        separator=numbering.separator,
    )


def _about(size: int, validation: Windows) -> str:
    words = f"{size:,} different tokens"
    if not validation.scored_bytes:
        return words
    return f"{words}, {validation.scored_bytes / validation.scored:.2f} bytes a token"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _between(split: Sequences, start: torch.Tensor | int = 1) -> torch.Tensor:
    """(S, W), which tokens are real from `start` of each window on."""
    position = torch.arange(split.tokens.shape[1])
    first = torch.as_tensor(start).reshape(-1, 1)
    return (position >= first) & (position < split.lengths[:, None])
