"""Text to numbers by subwords or bytes: `data.tokenizer`, all but "words" (see `vocabulary.py`).

Whatever the tokenizer, a paragraph's bytes are divided among its tokens, so that validation can be
told in bits a byte and tokenizers compare.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from trainers.config import DataConfig
from trainers.data.reach import one_line, quiet, why_unreachable
from trainers.data.vocabulary import (
    BEGIN,
    END,
    SPECIAL,
    Integers,
    Tokens,
    Words,
    encoded,
    framed,
    in_batches,
)
from trainers.errors import TrainerError
from trainers.naming import BYTES, LEARNED, tokenizer_file

BEGINS = ("<|bos|>", "<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "[CLS]")
ENDS = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "<|eos|>", "[SEP]")
"""What published tokenizers call the tokens before and behind a document."""
UNKNOWNS = ("<unk>", "[UNK]", "<|unk|>")
Numbers = npt.NDArray[Any]
_SAMPLE = 1_000  # paragraphs that say whether a text comes back from its tokens


@dataclass(frozen=True, slots=True)
class Subwords:
    """A tokenizer that is ready for use.

    Attributes:
        tokenizer: by `tokenizers`.
        vocabulary: every token, in the order of their numbers; "" where a number has none.
        begin, end: the numbers that stand before and behind a paragraph.
        unknown: the number of what the tokenizer does not know; -1 where it knows every text.
    """

    tokenizer: Tokenizer
    vocabulary: tuple[str, ...]
    begin: int
    end: int
    unknown: int = -1

    def counts(self, paragraphs: Iterable[str]) -> Integers:
        """Count the tokens of each paragraph, those before and behind it included."""
        return np.array([len(ids) + 2 for ids in encoded(self.tokenizer, paragraphs)], np.int64)

    def tokens(self, paragraphs: Iterable[str], chosen: Integers) -> Tokens:
        """Number those paragraphs that are chosen, as `Words.tokens`."""
        ids = encoded(self.tokenizer, _chosen(paragraphs, chosen))
        parts = [np.array(each, np.int64) for each in ids]
        return framed(parts, self.begin, self.end)

    def byte_counts(self, paragraphs: Iterable[str], chosen: Integers) -> Integers:
        """Count the UTF-8 bytes that each of `tokens` stands for; none of what frames a paragraph.

        Each byte of a paragraph is one token's: that which first reaches its end, or the last one.
        """
        parts = [
            _byte_counts(text, encoding)
            for batch in in_batches(_chosen(paragraphs, chosen))
            for text, encoding in zip(batch, self._encode(batch), strict=True)
        ]
        return framed(parts, 0, 0).flat

    def bytes_of(self, numbers: Numbers) -> int:
        """Count the UTF-8 bytes of some tokens' text, without what stands between documents."""
        text = numbers[(numbers != self.end) & (numbers != self.begin)].tolist()
        return len(self.tokenizer.decode(text).encode())

    def lost(self, paragraphs: Iterable[str]) -> float:
        """The share of paragraphs that do not come back from their tokens, blanks aside: 0 to 1."""
        few = list(islice(paragraphs, _SAMPLE))
        back = self.tokenizer.decode_batch([encoding.ids for encoding in self._encode(few)])
        pairs = zip(few, back, strict=True)
        return sum(_letters(text) != _letters(other) for text, other in pairs) / max(1, len(few))

    def _encode(self, texts: list[str]) -> list[Encoding]:
        encodings: list[Encoding] = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        return encodings


Encoder = Words | Subwords


