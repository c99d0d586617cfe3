"""A random order of which any part is had alone."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainers.permutation import Permutation


@given(count=st.integers(1, 3000), seed=st.integers(0, 2**63))
def test_each_thing_has_one_place(count: int, seed: int) -> None:
    order = Permutation(count, seed)
    assert len(order) == count
    assert sorted(order.part(0, count).tolist()) == list(range(count))


@given(
    count=st.integers(1, 500), seed=st.integers(0, 99), ends=st.tuples(*[st.integers(0, 600)] * 2)
)
def test_a_part_is_that_of_the_whole(count: int, seed: int, ends: tuple[int, int]) -> None:
    start, stop = min(ends), max(ends)
    whole = Permutation(count, seed).part(0, count)
    assert Permutation(count, seed).part(start, stop).tolist() == whole[start:stop].tolist()


def test_every_order_of_four_is_about_as_frequent() -> None:
    found = Counter(tuple(Permutation(4, seed).part(0, 4).tolist()) for seed in range(2400))
    assert len(found) == 24
    assert 60 < min(found.values()) <= max(found.values()) < 150  # 100 each, by chance 70 to 130


def test_neighbours_are_far_apart() -> None:
    order = Permutation(10**9, 0).part(5 * 10**8, 5 * 10**8 + 10_000)
    assert len(set(order.tolist())) == 10_000
    steps = np.abs(np.diff(order))
    assert 0.3 < steps.mean() / 10**9 < 0.37  # a third, of two drawn at random
    assert 0.47 < order.mean() / 10**9 < 0.53
