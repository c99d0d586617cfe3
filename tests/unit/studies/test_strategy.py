"""Which rate is trained next, where others have begun some."""

import math

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from studies.definition import PARAMETER
from studies.numbers import APART, RESUMED_WITHIN
from studies.observed import Terms
from studies.prior import Prior
from studies.strategy import as_begun, next_training
from studies.table import Table

LOW, HIGH = 1e-4, 1e-1


def complete(rate: float, value: float) -> FrozenTrial:
    space = {PARAMETER: FloatDistribution(1e-7, 10, log=True)}
    return create_trial(
        state=TrialState.COMPLETE,
        params={PARAMETER: rate},
        distributions=space,
        value=value,
        intermediate_values={10: value},
    )


TRIED = (complete(1e-3, 14.0), complete(2e-2, 15.0), complete(5e-3, 12.5))


def asked(*begun: float, high: float = HIGH) -> float:
    terms = Terms(LOW, high, {"sqrt": Prior(3e-3)}, baseline=100.0, steps=10, begun=begun)
    return next_training(Table(TRIED), terms).rate


def test_a_rate_that_is_begun_and_as_good_is_taken() -> None:
    plain = asked()
    for away in (-0.9, -0.3, 0.5, 0.9):
        begun = plain * math.exp(away * RESUMED_WITHIN)
        assert asked(begun, plain * 3) == begun
    assert asked(plain * 1.1, plain / 1.02) == plain / 1.02, "the nearest one"


def test_one_further_off_is_not() -> None:
    plain = asked()
    assert asked(plain * math.exp(1.1 * RESUMED_WITHIN)) == plain


def test_nor_one_beside_a_trial_of_the_study_or_outside_the_range(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = asked()
    monkeypatch.setattr("studies.strategy.RESUMED_WITHIN", 10.0)
    for trial in TRIED:
        rate = trial.params[PARAMETER]
        assert asked(rate * math.exp(0.9 * APART)) == plain
        assert asked(rate * math.exp(1.1 * APART)) != plain
    assert asked(2 * HIGH) == plain


def test_without_any_a_rate_is_itself() -> None:
    assert as_begun(1e-3, ()) == 1e-3
