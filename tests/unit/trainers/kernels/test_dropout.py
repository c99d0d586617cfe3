"""Dropout's masks: their share, their stream, and that parts of a batch are given the same."""

import itertools

import pytest
import torch

from trainers.kernels.dropout import Dropout, block_rows

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(3)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.99])
def test_drops_the_share_asked_for(p):
    keep = Dropout().keep(p, (1000, 700), CPU)
    assert keep.shape == (1, 1000, 700)
    deviation = (p * (1 - p) / keep.numel()) ** 0.5
    assert (1 - keep.double()).mean().item() == pytest.approx(p, abs=5 * deviation + 1e-5)
    for other in (keep[:, 1:] ^ keep[:, :-1], keep[..., 1:] ^ keep[..., :-1]):  # independent
        assert other.double().mean().item() == pytest.approx(2 * p * (1 - p), abs=0.004)


@pytest.mark.parametrize("cut", [300, 256, 100, 7])
def test_parts_of_a_batch_are_given_what_the_whole_is_in_every_layer(cut):
    rows, places = 610, [(0, 1, 4), (7, 2, 5)]

    def masks(first, count):
        dropout = Dropout(places, window=20, first=first, of=rows)
        return [dropout.keep(p, (count, 20, 3), CPU) for p in (0.3, 0.5, 0.3)]

    whole = masks(0, rows)
    parts = [masks(first, min(cut, rows - first)) for first in range(0, rows, cut)]
    for layer, expected in enumerate(whole):
        assert torch.equal(torch.cat([part[layer] for part in parts], dim=1), expected)
    assert not torch.equal(whole[0], whole[2])


def test_every_member_epoch_step_and_block_draws_its_own():
    block = block_rows(9)
    places = [(0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1)]
    found = Dropout(places, window=9).keep(0.5, (2 * block, 9), CPU)
    assert found.shape == (4, 2 * block, 9)
    masks = [mask for member in found for mask in member.split(block)]
    assert not any(torch.equal(*pair) for pair in itertools.combinations(masks, 2))
    assert torch.equal(found[2:3], Dropout(places[2:3], window=9).keep(0.5, (2 * block, 9), CPU))


@pytest.mark.parametrize(("window", "rows"), [(16, 256), (64, 256), (1024, 16), (2**16, 1)])
def test_a_block_of_long_rows_has_fewer(window, rows):
    assert block_rows(window) == rows


def test_a_shorter_batch_is_given_the_same_first_positions():
    whole = Dropout(window=9).keep(0.5, (4, 9, 2), CPU)
    torch.manual_seed(3)
    assert torch.equal(Dropout(window=9).keep(0.5, (4, 5, 2), CPU), whole[:, :, :5])
