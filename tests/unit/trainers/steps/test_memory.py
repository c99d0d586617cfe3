"""How many rows of a batch are computed at once."""

import math

import pytest
import torch

import trainers.steps.memory
from trainers.config import ModelConfig
from trainers.models import build_model
from trainers.steps.memory import bytes_of_a_row, rows_that_fit, total_memory_bytes

CPU = torch.device("cpu")


def model(name, **options):
    return build_model(ModelConfig(name=name, options=options), 50)


@pytest.mark.parametrize(
    ("name", "small", "large"),
    [
        ("context_vector", {"hidden": 64}, {"hidden": 512}),
        ("gpt", {"width": 32}, {"width": 256}),
    ],
)
def test_a_larger_model_and_a_longer_window_keep_more(name, small, large):
    bytes_ = bytes_of_a_row(model(name, **small), 16, CPU)
    assert bytes_of_a_row(model(name, **large), 16, CPU) > 2 * bytes_
    assert bytes_of_a_row(model(name, **small), 32, CPU) > 1.8 * bytes_


def test_what_the_recurrence_keeps_is_counted_by_hand():
    hidden, layers, context, embed = 64, 3, 16, 8
    one = model("context_vector", hidden=hidden, layers=layers, context=context, embed=embed)
    positions = 15
    every = layers * hidden + 8 * embed // 8  # each layer's output, the embedding
    later = 3 * context + context + context  # gates, what is normalised, the context
    exact = 4 * (every * positions + later * (positions - 1))
    assert exact * 0.95 < bytes_of_a_row(one, positions + 1, CPU) < exact * 1.5


def test_a_plain_model_s_logits_count():
    one = torch.nn.Sequential(torch.nn.Embedding(5000, 4), torch.nn.Linear(4, 5000))
    assert bytes_of_a_row(one, 16, CPU) >= 15 * 5000 * 4


def test_a_model_of_the_user_s_is_left_as_it_was():
    torch.manual_seed(0)
    one = torch.nn.Sequential(
        torch.nn.Embedding(50, 4), torch.nn.BatchNorm1d(15), torch.nn.Linear(4, 50)
    )
    bytes_of_a_row(one, 16, CPU)
    assert one.training
    assert one[1].num_batches_tracked == 0


@pytest.mark.parametrize(("memory", "members"), [(2**30, 1), (2**30, 4), (2**10, 1)])
def test_what_fits_is_a_share_of_the_memory_and_never_none(monkeypatch, memory, members):
    monkeypatch.setattr(trainers.steps.memory, "total_memory_bytes", lambda _: memory)
    one = model("gpt", width=32)
    fits = 0.4 * memory / (2 * members * bytes_of_a_row(one, 64, CPU))
    assert rows_that_fit(one, 64, members) == max(1, int(fits))


def test_the_least_that_limits_the_process_counts(monkeypatch):
    monkeypatch.setattr(trainers.steps.memory, "memory_limit", lambda: 2.0**20)
    assert total_memory_bytes(CPU) == 2**20
    monkeypatch.setattr(trainers.steps.memory, "memory_limit", lambda: math.inf)
    assert 2**20 < total_memory_bytes(CPU) < 2**60


def test_a_large_cpu_does_not_compute_more_at_once_than_pays(monkeypatch):
    monkeypatch.setattr(trainers.steps.memory, "total_memory_bytes", lambda _: 2**40)
    one = model("gpt", width=32)
    assert rows_that_fit(one, 64) == 2**31 // (2 * bytes_of_a_row(one, 64, CPU))
