"""The corpus of a study: what it holds, and how it is kept in a file. S windows of W tokens."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from trainers.config import DataConfig
from trainers.data.files import write_atomically
from trainers.errors import TrainerError


@dataclass(frozen=True, slots=True)
class Sequences:
    """The windows of one split.

    Attributes:
        tokens: (S, W) int64, padded with 0 at the end.
        lengths: (S,) int64, the real tokens in each window, at least 2.
        score_from: (S,) int64, the first target (1 to length - 1) that validation scores: 1 in a
            paragraph's first window; the targets before were scored in the window before.
    """

    tokens: torch.Tensor
    lengths: torch.Tensor
    score_from: torch.Tensor

    @property
    def targets(self) -> int:
        """How many tokens are predicted, those of overlapping windows once a window."""
        return int((self.lengths - 1).sum())

    @property
    def scored(self) -> int:
        """How many tokens validation scores: each of the text once."""
        return int((self.lengths - self.score_from).sum())


@dataclass(frozen=True, slots=True)
class Corpus:
    """Tokenised text, ready to train on.

    Attributes:
        config: as it was asked for.
        source: what the text really is: "docstrings" where the hub could not be reached.
        train: the windows to learn from.
        validation: the windows to score.
        vocabulary: the words in the order of their numbers.
        fingerprint: sha256 in hex over both splits and the vocabulary.
        unknown_share: the part of the scored validation tokens that are unknown, 0 to 1.
        unigram_perplexity: of the scored validation tokens by their frequency in training alone.
        notes: what the user should know, a sentence each.
        content: sha256 in hex over the files of the user's own text; "" for any other, and where
            an earlier version made it.
    """

    config: DataConfig
    source: str
    train: Sequences
    validation: Sequences
    vocabulary: tuple[str, ...]
    fingerprint: str
    unknown_share: float
    unigram_perplexity: float
    notes: tuple[str, ...]
    content: str = ""


def fingerprint(train: Sequences, validation: Sequences, vocabulary: tuple[str, ...]) -> str:
    """Hash all that training and validation see, shapes included."""
    digest = hashlib.sha256(json.dumps(vocabulary).encode())
    for split in (train, validation):
        for tensor in (split.tokens, split.lengths, split.score_from):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().astype("<i8", copy=False).tobytes())
    return digest.hexdigest()


def write(corpus: Corpus, path: Path) -> None:
    """Keep a corpus in a safetensors file, with all but the tensors as JSON in its header.

    Raises:
        TrainerError: where the file cannot be written.
    """
    tensors = {
        f"{split}.{name}": getattr(getattr(corpus, split), name).to(torch.int32)
        for split in ("train", "validation")
        for name in ("tokens", "lengths", "score_from")
    }
    about = {
        field.name: getattr(corpus, field.name)
        for field in fields(corpus)
        if field.name not in ("train", "validation", "config")
    }
    header = {"corpus": json.dumps({**about, "config": asdict(corpus.config)})}
    try:
        write_atomically(path, save(tensors, metadata=header))
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
        train, validation = (
            Sequences(
                *(
                    file.get_tensor(f"{split}.{name}").to(torch.int64)
                    for name in ("tokens", "lengths", "score_from")
                )
            )
            for split in ("train", "validation")
        )
    about["config"] = DataConfig(**about["config"])
    about["vocabulary"] = tuple(about["vocabulary"])
    about["notes"] = tuple(about["notes"])
    return Corpus(train=train, validation=validation, **about)


def assemble(
    config: DataConfig,
    source: str,
    train: Sequences,
    validation: Sequences,
    vocabulary: tuple[str, ...],
    notes: tuple[str, ...],
    content: str = "",
) -> Corpus:
    """Put a corpus together and measure what a model should at least beat."""
    scored = _targets(validation, validation.score_from)
    seen = torch.bincount(_targets(train), minlength=len(vocabulary)).double() + 1
    nats = -(seen / seen.sum()).log()[scored].mean()
    unknown = (scored == vocabulary.index("<unk>")).double().mean().item()
    return Corpus(
        config=config,
        source=source,
        train=train,
        validation=validation,
        vocabulary=vocabulary,
        fingerprint=fingerprint(train, validation, vocabulary),
        unknown_share=unknown,
        unigram_perplexity=math.exp(nats.item()),
        notes=(*notes, f"{unknown:.1%} of the words are unknown".replace("%", " %")),
        content=content,
    )


def _targets(split: Sequences, start: torch.Tensor | int = 1) -> torch.Tensor:
    """Return the tokens that are predicted, from the target `start` of each window on: (N,)."""
    position = torch.arange(split.tokens.shape[1])
    first = torch.as_tensor(start).reshape(-1, 1)
    return split.tokens[(position >= first) & (position < split.lengths[:, None])]
