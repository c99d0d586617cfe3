"""What every source of text gives: paragraphs of two splits, no paragraph in both."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainers.errors import TrainerError

UNIT = 50  # consecutive paragraphs that go to one split together
_FOLDS = 10  # one unit of ten is held out
_LARGEST = 0.25  # part of the text for validation: few units may give any part
_WORD = re.compile(r"\w+")
_WRAP = 160  # characters: hard-wrapped text has no lines as long as this


@dataclass(frozen=True, slots=True)
class Paragraphs:
    """The text of a corpus before it is cut.

    Attributes:
        train: paragraphs to learn from; the vocabulary is theirs.
        validation: paragraphs held out.
        source: what the text really is.
        notes: what the user should know of it, a sentence each.
    """

    train: list[str]
    validation: list[str]
    source: str
    notes: tuple[str, ...] = ()


def held_out(content: str) -> bool:
    """Say whether a unit is for validation: one of ten, by a hash that never changes."""
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") % _FOLDS == 0


def collapse(block: str) -> str:
    """Join a block's lines into one paragraph with single spaces."""
    return " ".join(block.split())


def long_enough(paragraphs: Iterable[str], minimum_words: int) -> list[str]:
    """Leave out short paragraphs; a word is a run of letters and digits, so " = = " counts none."""
    return [text for text in paragraphs if len(_WORD.findall(text)) >= minimum_words]


def split_paragraphs(text: str) -> list[str]:
    """Cut a text into paragraphs.

    Where most characters stand in lines of over 160 (text that is not hard-wrapped, as WikiText)
    or no line is blank (a sentence a line), each line is a paragraph; elsewhere blank lines
    separate paragraphs.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    lines = [collapse(line) for line in text.split("\n")]
    in_long = sum(len(line) for line in lines if len(line) > _WRAP)
    if 2 * in_long > sum(map(len, lines)) or "" not in lines:
        return [line for line in lines if line]
    return [collapse(block) for block in "\n".join(lines).split("\n\n") if block.strip()]


def without_repeats(marked: Iterable[tuple[bool, str]]) -> tuple[list[str], list[str]]:
    """Keep each paragraph's first occurrence, letter case aside, over both splits.

    Args:
        marked: (held out, paragraph) in the corpus's order.

    Returns:
        The paragraphs of training and of validation.
    """
    seen: set[str] = set()
    splits: tuple[list[str], list[str]] = ([], [])
    for out, text in marked:
        key = text.lower()
        if key not in seen:
            seen.add(key)
            splits[out].append(text)
    return splits


def split_units(units: Sequence[list[str]], source: str) -> tuple[list[str], list[str]]:
    """Hold out one unit of ten by its content, without repeats.

    With so few units that this gives nothing or over a quarter, the last tenth is held out.

    Args:
        units: paragraphs that stay together: a file's, or 50 consecutive ones.
        source: what the text is, for the error.

    Returns:
        The paragraphs of training and of validation, neither empty.

    Raises:
        TrainerError: where there is no text for two splits.
    """
    marked = [(held_out("\n".join(unit)), text) for unit in units for text in unit]
    train, validation = without_repeats(marked)
    everything, _ = without_repeats((False, text) for _, text in marked)
    if train and 0 < len(validation) <= _LARGEST * len(everything):
        return train, validation
    if len(everything) < 2:
        raise TrainerError(
            f"data.name: {source} has too little text: {len(everything)} paragraphs of enough "
            "words, and training and validation need one each: name more text, or lower "
            "data.minimum_words"
        )
    size = max(1, len(everything) // _FOLDS)  # too few units for the hash: the end
    return everything[:-size], everything[-size:]


def in_units(paragraphs: Sequence[str]) -> list[list[str]]:
    """Cut a list of paragraphs into units of 50 consecutive ones."""
    return [list(paragraphs[start : start + UNIT]) for start in range(0, len(paragraphs), UNIT)]
