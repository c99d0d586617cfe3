"""What a study's numbers are: what is possible, in which unit the search works, how it is shown."""

import math

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from studies.errors import StudyError
from studies.objective import Objective
from studies.observed import Terms, posterior_of
from studies.prior import Prior
from studies.stopping import remaining
from studies.strategy import next_training
from studies.table import Table

LOSS, BITS = Objective("validation_loss"), Objective("bits_per_byte")
ACCURACY = Objective("accuracy", "maximize")
SPACE = FloatDistribution(1e-5, 1e-1, log=True)
RATES = [3e-4, 1e-3, 2e-3, 4e-3, 1e-2, 3e-2]


def perplexity(rate: float, step: int = 4) -> float:
    """A bowl around 3e-3, that training sinks into."""
    return math.exp(3.5 + 0.3 * math.log(rate / 3e-3) ** 2 + 0.4 * (4 - step) / 3)


def trials(objective: Objective, told: float = 1.0) -> list[FrozenTrial]:
    """The same six runs, each number as the objective stores it: nats, or so much for one."""

    def stored(rate: float, step: int = 4) -> float:
        value = perplexity(rate, step)
        if objective.name == "perplexity":
            return value
        return math.log(value) * (1 / math.log(2) if objective == BITS else told)

    return [
        create_trial(
            value=stored(rate),
            params={"learning_rate": rate},
            distributions={"learning_rate": SPACE},
            intermediate_values={step: stored(rate, step) for step in range(1, 5)},
        )
        for rate in RATES
    ]


def terms(objective: Objective, baseline: float | None = None) -> Terms:
    """The same range and rules for each objective."""
    rules = {"sqrt": Prior(1e-3), "linear": Prior(8e-3)}
    return Terms(
        SPACE.low, SPACE.high, rules, baseline, constant_rate=True, steps=4, objective=objective
    )


@pytest.mark.parametrize(
    ("objective", "value", "can_be"),
    [
        *((Objective(), value, value >= 1) for value in (1.0, 43.85, math.inf, 0.99, -3.0)),
        *((LOSS, value, value >= 0) for value in (0.0, 3.2, math.inf, -0.1)),
        *((BITS, value, value >= 0) for value in (0.0, 1.1, -0.1)),
        *((ACCURACY, value, True) for value in (-0.7, 0.0, 5.0, math.inf)),
        *((each, math.nan, False) for each in (Objective(), LOSS, BITS, ACCURACY)),
        (ACCURACY, -math.inf, False),
    ],
)
def test_what_is_possible(objective: Objective, value: float, can_be: bool) -> None:
    assert objective.valid(value) is can_be


@pytest.mark.parametrize("objective", [Objective(), LOSS, BITS, Objective("mse", scale=0.25)])
def test_nats_and_back(objective: Objective) -> None:
    for value in (1.5, 3.0, 40.0):
        assert objective.stored(objective.nats(value)) == pytest.approx(value, rel=1e-12)
    values = np.array([1.5, 3.0, 40.0])
    assert objective.nats(values) == pytest.approx([objective.nats(each) for each in values])


def test_the_search_works_in_nats() -> None:
    assert Objective().nats(math.e) == pytest.approx(1.0)
    assert LOSS.nats(1.0) == 1.0
    assert BITS.nats(1.0) == pytest.approx(math.log(2))
    assert math.isnan(Objective().nats(-1.0))


def test_what_is_to_be_large_is_stored_with_the_other_sign() -> None:
    assert (ACCURACY.signed(0.7), ACCURACY.signed(-0.7)) == (-0.7, 0.7)
    assert ACCURACY.signed(math.inf) == math.inf  # diverged
    assert (ACCURACY.stored_name, LOSS.stored_name) == ("-accuracy", "validation_loss")
    assert ACCURACY.better(0.5, 0.7) == 0.7
    assert LOSS.better(0.5, 0.7) == 0.5


