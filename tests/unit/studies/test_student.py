"""The t distribution against tabled values, and a mean's interval against its definition."""

import statistics

import pytest

from studies.student import mean_of, student_t_cdf, student_t_quantile

# Abramowitz and Stegun 1964, table 26.10.
TABLE = [(0.95, 1, 6.314), (0.95, 2, 2.920), (0.95, 9, 1.833), (0.975, 10, 2.228), (0.75, 4, 0.741)]


@pytest.mark.parametrize(("probability", "dof", "bound"), TABLE)
def test_quantiles_are_the_tabled_ones(probability: float, dof: int, bound: float) -> None:
    found = student_t_quantile(probability, dof)
    assert found == pytest.approx(bound, abs=6e-4)
    assert student_t_cdf(found, dof) == pytest.approx(probability, abs=1e-9)


@pytest.mark.parametrize("dof", [4000, 4001])
def test_with_many_degrees_of_freedom_it_is_nearly_the_normal_one(dof: int) -> None:
    for t in (-3.0, -0.5, 0.0, 1.0, 40.0):
        assert student_t_cdf(t, dof) == pytest.approx(statistics.NormalDist().cdf(t), abs=1e-4)


def test_a_mean_comes_with_its_standard_error_and_interval() -> None:
    values = [0.03, -0.01, 0.02, 0.05]
    found = mean_of(values, 0.9)
    error = statistics.stdev(values) / 2
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert found.standard_error == pytest.approx(error)
    assert found.high == pytest.approx(found.mean + 2.353 * error, rel=1e-3)
    assert found.low == pytest.approx(found.mean - 2.353 * error, rel=1e-3)
    assert found.count == 4


def test_a_single_value_has_no_interval() -> None:
    found = mean_of([1.5])
    assert (found.mean, found.standard_error, found.low, found.high) == (1.5, None, None, None)


@pytest.mark.parametrize(
    ("dof", "t", "probability"),
    [
        # Quantiles as tabulated, e.g. NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2.
        (1, 6.313752, 0.95),
        (2, 2.919986, 0.95),
        (3, 4.540703, 0.99),
        (4, -3.746947, 0.01),
        (5, 2.570582, 0.975),
        (7, -4.785290, 0.001),
        (30, 2.457262, 0.99),
        (8, 0.0, 0.5),
    ],
)
def test_students_t_distribution(dof: int, t: float, probability: float) -> None:
    assert student_t_cdf(t, dof) == pytest.approx(probability, rel=1e-5)
    assert student_t_cdf(t, dof) + student_t_cdf(-t, dof) == pytest.approx(1.0)
