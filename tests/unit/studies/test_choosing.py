"""The studies that teach most about a target for what they cost."""

import math

import pytest

from studies.choosing import Candidate, choose, factor
from studies.law import Critical, Law, Swept
from studies.rules import Setting

CRITICAL = Critical(math.log(300), 0.5, 1e9)
TARGET = Setting(512, 10**8, 1e9)


def candidate(batch: int, parameters: float, tokens: float) -> Candidate:
    return Candidate(Setting(batch, int(parameters), tokens), 6 * parameters * tokens)


GRID = [
    candidate(batch, parameters, tokens)
    for batch in (32, 128, 512)
    for parameters in (1e6, 1e7, 1e8)
    for tokens in (1e7, 1e8, 1e9)
]


def test_each_study_narrows_the_interval_and_together_they_are_paid_for() -> None:
    steps = choose([], CRITICAL, GRID, TARGET, 2e17, trials=10)
    assert len(steps) > 2
    assert math.fsum(step.candidate.cost for step in steps) <= 2e17
    widths = [step.sd for step in steps]
    assert widths == sorted(widths, reverse=True)
    assert len({step.candidate for step in steps}) == len(steps)


def test_it_ends_where_the_interval_is_narrow_enough() -> None:
    steps = choose([], CRITICAL, GRID, TARGET, 1e20, sure=2.5, trials=10)
    assert steps[-1].factor <= 2.5
    assert all(step.factor > 2.5 for step in steps[:-1])


def test_more_money_never_knows_less() -> None:
    ends = [
        choose([], CRITICAL, GRID, TARGET, budget, trials=10)[-1].sd
        for budget in (1e15, 1e16, 1e17)
    ]
    assert ends == sorted(ends, reverse=True)


def test_a_plan_beats_the_same_money_on_one_cell_repeated() -> None:
    steps = choose([], CRITICAL, GRID, TARGET, 1e16, trials=10)
    cheap = min(GRID, key=lambda each: each.cost).setting
    repeated = [Swept("", cheap, 0.0, 0.2)] * int(1e16 / (6 * 1e6 * 1e7))
    _, variance = Law(repeated[:100], CRITICAL).at(TARGET)
    assert steps[-1].sd < math.sqrt(variance)


def test_what_is_known_already_is_not_paid_for_again() -> None:
    seen = [Swept("", TARGET, -6.0, 0.1), Swept("", Setting(128, 10**8, 1e9), -6.3, 0.1)]
    assert choose(seen, CRITICAL, GRID, TARGET, 1e16, trials=10) == []
    far = Setting(8192, 10**9, 1e11)
    (first, *_), (alone, *_) = (
        choose(known, CRITICAL, GRID, far, 1e16, trials=10) for known in (seen, [])
    )
    assert first.sd < alone.sd


def test_more_trials_a_study_leave_less() -> None:
    few, many = (choose([], CRITICAL, GRID, TARGET, 1e16, trials=n)[0].sd for n in (4, 12))
    assert many < few


def test_without_money_there_is_no_plan() -> None:
    assert choose([], CRITICAL, GRID, TARGET, 1.0, trials=10) == []
    assert choose([], CRITICAL, [], TARGET, 1e20, trials=10) == []


def test_the_factor_of_an_interval() -> None:
    assert factor(0.0) == 1.0
    assert factor(math.log(1.5) / 1.645) == pytest.approx(1.5)