@pytest.mark.parametrize(
    ("name", "direction", "says"),
    [
        ("", "minimize", "metric must be a name"),
        ("perplexity", "maximize", "perplexity must be minimize"),
        ("accuracy", "up", 'minimize or maximize, got "up"'),
    ],
)
def test_what_cannot_be_is_refused(name: str, direction: str, says: str) -> None:
    with pytest.raises(StudyError, match=says):
        Objective(name, direction)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("objective", "value", "described", "one_percent", "gap"),
    [
        (Objective(), 23.344, "perplexity 23.34", "1 %", "+1.0 %"),
        (LOSS, 3.15041, "validation loss 3.1504", "0.01 nats", "+0.01 nats"),
        (BITS, 1.1, "bits per byte 1.1000", "0.014 bits a byte", "+0.014 bits a byte"),
        (Objective("mse", scale=0.5), 0.25, "mse 0.25", "0.005", "+0.005"),
        (Objective("accuracy", "maximize", 0.5), 0.25, "accuracy 0.25", "0.005", "-0.005"),
    ],
)
def test_how_it_is_shown(
    objective: Objective, value: float, described: str, one_percent: str, gap: str
) -> None:
    assert objective.described(value) == described
    assert objective.portion(0.01) == one_percent
    assert objective.gap(math.log(1.01)) == gap


@pytest.mark.parametrize("objective", [LOSS, BITS])
def test_the_unit_changes_nothing_that_is_believed(objective: Objective) -> None:
    known = posterior_of(trials(Objective()), terms(Objective()))
    same = posterior_of(trials(objective), terms(objective))
    assert same.density[1] == pytest.approx(known.density[1], abs=1e-6)
    if objective == LOSS:
        assert same.density[1] == pytest.approx(known.density[1], abs=1e-12)
    wanted = next_training(Table.of(trials(Objective())), terms(Objective()))
    assert next_training(Table.of(trials(objective)), terms(objective)) == wanted


def test_a_baseline_is_told_in_the_studys_own_number() -> None:
    unigram = 130.0
    known = posterior_of(trials(Objective()), terms(Objective(), unigram))
    same = posterior_of(trials(LOSS), terms(LOSS, LOSS.of_perplexity(unigram)))
    assert same.density[1] == pytest.approx(known.density[1], abs=1e-12)
    assert BITS.of_perplexity(unigram) is None


@pytest.mark.parametrize("told", [1e-6, 0.1, 1.0, 1e9])
def test_a_number_of_unknown_unit_is_searched_whatever_its_size(told: float) -> None:
    mse = Objective("mse")
    found = posterior_of(trials(mse, told), terms(mse))
    assert found.best_rate == pytest.approx(3e-3, rel=0.3)
    # The size is a power of two, so twice as large is the same to the bit.
    twice = posterior_of(trials(mse, 2 * told), terms(mse))
    assert (twice.density[1] == found.density[1]).all()


def test_a_lost_training_sets_no_scale() -> None:
    mse = Objective("mse")
    ordinary = mse.scaled_to([1.0, 1.1, 1.3, 1.6])
    assert ordinary.scale <= mse.scaled_to([1.0, 1.1, 1.3, 1e9]).scale <= 4 * ordinary.scale
    assert mse.scaled_to([]).scale == mse.scaled_to([2.0, 2.0]).scale == 1.0
    assert LOSS.scaled_to([1.0, 9.0]) == LOSS


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        (Objective(), "% of perplexity is expected to be left to gain"),
        (LOSS, "nats of validation loss is expected to be left to gain"),
        (Objective("mse"), " of mse is expected to be left to gain"),
    ],
)
def test_what_is_left_to_gain_is_said_in_its_unit(objective: Objective, says: str) -> None:
    known = trials(objective)
    said = remaining(posterior_of(known, terms(objective)), known, 0.01).sentence
    assert says in said
    assert f"under {posterior_of(known, terms(objective)).seen.objective.portion(0.01)};" in said


@pytest.mark.parametrize(
    ("values", "baseline", "suspected"),
    [
        ((3.78, 4.55, 4.87), 135.7, True),  # ln of 43.85, 94.59 and 130.3
        ((5.9,), 135.7, True),  # a run that diverged a little
        ((43.85, 94.59, 130.3), 135.7, False),
        ((3.78, 43.85), 135.7, False),
        ((5.1, 9.5), 1200.0, True),
        ((12.0, 20.0), 1200.0, False),  # a large model is as good as that
        ((2.6, 3.1), 20.0, False),  # a text of characters
        ((3.78,), None, False),
        ((), 135.7, False),
    ],
)
def test_losses_are_of_the_size_of_the_baseline_s_loss(
    values: tuple[float, ...], baseline: float | None, suspected: bool
) -> None:
    assert bool(Objective().suspicion(values, baseline)) is suspected
    assert not LOSS.suspicion(values, baseline)
