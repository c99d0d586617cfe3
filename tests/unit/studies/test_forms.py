"""A response that is no bump is seen as one, and a bump stays a bump."""

import dataclasses
import math

import numpy as np
import pytest

from studies.forms import FormPosterior, smooth_curves, with_forms
from studies.likelihood import Observations, Repeat
from studies.posterior import Posterior
from studies.table import Array

LOW, HIGH = 1e-4, 1.0
DIP = -5.0  # ln rate
BASELINE = 3.64


def shoulder(x: Array) -> Array:
    """As a GPT's with clipping and a decay: a dip, a floor 0.08 nats above it, a rise."""
    left = 0.055 * np.minimum(x - DIP, 0.0) ** 2
    step = 0.08 / (1 + np.exp(-6 * (x - DIP - 0.7)))
    right = 0.06 * np.maximum(x + 2.0, 0.0) ** 2
    return np.asarray(3.02 + left + step + right)


def bump(x: Array) -> Array:
    u = 0.12 * (x - DIP) ** 2 / 0.6
    return np.asarray(BASELINE - 0.6 * np.exp(-u - u * u / 4))


def seen(curve: Array, x: Array, noise: float = 0.01) -> Observations:
    rng = np.random.default_rng(1)
    none = np.zeros(0)
    return Observations(x, curve + rng.normal(0.0, noise, len(x)), none, none, BASELINE)


def believed(observations: Observations) -> Posterior:
    return Posterior(observations, {}, LOW, HIGH)


def test_the_dip_beside_a_shoulder_is_recommended() -> None:
    x = np.arange(-7.5, -0.4, 0.5)
    alone = believed(seen(shoulder(x), x))
    both = with_forms(alone)
    assert isinstance(both, FormPosterior)
    assert both.share > 0.5
    best = float(x[both.regret(x).argmin()])
    assert shoulder(np.array([best]))[0] < shoulder(np.array([DIP]))[0] + 0.01
    low, high = both.interval()
    assert low <= math.exp(DIP) <= high
    # The bump alone takes the middle of the floor for the best rate.
    assert x[alone.regret(x).argmin()] > DIP + 0.4


@pytest.mark.parametrize("spacing", [0.4, 0.7, 1.0])
def test_of_a_bump_the_same_is_said(spacing: float) -> None:
    x = np.arange(DIP - 2.2, DIP + 2.2, spacing)
    alone = believed(seen(bump(x), x))
    both = with_forms(alone)
    assert np.log(both.interval()) == pytest.approx(np.log(alone.interval()), abs=0.15)
    best = [x[each.regret(x).argmin()] for each in (alone, both)]
    assert bump(np.array(best)) == pytest.approx(bump(np.array([DIP, DIP])), abs=0.01)


def test_of_few_results_of_a_bump_the_bump_is_believed() -> None:
    x = np.arange(DIP - 2.2, DIP + 2.2, 0.9)
    both = with_forms(believed(seen(bump(x), x)))
    assert not isinstance(both, FormPosterior) or both.share < 0.1


def test_two_results_cannot_tell() -> None:
    x = np.array([-6.5, -4.0])
    alone = believed(seen(shoulder(x), x))
    assert with_forms(alone) is alone


def test_results_far_out_of_the_range_tell_nothing_of_the_form_within() -> None:
    x = np.arange(-7.5, -0.4, 0.5) - 12.0
    alone = believed(seen(shoulder(x + 12.0), x))
    assert with_forms(alone) is alone


def test_lost_runs_are_no_part_of_the_form() -> None:
    x = np.arange(-6.5, -3.0, 0.5)
    lost = np.array([-2.5, -2.0])
    alone = believed(seen(shoulder(x), x))
    rates, none = np.concatenate([x, lost]), np.zeros(0)
    values = np.concatenate([alone.seen.y, [BASELINE + 0.3, BASELINE + 1.0]])
    both = with_forms(believed(Observations(rates, values, none, none, BASELINE)))
    assert both.lost(lost) == pytest.approx(1.0, abs=0.2)
    assert both.own_density[1][both.own_density[0] > lost[0]].sum() < 0.05


def test_what_other_seeds_came_to_counts() -> None:
    x = np.arange(-7.5, -0.4, 0.5)
    alone = seen(shoulder(x), x)
    worse = tuple(Repeat(seed, DIP, 3.25) for seed in (1, 2, 3))
    better = tuple(Repeat(seed, -4.0, 3.0) for seed in (1, 2, 3))
    told = dataclasses.replace(alone, repeats=(*worse, *better))
    before, after = (
        with_forms(believed(each)).regret(np.array([DIP, -4.0])) for each in (alone, told)
    )
    assert before[0] < before[1]
    assert after[0] > after[1]


