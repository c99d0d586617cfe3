"""Batches: whose order it is, that nothing is lost, and which targets are scored."""

import pytest
import torch
from support import waiting_is_an_error

from trainers.batches import Batches
from trainers.data import Sequences

CPU = torch.device("cpu")
ROWS, WINDOW = 23, 9


@pytest.fixture
def sequences():
    """Windows of 2 to 9 tokens; each row's tokens name the row."""
    lengths = torch.randint(2, WINDOW + 1, (ROWS,), generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(1, ROWS + 1)[:, None].expand(ROWS, WINDOW)
    tokens = tokens.where(torch.arange(WINDOW) < lengths[:, None], 0)
    score_from = torch.where(torch.arange(ROWS) % 3 > 0, lengths - 1, 1)
    return Sequences(tokens, lengths, score_from)


@pytest.fixture
def batches(sequences):
    return Batches(sequences, CPU)


def rows_of(batch):
    return [int(row) for row in batch.tokens_BT[:, 0]]


def order(batches, batch_size=5, seed=0, epoch=1):
    return [rows_of(batch) for batch in batches.shuffled(batch_size, seed, epoch)]


def test_an_epoch_has_every_sequence_once_and_keeps_the_partial_batch(batches):
    rows = order(batches)
    assert [len(batch) for batch in rows] == [5, 5, 5, 5, 3]
    assert sorted(row for batch in rows for row in batch) == list(range(1, ROWS + 1))


def test_a_batch_may_be_the_whole_data(batches):
    assert [len(batch) for batch in order(batches, batch_size=ROWS)] == [ROWS]


def test_the_order_is_a_function_of_seed_and_epoch_alone(batches, sequences):
    first = order(batches)
    torch.manual_seed(123)
    assert order(batches) == first
    torch.rand(7)
    assert order(Batches(sequences, CPU)) == first


def test_drawing_an_order_leaves_the_global_random_state_alone(batches):
    before = torch.get_rng_state()
    order(batches)
    assert torch.equal(torch.get_rng_state(), before)


def test_other_seeds_and_epochs_have_other_orders(batches):
    drawn = [order(batches, seed=seed, epoch=epoch) for seed in range(4) for epoch in range(1, 6)]
    assert len({str(rows) for rows in drawn}) == len(drawn)


def test_epochs_of_one_seed_mix_the_batches_themselves(batches):
    first, second = ({frozenset(rows) for rows in order(batches, epoch=epoch)} for epoch in (1, 2))
    assert not first & second


def test_rows_stand_by_falling_length_and_no_column_is_padding_alone(batches, sequences):
    for batch in batches.shuffled(5, 0, 1):
        lengths = batch.lengths_B.tolist()
        assert lengths == sorted(lengths, reverse=True)
        assert batch.tokens_BT.shape == (len(lengths), lengths[0])
        for row, tokens in zip(rows_of(batch), batch.tokens_BT, strict=True):
            length = int(sequences.lengths[row - 1])
            assert torch.equal(tokens[:length], sequences.tokens[row - 1, :length])
            assert not tokens[length:].any()


def test_evaluation_goes_from_the_longest_to_the_shortest(batches, sequences):
    found = list(batches.by_length(4))
    lengths = torch.cat([batch.lengths_B for batch in found])
    assert torch.equal(lengths, sequences.lengths.sort(descending=True).values)
    assert sorted(row for batch in found for row in rows_of(batch)) == list(range(1, ROWS + 1))


def test_targets_are_the_tokens_after_the_first(batches, sequences):
    assert sum(batch.targets for batch in batches.shuffled(5, 0, 1)) == sequences.targets
    assert sum(batch.targets for batch in batches.by_length(4)) == sequences.targets


def test_scored_targets_are_the_data_s_own(batches, sequences):
    scored = 0
    for batch in batches.by_length(4):
        for row, start, length in zip(
            rows_of(batch), batch.score_from_B, batch.lengths_B, strict=True
        ):
            # Target i is token i + 1.
            assert start + 1 == sequences.score_from[row - 1]
            scored += int(length - 1 - start)
    assert scored == sequences.scored


@pytest.mark.parametrize(
    ("largest", "bytes_"), [(255, 1), (256, 2), (2**15 - 1, 2), (2**15, 4), (2**31, 8)]
)
def test_tokens_lie_once_on_the_device_in_the_smallest_type(sequences, largest, bytes_):
    tokens = sequences.tokens.clone()
    tokens[3, 0] = largest
    split = Sequences(tokens, sequences.lengths, sequences.score_from)
    first, second = Batches(split, CPU), Batches(split, CPU)
    assert first._tokens_SW is second._tokens_SW
    assert first._tokens_SW.element_size() == bytes_
    found = [batch.tokens_BT for batch in first.by_length(5)]
    assert {batch.dtype for batch in found} == {torch.int64}
    assert max(int(batch.max()) for batch in found) == largest


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_batches_are_the_same_and_the_host_never_waits_between_them(batches, sequences):
    there = Batches(sequences, torch.device("cuda")).shuffled(5, 0, 1)
    found = [next(there)]  # the epoch's one transfer
    with waiting_is_an_error():
        found += there
    for mine, other in zip(batches.shuffled(5, 0, 1), found, strict=True):
        assert torch.equal(mine.tokens_BT, other.tokens_BT.cpu())
        assert other.lengths_B.device == CPU
        assert torch.equal(mine.lengths_B, other.lengths_B)
