"""A run's budget, whatever it is counted in, and the steps that it is measured and stored at."""

import pytest

from trainers.config import TrainConfig
from trainers.length import budget_words, length_of, steps_of


def config(**budget):
    return TrainConfig(learning_rate=1e-3, **budget)


def test_epochs_steps_and_tokens_of_the_same_length_are_the_same_steps():
    # 7 steps an epoch, the last one partial: 100 tokens on 7 steps.
    lengths = [
        length_of(config(**budget), 7, 100).steps
        for budget in ({"epochs": 3}, {"steps": 21}, {"tokens": 300}, {"tokens": 299})
    ]
    assert lengths == [21] * 4
    assert length_of(config(tokens=301), 7, 100).steps == 22
    assert steps_of(0, 0, 1, per_epoch=7, targets=100) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"epochs": 3}, [7, 14, 21]),
        ({"epochs": 2, "evaluate_every": 5}, [5, 10, 14]),
        ({"steps": 9, "evaluate_every": 4}, [4, 8, 9]),
        ({"steps": 3}, [1, 2, 3]),
        ({"steps": 100}, [*range(5, 101, 5)]),
    ],
)
def test_reports_come_every_so_many_steps_and_at_the_end(given, expected):
    length, step, found = length_of(config(**given), 7), 0, []
    while step < length.steps:
        step = length.next_report(step)
        found.append(step)
    assert found == expected
    assert length.next_report(expected[1] - 1) == expected[1], "also from between two"


def test_checkpoints_come_beside_the_reports_where_they_are_asked_for():
    length = length_of(config(steps=10, checkpoint_every=4), 7)
    assert [step for step in range(1, 11) if length.is_checkpoint(step)] == [4, 8]
    assert not length_of(config(steps=10), 7).is_checkpoint(4)


def test_a_budget_in_steps_or_tokens_has_no_epochs():
    assert config(steps=5).epochs == config(tokens=5).epochs == 0
    assert config().epochs == 50
    assert config(tokens=1e9).tokens == 10**9, "as one writes it"


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ({"steps": 5, "tokens": 5}, "both give the length"),
        ({"epochs": 0}, "trainer.epochs must be at least 1"),
        ({"tokens": 1.5}, "tokens"),
        ({"steps": -1}, "steps"),
    ],
)
def test_a_budget_that_is_none_is_refused(budget, says):
    with pytest.raises(ValueError, match=says):
        config(**budget)


def test_a_budget_is_said_in_its_own_unit():
    budgets = config(epochs=1), config(steps=1000), config(tokens=10**8)
    assert [*map(budget_words, budgets)] == ["1 epoch", "1,000 steps", "100,000,000 tokens"]
