"""What a step costs: measured on real steps, of a model that is thrown away."""

import dataclasses

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

import trainers.measuring.measure
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.data import Sequences
from trainers.data.corpus import assemble
from trainers.data.vocabulary import Words
from trainers.measuring.measure import cohort_size, measure
from trainers.steps.cohort import step_alone

CPU = torch.device("cpu")
ROWS, WINDOW = 50, 6
CONFIG = TrainConfig(
    learning_rate=1e-3,
    batch_size=8,
    model=ModelConfig(options={"embed": 8, "hidden": 16, "layers": 2, "context": 8}),
)


def sequences(rows):
    tokens = torch.randint(4, 20, (rows, WINDOW), generator=torch.Generator().manual_seed(0))
    return Sequences(tokens, torch.full((rows,), WINDOW), torch.ones(rows, dtype=torch.int64))


@pytest.fixture
def corpus():
    vocabulary = ("<pad>", "<unk>", "<bos>", "<eos>", *(f"w{number}" for number in range(16)))
    words = Words(Tokenizer(WordLevel()), vocabulary, np.arange(0))
    return assemble(DataConfig(), "made", sequences(ROWS), sequences(9), words, ())


@pytest.fixture
def clock(monkeypatch):
    """Says what each timed call took: the warm-up step, three steps, the evaluation."""

    def timed(call, device):
        call()
        return next(seconds)

    seconds = iter([9.0, 0.3, 0.1, 0.2, 0.5])
    monkeypatch.setattr(trainers.measuring.measure, "_timed", timed)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_real_measurement(corpus, precision):
    cost = measure(dataclasses.replace(CONFIG, precision=precision), corpus, CPU)
    assert cost.steps == 7, "the last, partial batch is a step"
    assert 0 < cost.step_s < 60
    assert 0 < cost.evaluation_s < 60
    assert cost.peak_memory_bytes > 2**20


def test_the_median_without_the_warm_up(corpus, clock):
    cost = measure(CONFIG, corpus, CPU)
    assert (cost.step_s, cost.evaluation_s) == (0.2, 0.5)


def test_as_few_steps_as_it_takes(corpus, monkeypatch):
    taken = []
    monkeypatch.setattr(
        trainers.measuring.measure,
        "step_alone",
        lambda member, batch: (taken.append(len(batch.lengths_B)), step_alone(member, batch)),
    )
    measure(CONFIG, corpus, CPU)
    assert taken == [8] * (trainers.measuring.measure.MEASURED_STEPS + 1)


def test_a_batch_of_the_whole_data_has_only_the_warm_up(corpus):
    cost = measure(dataclasses.replace(CONFIG, batch_size=ROWS), corpus, CPU)
    assert cost.steps == 1
    assert cost.step_s > 0


def seconds_by_size(monkeypatch, seconds):
    """Says what a step of so many members took."""

    def timed(call, device):
        (members, _batches) = call.args
        tried.append(len(members))
        return seconds[len(members)]

    tried = []
    monkeypatch.setattr(trainers.measuring.measure, "_timed", timed)
    return tried


@pytest.mark.parametrize(
    ("seconds", "at_most", "size"),
    [
        ({1: 0.1, 2: 0.11, 4: 0.12}, 4, 4),
        ({1: 0.1, 2: 0.11, 3: 0.12}, 3, 3),
        ({1: 0.1, 2: 0.12, 4: 0.3}, 4, 2),  # more members, fewer tokens a second
        ({1: 0.1, 2: 0.17, 4: 0.35}, 4, 1),  # a gain that is not worth it
        ({1: 0.1}, 1, 1),
    ],
)
def test_a_cohort_s_size_is_what_gives_the_most_tokens_a_second(
    corpus, monkeypatch, seconds, at_most, size
):
    tried = seconds_by_size(monkeypatch, seconds)
    assert cohort_size(CONFIG, corpus, CPU, at_most) == size
    assert set(tried) == set(seconds)


def test_a_busy_machine_does_not_look_like_a_gain(corpus, monkeypatch):
    """The first measurement, of one alone, fell into another program's time."""
    alone = iter([0.2, 0.2, 0.2])

    def timed(call, device):
        (members, _batches) = call.args
        return next(alone, 0.1) if len(members) == 1 else 0.1 * len(members)

    monkeypatch.setattr(trainers.measuring.measure, "_timed", timed)
    assert cohort_size(CONFIG, corpus, CPU, 4) == 1


def test_a_long_step_is_arithmetic_and_no_cohort_is_tried(corpus, monkeypatch):
    tried = seconds_by_size(monkeypatch, {1: 1.5})
    assert cohort_size(CONFIG, corpus, CPU, 4) == 1
    assert set(tried) == {1}


def test_a_cohort_is_measured_on_real_steps(corpus):
    assert cohort_size(CONFIG, corpus, CPU, 3) in (1, 2, 3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_the_peak_is_the_measurement_s_own(corpus):
    torch.empty(2**30, dtype=torch.uint8, device="cuda")
    assert measure(CONFIG, corpus, torch.device("cuda")).peak_memory_bytes < 2**29
