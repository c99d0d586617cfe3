"""Words to numbers: lower-cased, word level, by `tokenizers`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.trainers import WordLevelTrainer

PAD, UNKNOWN, BEGIN, END = range(4)
SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>")
_EVERY_WORD = 2**31 - 1
_BATCH = 10_000  # paragraphs encoded at once: bounds the memory

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


def tokenise(
    train: Sequence[str], validation: Sequence[str], size: int
) -> tuple[tuple[str, ...], Tokens, Tokens]:
    """Count the training words, keep the most frequent, and number both splits.

    The trainer of `tokenizers` leaves words of equal frequency in no fixed order. So it only
    lists every word; the counts are taken from the encoded text, and ties go by the alphabet.

    Args:
        train: paragraphs from which the vocabulary is taken.
        validation: paragraphs that have no say in it.
        size: most entries of the vocabulary, the four special ones included.

    Returns:
        The vocabulary in the order of its numbers, and the tokens of both splits.
    """
    tokenizer = _every_word(train)
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    names = [word for word, _ in words]
    train_ids, train_counts = _encode(tokenizer, train)
    frequency = np.bincount(train_ids, minlength=len(names)).tolist()
    frequency[0] = 0  # "<unk>" in the text is no word
    ranked = sorted(range(len(names)), key=lambda number: (-frequency[number], names[number]))
    kept = [number for number in ranked[: size - len(SPECIAL)] if frequency[number]]
    renumber = np.full(len(names), UNKNOWN, np.int64)
    renumber[kept] = np.arange(len(SPECIAL), len(SPECIAL) + len(kept))
    ids, counts = _encode(tokenizer, validation)
    vocabulary = (*SPECIAL, *(names[number] for number in kept))
    return (
        vocabulary,
        _framed(renumber[train_ids], train_counts),
        _framed(renumber[ids], counts),
    )


def _every_word(paragraphs: Sequence[str]) -> Tokenizer:
    """Build a tokenizer that knows every word; 0 is unknown, also for a literal "<unk>"."""
    tokenizer = Tokenizer(WordLevel(unk_token=SPECIAL[UNKNOWN]))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    # The other special tokens are not given: "<pad>" in a text about padding is text.
    trainer = WordLevelTrainer(
        vocab_size=_EVERY_WORD, special_tokens=[SPECIAL[UNKNOWN]], show_progress=False
    )
    tokenizer.train_from_iterator(paragraphs, trainer)
    return tokenizer


def _encode(tokenizer: Tokenizer, paragraphs: Sequence[str]) -> tuple[Integers, Integers]:
    parts = [np.empty(0, np.int64)]
    counts: list[int] = []
    for start in range(0, len(paragraphs), _BATCH):
        encoded = [
            each.ids for each in tokenizer.encode_batch_fast(paragraphs[start : start + _BATCH])
        ]
        parts.extend(np.array(ids, np.int64) for ids in encoded)
        counts.extend(map(len, encoded))
    return np.concatenate(parts), np.array(counts, np.int64)


def _framed(ids: Integers, words: Integers) -> Tokens:
    """Put <bos> before and <eos> after each paragraph."""
    counts = words + 2
    ends = np.cumsum(counts)
    flat = np.full(int(counts.sum()), -1, np.int64)
    flat[ends - counts] = BEGIN
    flat[ends - 1] = END
    flat[flat < 0] = ids
    return Tokens(flat, counts)
