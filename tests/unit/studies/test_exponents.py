"""Exponents over finished studies: laws that are known are found again."""

import math

import pytest

from studies.errors import StudyError
from studies.exponents import fit_exponents
from studies.law import Swept
from studies.rules import Setting

BATCHES = (32, 128, 512, 2048)


def optimum(batch: int, x: float, parameters: int = 1000, sd: float = 0.1) -> Swept:
    return Swept("", Setting(batch, parameters), x, sd)


def power(p: float, q: float = 0.0, sizes: tuple[int, ...] = (1000,)) -> list[Swept]:
    return [
        optimum(batch, -7 + p * math.log(batch / 32) - q * math.log(size / 1000), size)
        for size in sizes
        for batch in BATCHES
    ]


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 1.0])
def test_a_power_law_is_found(p: float) -> None:
    found = fit_exponents(power(p)).batch
    assert found is not None
    assert found.value == pytest.approx(p, abs=0.03)
    assert found.low < p < found.high
    assert found.high - found.low < 0.3


def test_two_neighbouring_batches_say_no_more_than_the_prior() -> None:
    found = fit_exponents([optimum(32, -7), optimum(48, -6)]).batch
    assert found is not None
    assert 0.5 < found.value < 1.5  # the two alone say 2.5
    assert found.high - found.low > 0.6


def test_an_optimum_that_is_not_known_counts_less() -> None:
    seen = [*power(0.5), optimum(8192, 0.0, sd=3.0)]
    found = fit_exponents(seen).batch
    assert found is not None
    assert found.value == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("q", [0.0, 0.5, 0.7])
def test_both_exponents_are_found_together(q: float) -> None:
    found = fit_exponents(power(0.5, q, sizes=(1000, 8000)))
    assert found.batch is not None
    assert found.batch.value == pytest.approx(0.5, abs=0.03)
    assert found.parameters is not None
    assert found.parameters.value == pytest.approx(q, abs=0.03)


def test_models_of_one_size_say_nothing_of_q() -> None:
    assert fit_exponents(power(0.5)).parameters is None
    assert fit_exponents(power(0.5)).batch is not None


def test_one_batch_size_says_nothing_of_p() -> None:
    found = fit_exponents([optimum(64, -7, 1000), optimum(64, -8, 8000)])
    assert (found.batch, found.critical_batch, found.local) == (None, None, ())
    assert found.parameters is not None


def test_local_exponents_are_between_neighbours_of_one_size() -> None:
    found = fit_exponents(power(0.5, 0.5, sizes=(1000, 8000))).local
    assert [(each.smaller, each.larger) for each in found] == [
        (32, 128),
        (128, 512),
        (512, 2048),
    ] * 2
    assert [each.exponent.value for each in found] == pytest.approx([0.5] * 6)
    half = math.sqrt(2 * (0.1**2 + 0.08**2)) * 1.645 / math.log(4)
    assert found[0].exponent.high == pytest.approx(0.5 + half)


def test_studies_of_one_batch_size_are_averaged() -> None:
    pair = [optimum(64, -7.2), optimum(64, -6.8), optimum(256, -6.0)]
    (found,) = fit_exponents(pair).local
    assert found.exponent.value == pytest.approx(1 / math.log(4))


@pytest.mark.parametrize("critical", [50, 300, 1500])
def test_the_critical_batch_is_found(critical: float) -> None:
    seen = [optimum(batch, -7 - math.log1p(critical / batch), sd=0.02) for batch in BATCHES]
    found = fit_exponents(seen).critical_batch
    assert found is not None
    assert found.value == pytest.approx(critical, rel=0.15)
    assert found.low < critical < found.high


def test_a_side_that_the_batches_do_not_show_is_open() -> None:
    flat, linear = fit_exponents(power(0.0)), fit_exponents(power(1.0))
    assert flat.critical_batch is not None
    assert flat.critical_batch.low == 0
    assert flat.critical_batch.high < 64
    assert linear.critical_batch is not None
    assert linear.critical_batch.high == math.inf
    assert linear.critical_batch.low > 1000


def test_two_batches_show_no_saturation() -> None:
    assert fit_exponents(power(0.5)[:2]).critical_batch is None


def test_one_setting_is_not_enough() -> None:
    with pytest.raises(StudyError, match="two batch sizes"):
        fit_exponents([optimum(64, -7), optimum(64, -7.1)])
