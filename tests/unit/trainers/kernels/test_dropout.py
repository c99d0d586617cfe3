"""Dropout's masks: their share, their stream, and that parts of a batch are given the same."""

from contextlib import contextmanager

import pytest
import torch

from trainers.kernels.dropout import BLOCK, Dropout

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


def test_parts_of_a_batch_are_given_what_the_whole_is():
    rows = 3 * BLOCK + 10
    whole = Dropout().keep(0.3, (rows, 5, 3), CPU)
    torch.manual_seed(3)
    dropout = Dropout()
    sizes = (2 * BLOCK, BLOCK, 10)
    parts = [dropout.keep(0.3, (size, 5, 3), CPU) for size in sizes]
    assert torch.equal(torch.cat(parts, dim=1), whole)


def test_each_member_draws_from_its_own_stream():
    drawn = []

    @contextmanager
    def stream(number):
        drawn.append(number)
        state = torch.get_rng_state()
        torch.manual_seed(number)
        yield
        torch.set_rng_state(state)

    keep = Dropout([stream(1), stream(2)]).keep(0.5, (7, 9), CPU)
    assert drawn == [1, 2]
    assert keep.shape == (2, 7, 9)
    torch.manual_seed(2)
    assert torch.equal(keep[1:], Dropout().keep(0.5, (7, 9), CPU))


def test_a_shorter_batch_is_given_the_same_first_positions():
    whole = Dropout(window=9).keep(0.5, (4, 9, 2), CPU)
    torch.manual_seed(3)
    assert torch.equal(Dropout(window=9).keep(0.5, (4, 5, 2), CPU), whole[:, :, :5])
