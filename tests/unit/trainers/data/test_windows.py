"""Windows: every token is scored once, with context, and a subset is always the same."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.data.corpus import Sequences
from trainers.data.vocabulary import Tokens
from trainers.data.windows import cut


def paragraphs_of(counts: list[int]) -> Tokens:
    """Number all tokens from 1 on, so that each is known by its value."""
    return Tokens(np.arange(1, sum(counts) + 1), np.array(counts, np.int64))


def plain_windows(counts: list[int], window: int, stride: int) -> list[list[int]]:
    """Cut by the definition, a token at a time: a window has a target not covered before."""
    found, begin = [], 1
    for count in counts:
        tokens, covered, start = list(range(begin, begin + count)), 1, 0
        while covered < count:
            found.append(tokens[start : start + window])
            covered, start = start + len(found[-1]), start + stride
        begin += count
    return found


def scored(split: Sequences) -> list[int]:
    return [
        int(row[position])
        for row, length, first in zip(split.tokens, split.lengths, split.score_from, strict=True)
        for position in range(int(first), int(length))
    ]


sizes = st.integers(2, 24).flatmap(lambda w: st.tuples(st.just(w), st.integers(1, w - 1)))
lengths = st.lists(st.integers(3, 90), min_size=1, max_size=12)


@given(counts=lengths, size=sizes)
def test_windows_are_those_of_the_definition(counts: list[int], size: tuple[int, int]) -> None:
    split = cut(paragraphs_of(counts), *size)
    rows = [row[:n].tolist() for row, n in zip(split.tokens, split.lengths, strict=True)]
    assert rows == plain_windows(counts, *size)
    position = torch.arange(size[0])
    assert (split.tokens[position >= split.lengths[:, None]] == 0).all()
    assert split.lengths.min() >= 2
    assert {split.tokens.dtype, split.lengths.dtype, split.score_from.dtype} == {torch.int64}


@given(counts=lengths, size=sizes)
def test_every_target_is_scored_exactly_once(counts: list[int], size: tuple[int, int]) -> None:
    split = cut(paragraphs_of(counts), *size)
    firsts = np.cumsum([0, *counts[:-1]]) + 1  # of each paragraph: nothing predicts it
    expected = sorted(set(range(1, sum(counts) + 1)) - set(firsts.tolist()))
    assert sorted(scored(split)) == expected
    assert split.scored == len(expected)
    assert split.targets == int(split.lengths.sum()) - len(split.lengths)


@given(counts=lengths, size=sizes)
def test_later_windows_score_with_context(counts: list[int], size: tuple[int, int]) -> None:
    window, stride = size
    split = cut(paragraphs_of(counts), window, stride)
    firsts = set((np.cumsum([0, *counts[:-1]]) + 1).tolist())
    for row, start, length in zip(split.tokens, split.score_from, split.lengths, strict=True):
        assert start == (1 if int(row[0]) in firsts else window - stride)
        assert 1 <= start < length


def test_a_paragraph_of_exactly_one_window_has_no_second() -> None:
    assert cut(paragraphs_of([64]), 64, 32).lengths.tolist() == [64]
    longer = cut(paragraphs_of([65]), 64, 32)
    assert longer.lengths.tolist() == [64, 33]
    assert longer.score_from.tolist() == [1, 32]


def test_a_subset_is_fixed_distinct_and_in_order() -> None:
    tokens = paragraphs_of([40] * 100)
    everything = cut(tokens, 16, 8).tokens.tolist()
    torch.manual_seed(1)
    one = cut(tokens, 16, 8, most=150).tokens.tolist()
    torch.manual_seed(2)
    assert one == cut(tokens, 16, 8, most=150).tokens.tolist()
    places = [everything.index(row) for row in one]
    assert places == sorted(set(places))
    assert len(places) == 150
    assert places != list(range(150))


@pytest.mark.parametrize("most", [0, 400, 10_000])
def test_asking_for_more_than_there_are_takes_all(most: int) -> None:
    tokens = paragraphs_of([40] * 100)
    assert len(cut(tokens, 16, 8, most).lengths) == len(cut(tokens, 16, 8).lengths) == 400