def open_tokenizer(config: DataConfig, train: Iterable[str]) -> Subwords:
    """Make or read the tokenizer that a config names.

    Args:
        config: of the text.
        train: paragraphs to learn from, for "bpe".

    Raises:
        TrainerError: there is no such tokenizer, or it cannot be read.
    """
    if config.tokenizer == BYTES:
        alphabet = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
        model = BPE(vocab={token: number for number, token in enumerate(alphabet)}, merges=[])
        tokenizer = _byte_level(model)
        tokenizer.add_special_tokens(list(SPECIAL))
        return _ready(tokenizer, BEGIN, END)
    if config.tokenizer == LEARNED:
        tokenizer = _byte_level(BPE())
        trainer = BpeTrainer(
            vocab_size=config.vocabulary_size,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(train, trainer)
        return _ready(tokenizer, BEGIN, END)
    return _foreign(_read(config.tokenizer))


def tokenizer_content(config: DataConfig) -> str:
    """The sha256 in hex of the tokenizer's file; "" where none is named.

    Raises:
        TrainerError: the file cannot be read.
    """
    path = tokenizer_file(config.tokenizer)
    return "" if path is None else hashlib.sha256(_content(path)).hexdigest()


def _byte_level(model: BPE) -> Tokenizer:
    """Cut as GPT-2 does (Radford et al., 2019): by a regular expression, then into bytes."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _read(name: str) -> Tokenizer:
    path = tokenizer_file(name)
    try:
        if path is not None:
            return Tokenizer.from_buffer(_content(path))
        return _from_hub(name)
    except TrainerError:
        raise
    except Exception as error:  # `tokenizers` and the hub raise of many kinds
        where = name if path is None else path
        raise TrainerError(
            f"data.tokenizer: {where} is no tokenizer that can be read ({one_line(error)}): take "
            '"words", "bytes", "bpe", the path of a tokenizer.json, or a hub name'
        ) from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TrainerError(
            f"data.tokenizer: {path} cannot be read ({error.strerror}): check the path"
        ) from None


def _from_hub(name: str) -> Tokenizer:
    from huggingface_hub import try_to_load_from_cache  # here: most runs need no hub

    with quiet():
        reason = why_unreachable()
        if not reason:
            return Tokenizer.from_pretrained(name)
        cached = try_to_load_from_cache(name, "tokenizer.json")
    if not isinstance(cached, str):
        raise TrainerError(
            f"data.tokenizer: {reason}, and {name} is not in the local cache: check the network "
            'and the spelling, or take "words", "bytes", "bpe" or the path of a tokenizer.json'
        )
    return Tokenizer.from_file(cached)


def read_tokenizer(path: Path) -> Subwords:
    """Read a tokenizer.json.

    Raises:
        TrainerError: it cannot be read.
    """
    return _foreign(_read(str(path)))


def _foreign(tokenizer: Tokenizer) -> Subwords:
    """A tokenizer as it was published: its numbers stay as they are."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if _first(tokenizer, BEGINS + ENDS) < 0:
        tokenizer.add_special_tokens([SPECIAL[END]])
    begin, end = _first(tokenizer, BEGINS + ENDS), _first(tokenizer, ENDS + BEGINS)
    return _ready(tokenizer, begin, end, _first(tokenizer, UNKNOWNS))


def _first(tokenizer: Tokenizer, names: Iterable[str]) -> int:
    numbers = (tokenizer.token_to_id(name) for name in names)
    return next((number for number in numbers if number is not None), -1)


def _ready(tokenizer: Tokenizer, begin: int, end: int, unknown: int = -1) -> Subwords:
    tokenizer.encode_special_tokens = True  # "<eos>" in a text is text
    numbers = tokenizer.get_vocab(with_added_tokens=True)
    names = [""] * (max(numbers.values()) + 1)
    for name, number in numbers.items():
        names[number] = name
    return Subwords(tokenizer, tuple(names), begin, end, unknown)


def _chosen(paragraphs: Iterable[str], chosen: Integers) -> Iterator[str]:
    wanted = set(chosen.tolist())
    return (text for place, text in enumerate(paragraphs) if place in wanted)


def _byte_counts(text: str, encoding: Encoding) -> Integers:
    ends = np.array([end for _, end in encoding.offsets], np.int64)
    if not len(ends):
        return ends
    ends = np.maximum.accumulate(ends)
    ends[-1] = len(text)  # blanks behind the last token are its own
    if text.isascii():
        return np.diff(ends, prepend=0)
    letters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    width = 1 + (letters >= 0x80) + (letters >= 0x800) + (letters >= 0x10000)
    return np.diff(np.cumsum([0, *width])[ends], prepend=0)


def _letters(text: str) -> str:
    return "".join(text.split())
