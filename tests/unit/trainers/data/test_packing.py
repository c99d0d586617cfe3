"""Packed windows: documents end to end, each token predicted once, next to no padding."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.config import DataConfig
from trainers.data import build_corpus, load_corpus
from trainers.data.subwords import open_tokenizer
from trainers.data.windows import pack_text

END = 3
texts = st.lists(st.text("abc \u00e9\U0001f99e", min_size=1, max_size=40), min_size=1, max_size=12)
BYTES = open_tokenizer(DataConfig(tokenizer="bytes"), [])


def stream(paragraphs: list[str]) -> list[int]:
    """The tokens end to end, by the definition: a separator, a document, ..., a separator."""
    tokens = BYTES.tokens(paragraphs, np.arange(len(paragraphs)))
    found = []
    for document in np.split(tokens.flat, np.cumsum(tokens.counts)[:-1]):
        found += [END, *document[1:-1].tolist()]
    return [*found, END]


@given(paragraphs=texts, window=st.integers(2, 30))
def test_windows_are_the_stream_cut_at_every_window(paragraphs: list[str], window: int) -> None:
    counts = BYTES.counts(paragraphs)
    split = pack_text(BYTES, paragraphs, counts, window, 0, measured=True)
    rows = [row[:n].tolist() for row, n in zip(split.tokens, split.lengths, strict=True)]
    whole = stream(paragraphs)
    assert rows == [whole[k : k + window] for k in range(0, len(whole) - 1, window - 1)]
    assert [token for row in rows for token in row[1:]] == whole[1:]
    assert set(split.score_from.tolist()) == {1}
    assert split.lengths[:-1].tolist() == [window] * (len(rows) - 1)
    assert split.scored_bytes == sum(len(text.encode()) for text in paragraphs)


@given(paragraphs=texts, window=st.integers(2, 9), most=st.integers(1, 6))
def test_a_part_of_the_windows_are_some_of_all(
    paragraphs: list[str], window: int, most: int
) -> None:
    counts = BYTES.counts(paragraphs)
    every = pack_text(BYTES, paragraphs, counts, window, 0)
    some = pack_text(BYTES, paragraphs, counts, window, most, measured=True)
    assert len(some.lengths) == min(most, len(every.lengths))
    rows = [tuple(row.tolist()) for row in every.tokens]
    place = -1
    for row in some.tokens:
        place = rows.index(tuple(row.tolist()), place + 1)  # in the order of the text
    only = [text for text in some.tokens[some.is_scored].tolist() if text != END]
    assert some.scored_bytes <= sum(len(text.encode()) for text in paragraphs)
    if all(text.isascii() for text in paragraphs):
        assert some.scored_bytes == len(only)


@pytest.mark.parametrize("tokenizer", ["words", "bytes", "bpe"])
def test_validation_scores_what_it_scores_of_windows_of_their_own(
    english: Path, tokenizer: str
) -> None:
    alone = DataConfig(name=str(english), tokenizer=tokenizer, vocabulary_size=300)
    first, second = build_corpus(alone), build_corpus(replace(alone, pack=True))
    assert second.validation.scored == first.validation.scored
    assert second.validation.scored_bytes == first.validation.scored_bytes
    assert second.tokens_per_byte == first.tokens_per_byte
    assert second.unknown_share == pytest.approx(first.unknown_share)
    assert (first.separator, second.separator) == (-1, END)
    apart, packed = (float(each.train.lengths.float().mean()) / 64 for each in (first, second))
    assert packed > 0.98 > apart


def test_a_packed_corpus_is_stored(english: Path, tmp_path: Path) -> None:
    config = DataConfig(name=str(english), tokenizer="bytes", pack=True)
    built = build_corpus(config)
    stored = load_corpus(config, tmp_path)
    assert (stored.fingerprint, stored.separator) == (built.fingerprint, END)
    assert stored.validation.scored_bytes == built.validation.scored_bytes > 0
