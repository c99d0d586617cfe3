"""What every source of text gives: paragraphs of two splits, no paragraph in both."""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from trainers.errors import TrainerError

T = TypeVar("T")
UNIT = 50  # consecutive paragraphs that go to one split together
_FOLDS = 10  # one unit of ten is held out
_LARGEST = 0.25  # part of the text for validation: few units may give any part
_PIECE = 100  # words of one, where a text of few paragraphs is cut
_TOLD = 0.05  # of a text: what is left out beyond this is said
# Thai to Lao, Burmese, Khmer, kana and Han: scripts that set no blanks between words.
WITHOUT_BLANKS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_LETTER = re.compile(f"[{WITHOUT_BLANKS}]")
_WORD = re.compile(rf"[^\W{WITHOUT_BLANKS}]+|[{WITHOUT_BLANKS}]")
_RUN = re.compile(r"\w+")
_WRAP = 160  # characters: hard-wrapped text has no lines as long as this


@dataclass(frozen=True, slots=True)
class Paragraphs:
    """The text of a corpus before it is cut.

    Attributes:
        train: paragraphs to learn from; the vocabulary is theirs. They are gone through several
            times: a list, or `Again` where they are too many to be held.
        validation: paragraphs held out.
        source: what the text really is.
        notes: what the user should know of it, a sentence each.
    """

    train: Iterable[str]
    validation: Iterable[str]
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Again(Generic[T]):
    """What is made anew each time it is gone through, so that it is never held whole."""

    make: Callable[[], Iterator[T]]

    def __iter__(self) -> Iterator[T]:
        return self.make()


def held_out(content: str) -> bool:
    """Say whether a unit is for validation: one of ten, by a hash that never changes."""
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") % _FOLDS == 0


def collapse(block: str) -> str:
    """Join a block's lines into one paragraph with single spaces."""
    return " ".join(block.split())


def long_enough(paragraphs: Iterable[str], minimum_words: int) -> Iterator[str]:
    """Leave out short paragraphs; a word is a run of letters and digits, so " = = " counts none.

    Where most of a paragraph is in a script without blanks, each of its letters is a word.
    """
    for text in paragraphs:
        word = _WORD if is_without_blanks([text]) else _RUN
        if sum(1 for _ in islice(word.finditer(text), minimum_words)) == minimum_words:
            yield text


def is_without_blanks(paragraphs: Iterable[str]) -> bool:
    """Say whether half of a text or more is in a script that sets no blanks between words."""
    here = everywhere = 0
    for text in paragraphs:
        here += 0 if text.isascii() else len(_LETTER.findall(text))
        everywhere += len(text)
    return 0 < everywhere <= 2 * here


@dataclass(slots=True)
class Kept:
    """Takes the paragraphs that are long enough, and knows how much was not.

    Attributes:
        minimum_words: of a paragraph.
        characters, kept: of all paragraphs, and of those that were long enough.
    """

    minimum_words: int
    characters: int = 0
    kept: int = 0

    def of(self, paragraphs: Iterable[str]) -> Iterator[str]:
        """Yield the long enough ones."""
        for text in long_enough(self._counted(paragraphs), self.minimum_words):
            self.kept += len(text)
            yield text

    def _counted(self, paragraphs: Iterable[str]) -> Iterator[str]:
        for text in paragraphs:
            self.characters += len(text)
            yield text

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say of it, where it was much."""
        lost = 1 - self.kept / max(1, self.characters)
        if lost <= _TOLD:
            return ()
        return (
            f"{100 * lost:.0f} % of the text is left out: paragraphs of under "
            f"{self.minimum_words} words (data.minimum_words)",
        )


def split_paragraphs(text: str) -> list[str]:
    """Cut a text into paragraphs, as `paragraphs_of` does with its lines."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return list(paragraphs_of(lines, a_line_each=is_a_line_each(lines)))


def is_a_line_each(lines: Iterable[str]) -> bool:
    """Say whether each line of a text is a paragraph.

    It is where most characters stand in lines of over 160 (text that is not hard-wrapped, as
    WikiText) or no line is blank (a sentence a line).
    """
    characters = in_long = 0
    after_blank = blank = False
    for line in map(collapse, lines):
        blank = blank or bool(line and after_blank)
        characters += len(line)
        in_long += len(line) if len(line) > _WRAP else 0
        after_blank = characters > 0 and not line  # blank lines before and behind do not count
    return 2 * in_long > characters or not blank


