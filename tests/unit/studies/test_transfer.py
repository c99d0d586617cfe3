"""Optima carried to another batch or model size: against laws that are known."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from studies.errors import StudyError
from studies.law import Critical, Swept, least_squares
from studies.observed import Terms
from studies.rules import Setting
from studies.transfer import find_optimum, predict, usual_critical_batch

TERMS = Terms(1e-5, 1e-1, baseline=140.0)
UNKNOWN = Critical(math.log(256), 2.5)
EXPECTED = Critical(math.log(300), 0.5)


def optimum(batch: int, rate: float, parameters: int = 1000, sd: float = 0.05) -> Swept:
    return Swept(f"b{batch}", Setting(batch, parameters), math.log(rate), sd)


def knee(batch: float, p: float = 0.7, critical: float = 300.0) -> float:
    return math.log(1e-3) - p / 4 * math.log1p((critical / batch) ** 4)


def trials(optimum: float, rates: list[float]) -> list[FrozenTrial]:
    space = {"learning_rate": FloatDistribution(1e-7, 10.0, log=True)}
    return [
        create_trial(
            params={"learning_rate": rate},
            distributions=space,
            value=math.exp(3 + 0.03 * math.log(rate / optimum) ** 2),
        )
        for rate in rates
    ]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_a_studys_optimum_is_read_from_its_trials_alone() -> None:
    rates = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
    found = find_optimum("mine", Setting(32, 1000), trials(2e-3, rates), TERMS)
    assert found.study == "mine"
    assert found.rate == pytest.approx(2e-3, rel=0.2)
    assert 0 < found.sd < 0.45


def test_fewer_trials_say_less() -> None:
    few = find_optimum("", Setting(32, 1000), trials(2e-3, [1e-3]), TERMS)
    more = find_optimum("", Setting(32, 1000), trials(2e-3, [1e-3, 4e-3, 1e-2]), TERMS)
    assert few.sd > 2 * more.sd


def test_below_the_critical_batch_the_optimum_grows_on() -> None:
    seen = [optimum(batch, math.exp(knee(batch, critical=5000))) for batch in (32, 128, 512)]
    found = predict(seen, Setting(2048, 1000), Critical(math.log(5000), 0.5))
    assert math.log(found.rate) == pytest.approx(knee(2048, critical=5000), abs=0.15)


def test_above_it_the_optimum_stays() -> None:
    seen = [optimum(batch, math.exp(knee(batch))) for batch in (256, 512, 1024)]
    found = predict(seen, Setting(8192, 1000), EXPECTED)
    assert found.rate == pytest.approx(1e-3, rel=0.15)


def test_what_was_measured_outweighs_the_usual_critical_batch() -> None:
    seen = [optimum(batch, 1e-4 * (batch / 32) ** 0.6) for batch in (32, 128, 512, 2048)]
    found = predict(seen, Setting(8192, 1000), Critical(math.log(100), 1.0))
    assert found.rate > 1.3 * seen[-1].rate


def test_one_study_says_little_of_a_batch_far_away() -> None:
    one = predict([optimum(32, 1e-3)], Setting(2048, 1000), UNKNOWN)
    near = predict([optimum(32, 1e-3)], Setting(64, 1000), UNKNOWN)
    here = predict([optimum(32, 1e-3)], Setting(32, 1000), UNKNOWN)
    assert one.width > near.width > here.width > 0.1
    assert here.rate == pytest.approx(1e-3)
    assert 1e-3 < near.rate < one.rate < 64e-3


def test_the_interval_holds_what_laws_of_the_prior_would_give() -> None:
    draw = np.random.default_rng(0)
    inside = []
    for _ in range(200):
        p, critical = draw.normal(0.7, 0.2), 300 * math.exp(draw.normal(0, 0.5))
        at = {b: knee(b, p, critical) + draw.normal(0, 0.08) for b in (32, 128, 512, 2048)}
        seen = [
            optimum(batch, math.exp(at[batch] + draw.normal(0, 0.12)), sd=0.12)
            for batch in (32, 128, 512)
        ]
        low, high = predict(seen, Setting(2048, 1000), EXPECTED).interval
        inside.append(low <= math.exp(at[2048]) <= high)
    assert 0.85 < np.mean(inside) < 0.98


def test_it_says_how_far_it_extrapolates() -> None:
    seen = [optimum(64, 1e-3), optimum(512, 2e-3)]
    assert predict(seen, Setting(2048, 3000), UNKNOWN).batch_ratio == 4
    assert predict(seen, Setting(2048, 3000), UNKNOWN).parameter_ratio == 3
    assert predict(seen, Setting(128, 1000), UNKNOWN).batch_ratio == 1
    assert predict(seen, Setting(16, 1000), UNKNOWN).batch_ratio == 0.25
    assert predict(seen, Setting(16, 1000), UNKNOWN).optima == tuple(seen)


def test_a_larger_model_is_expected_to_need_a_lower_rate() -> None:
    seen = [optimum(64, 1e-3, parameters=1000)]
    larger = predict(seen, Setting(64, 16_000), UNKNOWN)
    assert larger.rate == pytest.approx(1e-3 / 4, rel=1e-6)
    assert larger.width > predict(seen, Setting(64, 1000), UNKNOWN).width


def test_model_sizes_that_were_swept_set_the_exponent() -> None:
    seen = [optimum(64, 1e-3 / (size / 1000), size, sd=0.01) for size in (1000, 4000, 16_000)]
    larger = predict(seen, Setting(64, 64_000), UNKNOWN)
    assert math.log(larger.rate) == pytest.approx(math.log(1e-3 / 64), abs=0.3)


def test_the_usual_critical_batch_follows_the_tokens() -> None:
    there = usual_critical_batch(2e10, 2048)
    assert math.exp(there.median) == pytest.approx(3.5e5 / 2048)
    longer = usual_critical_batch(2e11, 2048)
    assert longer.median - there.median == pytest.approx(0.57 * math.log(10))
    assert longer.sd > there.sd
    assert usual_critical_batch(None, None).sd > 2


def test_without_a_study_there_is_no_forecast() -> None:
    with pytest.raises(StudyError, match="needs a finished study"):
        predict([], Setting(64, 1000), UNKNOWN)


def test_least_squares_are_numpys() -> None:
    draw = np.random.default_rng(1)
    design, y, sd = draw.normal(size=(6, 2)), draw.normal(size=(6, 3)), draw.uniform(0.5, 2, 6)
    solution, covariance, misfit = least_squares(design, y, sd)
    expected, left, *_ = np.linalg.lstsq(design / sd[:, None], y / sd[:, None], rcond=None)
    assert solution == pytest.approx(expected)
    assert misfit == pytest.approx(left)
    assert covariance == pytest.approx(np.linalg.inv((design.T / sd**2) @ design))