def test_another_seed_that_lies_higher_as_a_whole_says_little() -> None:
    x = np.arange(-7.5, -0.4, 0.5)
    alone = seen(shoulder(x), x)
    at = np.array([DIP, -4.0, -3.0])
    higher = tuple(
        Repeat(1, float(each), float(y)) for each, y in zip(at, shoulder(at) + 0.04, strict=True)
    )
    told = with_forms(believed(dataclasses.replace(alone, repeats=higher)))
    assert told.regret(at) == pytest.approx(with_forms(believed(alone)).regret(at), abs=0.01)


def test_where_results_still_fall_at_an_end_the_best_rate_may_lie_far_beyond() -> None:
    x = np.arange(-5.0, -2.0, 0.4)
    both = with_forms(believed(seen(3.0 + 0.1 * (x + 5.0), x, noise=0.002)))
    assert isinstance(both, FormPosterior)
    mu, weight = both.density
    assert weight[mu < -6.5].sum() > 0.3
    assert both.edge == "lower"


def test_it_is_as_likely_as_a_normal_of_the_same_covariance() -> None:
    x, y = np.array([0.0, 0.7, 1.9]), np.array([1.0, 1.1, 1.3])
    found = smooth_curves(x, y, np.linspace(0, 2, 5)).ln_evidence
    likely = []
    for length in (1.0, 2.0, 4.0, 8.0):
        for scale in (0.1, 0.3, 1.0):
            for noise in (0.004, 0.012, 0.03, 0.07):
                d = math.sqrt(5) * np.abs(x[:, None] - x) / length
                cov = scale**2 * (1 + d + d**2 / 3) * np.exp(-d) + 1 + noise**2 * np.eye(3)
                rest = y - y.min() - 0.3
                square = rest @ np.linalg.inv(cov) @ rest
                likely.append(math.exp(-square / 2) / math.sqrt(np.linalg.det(2 * math.pi * cov)))
    assert found == pytest.approx(math.log(np.mean(likely)), abs=1e-6)


def test_of_all_results_the_evidence_is_the_posteriors_own() -> None:
    x = np.arange(-7.5, -0.4, 0.5)
    observations = seen(shoulder(x), x)
    known = believed(observations)
    with_a_lost_one = believed(dataclasses.replace(observations, lost=np.array([-0.1])))
    found = known.ln_evidence_of(x, observations.y)
    assert found == pytest.approx(with_a_lost_one.ln_evidence_of(x, observations.y), abs=1e-3)


def test_the_curves_pass_through_the_results() -> None:
    x = np.arange(-7.0, -0.5, 0.5)
    curves = smooth_curves(x, shoulder(x), x)
    assert curves.values.mean(0) == pytest.approx(shoulder(x), abs=0.01)
    assert curves.values.std(0).max() < 0.02


def test_all_probabilities_make_one_and_the_answer_is_the_same_again() -> None:
    x = np.arange(-7.5, -0.4, 0.5)
    observations = seen(shoulder(x), x)
    first, again = with_forms(believed(observations)), with_forms(believed(observations))
    at = np.linspace(-9.0, 0.0, 7)
    assert first.density[1].sum() == pytest.approx(1.0)
    assert first.belief[1].sum() == pytest.approx(1.0)
    assert first.left(DIP)[1].sum() == pytest.approx(1.0)
    assert first.outcomes(at)[1].sum(1) == pytest.approx(1.0)
    assert sum(first.rule_weights().values()) == pytest.approx(1.0)
    assert (first.regret(at) == again.regret(at)).all()
    assert first.interval() == again.interval()


def test_what_is_left_is_the_same_in_mean_and_by_hypothesis() -> None:
    x = np.arange(-7.5, -0.4, 0.5)
    both = with_forms(believed(seen(shoulder(x), x)))
    left, weight = both.left(-4.0)
    assert np.maximum(left, 0.0) @ weight == pytest.approx(both.regret(np.array([-4.0]))[0])


def test_three_results_that_a_bump_fits_do_not_end_a_search() -> None:
    # Recorded: beyond the lowest of these rates it falls by 20 % more.
    x, perplexity = np.log([9.97e-2, 2.76e-2, 4.33e-2]), np.array([16.91, 16.29, 16.04])
    none = np.zeros(0)
    bump = believed(Observations(x, np.log(perplexity), none, none, math.log(28.03)))
    both = with_forms(bump)
    assert isinstance(both, FormPosterior)
    assert both.share < 0.2
    assert both.most_left(x[2]) > 2 * bump.most_left(x[2])


def test_a_form_that_results_refute_does_not_keep_a_search_on() -> None:
    x = np.arange(DIP - 2.2, DIP + 2.2, 0.4)
    both = with_forms(believed(seen(bump(x), x, noise=0.002)))
    assert both.most_left(DIP) < 0.01


def test_a_training_next_to_the_dip_promises_more_than_one_on_the_floor() -> None:
    x = np.array([-6.5, -6.0, -4.0, -3.5, -3.0, -2.5, -2.0])
    both = with_forms(believed(seen(shoulder(x), x, noise=0.004)))
    dip, floor = both.improvement(np.array([-5.2, -2.7]))
    assert dip > 2 * floor