def paragraphs_of(lines: Iterable[str], *, a_line_each: bool) -> Iterator[str]:
    """Yield a text's paragraphs: its lines, or what blank lines separate."""
    collapsed = map(collapse, lines)
    if a_line_each:
        return filter(None, collapsed)
    blocks = itertools.groupby(collapsed, key=bool)
    return (" ".join(block) for filled, block in blocks if filled)


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

    With so few units that this gives nothing or over a quarter, the last tenth is held out. A text
    of a few long paragraphs, such as one line, is cut up first.

    Args:
        units: paragraphs that stay together: a file's, or 50 consecutive ones.
        source: what the text is, for the error.

    Returns:
        The paragraphs of training and of validation, neither empty.

    Raises:
        TrainerError: where there is no text for two splits.
    """
    train, validation = split_stream(units, source)
    return list(train), list(validation)


def split_stream(
    units: Iterable[Sequence[str]], source: str
) -> tuple[Iterable[str], Iterable[str]]:
    """As `split_units`, of units that are too many to be held: they are gone through again."""
    few = list(islice((text for unit in units for text in unit), _FOLDS))
    if len(few) < _FOLDS:
        units = in_units([piece for text in few for piece in _pieces(text)])
    marks = _marks(units, source)

    def marked(wanted: int) -> Iterator[str]:
        each = (text for unit in units for text in unit)
        return (text for text, mark in zip(each, marks, strict=True) if mark == wanted)

    return Again(lambda: marked(_TRAIN)), Again(lambda: marked(_HELD_OUT))


_REPEAT, _TRAIN, _HELD_OUT = range(3)


def _marks(units: Iterable[Sequence[str]], source: str) -> bytearray:
    """Say of each paragraph, in order, where it goes; of a repeat, letter case aside, nowhere."""
    marks, seen = bytearray(), set[bytes]()
    for unit in units:
        where = _HELD_OUT if held_out("\n".join(unit)) else _TRAIN
        for text in unit:
            key = _key(text)
            marks.append(_REPEAT if key in seen else where)
            seen.add(key)
    if marks.count(_TRAIN) and 0 < marks.count(_HELD_OUT) <= _LARGEST * len(seen):
        return marks
    if len(seen) < 2:
        raise TrainerError(
            f"data.name: {source} has too little text: {len(seen)} paragraphs of enough "
            "words, and training and validation need one each: name more text, or lower "
            "data.minimum_words"
        )
    left = max(1, len(seen) // _FOLDS)  # too few units for the hash: the end
    for number in reversed(range(len(marks))):
        if marks[number] != _REPEAT:
            marks[number] = _HELD_OUT if left > 0 else _TRAIN
            left -= 1
    return marks


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.lower().encode(), digest_size=16).digest()


def repeated(train: Iterable[str], validation: Iterable[str]) -> tuple[str, ...]:
    """Say how many paragraphs of validation stand in training too, letter case aside."""
    keys = [_key(text) for text in validation]
    held = set(keys)
    both = {key for key in map(_key, train) if key in held}
    count = sum(key in both for key in keys)
    if not count:
        return ()
    return (
        f"{count:,} of {len(keys):,} validation paragraphs stand in training too: they are no new "
        "text",
    )


def _pieces(text: str) -> Iterator[str]:
    """Cut a long paragraph into pieces of about a hundred words, all of one length."""
    word = _WORD if is_without_blanks([text]) else _RUN
    starts = [found.start() for found in word.finditer(text)]
    pieces = max(1, len(starts) // _PIECE)
    cuts = [0, *(starts[len(starts) * number // pieces] for number in range(1, pieces)), len(text)]
    return (text[start:end].strip() for start, end in itertools.pairwise(cuts))


def in_units(paragraphs: Sequence[str]) -> list[list[str]]:
    """Cut a list of paragraphs into units of 50 consecutive ones."""
    return list(units_of(paragraphs))


def units_of(paragraphs: Iterable[str]) -> Iterator[list[str]]:
    """Yield units of 50 consecutive paragraphs."""
    rest = iter(paragraphs)
    while unit := list(islice(rest, UNIT)):
        yield unit
