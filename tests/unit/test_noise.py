import numpy as np
import pytest
from studies.noise import measured_noise, with_noise

from studies.likelihood import Observations


def seen(x: np.ndarray, y: np.ndarray) -> Observations:
    return Observations(x, y, np.zeros(len(x)), np.array([]), np.array([]))


def basin(x: np.ndarray) -> np.ndarray:
    return 4.0 + 0.022 * (x + 5) ** 2


X = np.linspace(-6.5, -3.5, 16)


def test_the_sd_of_scattered_runs_is_found() -> None:
    rng = np.random.default_rng(0)
    found = [measured_noise(seen(X, basin(X) + rng.normal(0, 0.1, len(X)))) for _ in range(40)]
    assert np.sqrt(np.mean(np.square(np.array(found, dtype=float)))) == pytest.approx(0.1, rel=0.1)


def test_a_smooth_curve_has_none() -> None:
    found = measured_noise(seen(X, basin(X)))
    assert found is not None
    assert found < 0.001


def test_the_order_of_the_runs_does_not_matter() -> None:
    y = basin(X) + np.random.default_rng(1).normal(0, 0.1, len(X))
    mixed = np.random.default_rng(2).permutation(len(X))
    assert measured_noise(seen(X[mixed], y[mixed])) == pytest.approx(measured_noise(seen(X, y)))


def test_runs_that_were_lost_are_no_noise() -> None:
    y = basin(X)
    y[-3:] += 3.0
    found = measured_noise(seen(X, y))
    assert found is not None
    assert found < 0.001


@pytest.mark.parametrize("few", [X[:0], X[:1], X[:4], X[::5]])
def test_too_few_or_too_far_runs_measure_nothing(few: np.ndarray) -> None:
    assert measured_noise(seen(few, basin(few))) is None


def test_runs_at_one_rate_do_not_divide_by_nothing() -> None:
    x = np.full(5, -5.0)
    assert measured_noise(seen(x, basin(x))) is None


def test_noise_is_added_to_every_result() -> None:
    noisy = seen(X, basin(X) + np.random.default_rng(0).normal(0, 0.1, len(X)))
    noise = measured_noise(noisy)
    assert noise is not None
    assert with_noise(noisy).variance == pytest.approx(noise**2)
    assert with_noise(seen(X[:2], X[:2])).variance == pytest.approx(0.0)
