"""Words to numbers: lower-cased, word level, by `tokenizers`.

A text is gone through several times and never held whole: it may be larger than the memory.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Split, Whitespace
from tokenizers.trainers import WordLevelTrainer

from trainers.data.paragraphs import WITHOUT_BLANKS, is_without_blanks

PAD, UNKNOWN, BEGIN, END = range(4)
SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>")
_EVERY_WORD = 2**31 - 1
_BATCH = 1_000  # paragraphs encoded at once: bounds the memory
_SAMPLE = 10_000  # paragraphs that say in what script a text is

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Paragraphs as numbers, one after the other.

    Attributes:
        flat: (sum of counts,) each paragraph as <bos>, its words, <eos>.
        counts: (paragraphs,) tokens of each, those two included.
    """

    flat: Integers
    counts: Integers


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a training text and their numbers.

    Attributes:
        tokenizer: knows every word of the text.
        vocabulary: the kept words, in the order of their numbers.
        renumber: from the tokenizer's numbers to the vocabulary's.
    """

    tokenizer: Tokenizer
    vocabulary: tuple[str, ...]
    renumber: Integers
    end: int = END
    unknown: int = UNKNOWN

    def counts(self, paragraphs: Iterable[str]) -> Integers:
        """Count the tokens of each paragraph, <bos> and <eos> included."""
        return np.array([len(ids) + 2 for ids in encoded(self.tokenizer, paragraphs)], np.int64)

    def tokens(self, paragraphs: Iterable[str], chosen: Integers) -> Tokens:
        """Number those paragraphs that are chosen.

        Args:
            paragraphs: of a text.
            chosen: their places in it, sorted.
        """
        wanted = set(chosen.tolist())
        few = (text for place, text in enumerate(paragraphs) if place in wanted)
        parts = [self.renumber[np.array(ids, np.int64)] for ids in encoded(self.tokenizer, few)]
        return framed(parts, BEGIN, END)


def learn(train: Iterable[str], size: int) -> tuple[Words, Integers]:
    """Count the training words, and number the most frequent.

    The trainer of `tokenizers` leaves words of equal frequency in no fixed order. So it only
    lists every word; the counts are taken from the encoded text, and ties go by the alphabet.

    Args:
        train: paragraphs from which the vocabulary is taken.
        size: most entries of the vocabulary, the four special ones included.

    Returns:
        The words, and `Words.counts` of the training text.
    """
    tokenizer = _every_word(train)
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    names = [word for word, _ in words]
    seen, counts = Counter[int](), []
    for ids in encoded(tokenizer, train):
        seen.update(ids)
        counts.append(len(ids) + 2)
    frequency = [seen[number] for number in range(len(names))]
    frequency[0] = 0  # "<unk>" in the text is no word
    ranked = sorted(range(len(names)), key=lambda number: (-frequency[number], names[number]))
    kept = [number for number in ranked[: size - len(SPECIAL)] if frequency[number]]
    renumber = np.full(len(names), UNKNOWN, np.int64)
    renumber[kept] = np.arange(len(SPECIAL), len(SPECIAL) + len(kept))
    vocabulary = (*SPECIAL, *(names[number] for number in kept))
    return Words(tokenizer, vocabulary, renumber), np.array(counts, np.int64)


def _every_word(paragraphs: Iterable[str]) -> Tokenizer:
    """Build a tokenizer that knows every word; 0 is unknown, also for a literal "<unk>"."""
    tokenizer = Tokenizer(WordLevel(unk_token=SPECIAL[UNKNOWN]))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    if is_without_blanks(islice(paragraphs, _SAMPLE)):  # a letter is a word: no blank ends one
        letters = Split(Regex(f"[{WITHOUT_BLANKS}]"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([Whitespace(), letters])
    # The other special tokens are not given: "<pad>" in a text about padding is text.
    trainer = WordLevelTrainer(
        vocab_size=_EVERY_WORD, special_tokens=[SPECIAL[UNKNOWN]], show_progress=False
    )
    tokenizer.train_from_iterator(paragraphs, trainer)
    return tokenizer


def encoded(tokenizer: Tokenizer, paragraphs: Iterable[str]) -> Iterator[list[int]]:
    """Yield the tokenizer's numbers of each paragraph, without any special ones."""
    for batch in in_batches(paragraphs):
        encodings = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        yield from (encoding.ids for encoding in encodings)


def in_batches(paragraphs: Iterable[str]) -> Iterator[list[str]]:
    """Yield as many paragraphs as are encoded at once."""
    rest = iter(paragraphs)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def framed(parts: Sequence[Integers], begin: int, end: int) -> Tokens:
    """Put a number before and one behind each paragraph's own."""
    counts = np.array([len(part) + 2 for part in parts], np.int64)
    before, behind = np.array([begin], np.int64), np.array([end], np.int64)
    pieces = [piece for part in parts for piece in (before, part, behind)]
    return Tokens(np.concatenate([*pieces, np.empty(0, np.int64)]), counts)
