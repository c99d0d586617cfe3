"""What trainers say."""

import math
import pickle
from dataclasses import FrozenInstanceError

import pytest

from trainers.report import Ending, Outcome, Progress, Report, Verdict


def report(loss):
    return Report(
        epoch=1,
        train_loss=2.0,
        validation_loss=loss,
        accuracy=0.1,
        learning_rate=1e-3,
        tokens_per_second=1e4,
        peak_memory_bytes=2**20,
    )


@pytest.mark.parametrize("loss", [0.0, 1.5, math.log(35.57), 700.0])
def test_perplexity_is_the_exponential_of_the_loss(loss):
    assert report(loss).perplexity == math.exp(loss)


@pytest.mark.parametrize("loss", [710.0, 1e30, math.inf])
def test_a_perplexity_beyond_floats_is_infinite_not_an_error(loss):
    assert report(loss).perplexity == math.inf


def test_a_loss_that_is_no_number_gives_no_number():
    assert math.isnan(report(math.nan).perplexity)


def test_every_outcome_has_a_sentence_of_its_own():
    sentences = [outcome.sentence for outcome in Outcome]
    assert all(sentences)
    assert len(set(sentences)) == len(Outcome)
    assert not any("\n" in sentence for sentence in sentences)


def test_an_ending_says_what_is_special_or_the_outcome_s_sentence():
    assert Ending(Outcome.PRUNED).message == Outcome.PRUNED.sentence
    assert Ending(Outcome.DIVERGED, "diverged in epoch 3").message == "diverged in epoch 3"


def test_they_are_values_that_travel():
    for said in (
        report(1.0),
        Progress(1, 2, train_loss=3.0, gradient_norm=4.0),
        Ending(Outcome.LOST),
        Verdict.PRUNE,
    ):
        assert pickle.loads(pickle.dumps(said)) == said
    with pytest.raises(FrozenInstanceError):
        report(1.0).epoch = 2
