"""The law over batch, model size and length: laws that are known are found again."""

import math

import numpy as np
import pytest

from studies.law import FINEST, LENGTH, Critical, Law, Swept
from studies.rules import Setting

CRITICAL = Critical(math.log(300), 0.5)


def study(
    x: float, tokens: float = 1e6, batch: int = 4096, parameters: int = 1000, sd: float = 0.1
) -> Swept:
    return Swept("", Setting(batch, parameters, tokens), x, sd)


def fading(t: float, *lengths: float, sd: float = 0.05) -> list[Swept]:
    """Far above the critical batch size, where the length has the exponent t."""
    return [study(-6 + t * math.log(tokens / 1e6), tokens, sd=sd) for tokens in lengths]


@pytest.mark.parametrize("t", [-0.4, -0.2, 0.2])
def test_the_exponent_of_the_length_is_found(t: float) -> None:
    law = Law(fading(t, 1e6, 1e7, 1e8, 1e9), CRITICAL)
    found = law.slopes(Setting(10**9, 1000, 3e7)).length
    assert found is not None
    assert found.value == pytest.approx(t, abs=0.05)
    assert found.low < t < found.high


def test_one_length_leaves_the_prior_of_its_exponent() -> None:
    law = Law([study(-6.0), study(-6.2)], CRITICAL)
    found = law.slopes(Setting(10**9, 1000, 1e6)).length
    assert found is not None
    assert found.value == pytest.approx(LENGTH.mean, abs=0.01)
    assert found.high - found.low == pytest.approx(2 * 1.645 * LENGTH.sd, rel=0.01)


def test_below_the_critical_batch_a_longer_run_wants_a_lower_rate() -> None:
    law = Law([study(-6.0, batch=8)], CRITICAL)
    small = law.slopes(Setting(8, 1000, 1e6)).length
    large = law.slopes(Setting(10**6, 1000, 1e6)).length
    assert small is not None
    assert large is not None
    assert small.value < large.value - 0.3


def test_the_further_the_length_the_wider_the_interval() -> None:
    law = Law(fading(-0.2, 1e6, 2e6), CRITICAL)
    widths = [law.at(Setting(4096, 1000, tokens))[1] for tokens in (1e6, 4e6, 1.6e7, 1e9)]
    assert widths == sorted(widths)


def test_a_bend_is_followed_where_many_lengths_show_it() -> None:
    lengths = np.geomspace(1e6, 1e9, 8)
    bent = [
        study(-6 - 0.3 * math.log(d / 1e6) + 0.03 * math.log(d / 1e6) ** 2, d, sd=0.02)
        for d in lengths
    ]
    law = Law(bent, CRITICAL)
    early, late = (law.slopes(Setting(10**6, 1000, d)).length for d in (1e6, 1e9))
    assert early is not None
    assert late is not None
    assert late.value - early.value > 0.2


def test_studies_of_one_setting_say_little_more_than_one_of_them() -> None:
    apart = fading(-0.2, 1e6, 1e7, 1e8)
    together = [study(-6.0, sd=0.05)] * 3
    target = Setting(4096, 1000, 2e7)
    _, one = Law(together[:1], CRITICAL).at(target)
    _, three = Law(together, CRITICAL).at(target)
    assert 0.9 * one < three < one
    slopes = [law.slopes(target).length for law in (Law(apart, CRITICAL), Law(together, CRITICAL))]
    assert slopes[0] is not None
    assert slopes[1] is not None
    assert slopes[0].high - slopes[0].low < slopes[1].high - slopes[1].low


def test_what_the_studies_nearby_depart_by_is_expected_there_too() -> None:
    line = fading(-0.2, 1e6, 1e7, 1e8, 1e9, sd=0.02)
    bump = [study(each.mean + 0.2, each.setting.tokens or 0.0, sd=0.02) for each in line[2:3]]
    law = Law([*line[:2], *bump, line[3]], CRITICAL)
    straight, _ = Law(line, CRITICAL).at(Setting(4096, 1000, 1.2e8))
    near, _ = law.at(Setting(4096, 1000, 1.2e8))
    assert 0.03 < near - straight < 0.25


def test_without_lengths_none_is_said() -> None:
    law = Law([Swept("", Setting(64, 1000), -6.0, 0.1)], CRITICAL)
    assert not law.has_length
    assert law.slopes(Setting(64, 1000)).length is None


def test_one_study_far_off_the_law_of_the_others_hardly_moves_it() -> None:
    sound = fading(-0.2, 1e6, 3e6, 1e7, 3e7, 1e8)
    at = Setting(4096, 1000, 1e9)
    before, _ = Law(sound, CRITICAL).at(at)
    after, _ = Law([*sound, study(-4.0, 1e7, sd=0.05)], CRITICAL).at(at)
    assert abs(after - before) < 0.35


def belief(*parts: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    x = np.arange(-12.0, 0.0, 0.1)
    density = sum(w / sd * np.exp(-0.5 * ((x - m) / sd) ** 2) for w, m, sd in parts)
    density = np.asarray(density)
    return x, (density / density.sum())[:, None]


def test_what_a_study_cannot_decide_the_others_do() -> None:
    # As likely at -8 as at -6; the others say that it is near -6.
    torn = Swept("", Setting(4096, 1000, 1e6), -7.0, 1.0, belief((1, -8, 0.2), (1, -6, 0.2)))
    others = fading(-0.2, 1e6, 1e7)
    at, variance = torn.where(-6.1, 0.2**2)
    assert at == pytest.approx(-6.0, abs=0.1)
    assert FINEST**2 <= variance < 0.3**2
    _, without = Law(others, CRITICAL).at(Setting(4096, 1000, 1e6))
    mean, within = Law([*others, torn], CRITICAL).at(Setting(4096, 1000, 1e6))
    assert mean == pytest.approx(-6.0, abs=0.1)
    assert within < without


def test_a_normal_belief_says_what_its_mean_and_sd_say() -> None:
    normal = Swept("", Setting(64, 1000), -6.0, 0.3, belief((1, -6.0, 0.3)))
    at, variance = normal.where(-5.5, 0.5**2)
    assert at == pytest.approx(-6.0, abs=0.02)
    assert math.sqrt(variance) == pytest.approx(0.3, rel=0.02)


def test_what_a_further_study_would_teach_is_what_it_teaches() -> None:
    seen, target = fading(-0.2, 1e6, 3e6), Setting(4096, 1000, 1e8)
    law = Law(seen, CRITICAL)
    _, before = law.at(target)
    for tokens in (1e6, 1e7, 1e8):
        setting = Setting(4096, 1000, tokens)
        said = law.learned(setting, 0.1**2, target)
        mean, _ = law.at(setting)
        _, after = Law([*seen, Swept("", setting, mean, 0.1)], CRITICAL).at(target)
        assert said < before
        assert said == pytest.approx(after, rel=0.2)
