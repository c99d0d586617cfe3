"""How fast a run still learns at its end says on which side of the best rate it is."""

import dataclasses
import math

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from studies import PARAMETER, LearningRateSampler, Prior
from studies.numbers import FALL, LEAST_FALL, UNLIKE_STUDY
from studies.objective import Objective
from studies.observed import Terms, observe, posterior_of
from studies.progress import ending_fall, log_fit, log_side, side_of

SPACE = FloatDistribution(1e-5, 1e-1, log=True)
OPTIMUM, EPOCHS = math.log(1e-3), 10
LEFT, COST, CURVATURE = 0.7, 1.0, 0.25  # exponents of P and Q; a at the optimum
CONSTANT = Terms(SPACE.low, SPACE.high, {"rule": Prior(1e-3)}, constant_rate=True)
MU = np.arange(OPTIMUM - 4, OPTIMUM + 4, 0.1)


def course(x: float) -> list[float]:
    """ln perplexity after each epoch: P falls with rate times time, Q grows with the rate."""
    slope = 2 * CURVATURE / (LEFT + COST)  # of P and of Q at the optimum
    d, t = x - OPTIMUM, np.log(np.arange(1, EPOCHS + 1) / EPOCHS)
    y = 3.0 + slope / LEFT * np.exp(-LEFT * (d + t)) + slope / COST * np.exp(COST * d)
    return [float(loss) for loss in y]


def ended(
    perplexities: list[float], *, first: int = 1, state: TrialState = TrialState.COMPLETE
) -> FrozenTrial:
    return create_trial(
        state=state,
        value=min(perplexities, default=30.0) if state == TrialState.COMPLETE else None,
        params={PARAMETER: 1e-3},
        distributions={PARAMETER: SPACE},
        intermediate_values=dict(enumerate(perplexities, first)),
    )


def train(study: Study) -> float:
    """One training at the rate that is asked for; its ln perplexity."""
    trial = study.ask({PARAMETER: SPACE})
    losses = course(math.log(trial.params[PARAMETER]))
    for epoch, loss in enumerate(losses, 1):
        trial.report(math.exp(loss), epoch)
    study.tell(trial, math.exp(min(losses)))
    return min(losses)


def study_from(centre: float, *, constant_rate: bool) -> Study:
    sampler = LearningRateSampler({"rule": Prior(centre)}, constant_rate=constant_rate)
    return optuna.create_study(sampler=sampler)


def trainings_until_found(offset: float, *, constant_rate: bool) -> int:
    """Trainings until one within 0.5 % of the best perplexity, from a centre off the best rate."""
    study = study_from(math.exp(OPTIMUM + offset), constant_rate=constant_rate)
    best = min(course(OPTIMUM))
    for number in range(1, 20):
        if train(study) <= best + math.log(1.005):
            return number
    raise AssertionError("not found")


def test_the_fall_is_what_a_unit_of_ln_epoch_brought_at_the_end() -> None:
    falling = [math.exp(4 - 0.3 * math.log(epoch)) for epoch in range(1, 11)]
    assert ending_fall(ended(falling), Objective()) == pytest.approx(0.3)
    worse_between = [*falling[:7], 90.0, *falling[8:]]
    assert 0.2 < ending_fall(ended(worse_between), Objective()) < 0.4


@pytest.mark.parametrize(
    "trial",
    [
        ended([50.0, 40.0, 35.0]),
        ended([50.0, 40.0, 35.0, 33.0], first=0),
        ended([50.0, 40.0, 35.0, math.inf, 34.0, 33.0]),
        ended([50.0, 40.0, 35.0, 33.0, 32.0, 30.0, 31.0, 31.5, 33.0]),
        ended([50.0, 40.0, 35.0, 33.0, 0.0]),
        ended([]),
    ],
    ids=["too short", "no epoch 0", "not finite", "learned by heart", "no perplexity", "unheard"],
)
def test_some_runs_say_nothing(trial: FrozenTrial) -> None:
    assert math.isnan(ending_fall(trial, Objective()))


def test_a_fast_fall_puts_the_best_rate_above_and_a_slow_one_below() -> None:
    """With the curvature known."""

    def likeliest(fall: float) -> float:
        fit = log_fit(np.array([OPTIMUM]), np.array([fall]), MU, np.array([CURVATURE]))
        return float(np.average(MU, weights=np.exp(fit[:, 0]))) - OPTIMUM

    usual = FALL * CURVATURE
    assert likeliest(1.4 * usual) > 0.7
    assert likeliest(0.3 * usual) < -0.3
    assert likeliest(0.3 * usual) < likeliest(0.6 * usual) < likeliest(usual)


def test_many_odd_runs_say_no_more_than_that_the_study_is_an_odd_one() -> None:
    x = OPTIMUM + np.linspace(-0.5, 0.5, 6)
    fit = log_fit(x, np.full(6, LEAST_FALL), MU, np.array([CURVATURE]))
    assert np.ptp(fit) < -math.log(UNLIKE_STUDY) + 6 * math.log(1 / 0.15)
    assert fit.min() >= math.log(UNLIKE_STUDY) + 6 * math.log(0.2)


def test_only_trials_at_a_constant_rate_that_ran_to_their_end_are_read() -> None:
    losses = [math.exp(loss) for loss in course(OPTIMUM)]
    trials = [ended(losses), ended(losses[:6], state=TrialState.PRUNED)]
    assert observe(trials, Terms(SPACE.low, SPACE.high)).fall is None
    found = observe(trials, CONSTANT).fall
    assert found is not None
    assert found == pytest.approx([ending_fall(trials[0], Objective())])


def test_one_that_was_stopped_before_the_others_is_left_out() -> None:
    losses = [math.exp(loss) for loss in course(OPTIMUM)]
    found = observe([ended(losses[:-1]), ended(losses)], CONSTANT).fall
    assert found is not None
    assert np.isnan(found).tolist() == [True, False]


def test_two_runs_on_the_same_side_show_where_the_best_rate_is() -> None:
    widths = {}
    study = study_from(1e-3, constant_rate=True)
    for rate in (1.3e-3, 1.8e-3):
        study.enqueue_trial({PARAMETER: rate})
        train(study)
    for told in (False, True):
        known = posterior_of(study.trials, dataclasses.replace(CONSTANT, constant_rate=told))
        low, high = (math.log(end) for end in known.interval())
        assert low < OPTIMUM < high
        widths[told] = high - low
    assert widths[True] < 0.75 * widths[False]


def test_it_takes_fewer_trainings() -> None:
    offsets = np.arange(-1.2, 1.3, 0.2)
    with_falls, without = (
        np.mean([trainings_until_found(offset, constant_rate=told) for offset in offsets])
        for told in (True, False)
    )
    assert with_falls < without - 0.3


# --- runs that learned no more than word frequencies

UNIGRAM = math.log(100.0)
COMING_DOWN = [1.9, 1.3, 0.4, 0.03, 0.02, -0.02, -0.02, -0.02, -0.03, -0.03]  # nats above it
THERE_AT_ONCE = [0.12, 0.02, 0.0, 0.01, 0.0, 0.0, 0.01, 0.01, 0.0, 0.0]
LOST = [12.0, 0.6, 0.1, 0.02, 0.02, 0.0, 0.01, 0.01, 0.0, 0.0]
LEARNED = [1.9, 1.3, 0.4, 0.03, -0.1, -0.2, -0.3, -0.4, -0.5, -0.5]


def above_the_unigram(losses: list[float]) -> FrozenTrial:
    return ended([math.exp(UNIGRAM + loss) for loss in losses])


@pytest.mark.parametrize(
    ("losses", "side"),
    [(COMING_DOWN, -1), (THERE_AT_ONCE, 1), (LOST, math.nan), (LEARNED, math.nan)],
    ids=["too low", "too high", "far above it", "learned"],
)
def test_how_a_run_came_to_the_unigrams_level_tells_its_side(
    losses: list[float], side: float
) -> None:
    found = side_of(above_the_unigram(losses), Objective(), UNIGRAM, 1.0)
    assert found == pytest.approx(side, nan_ok=True)


def test_where_that_level_is_unknown_no_side_is_read() -> None:
    assert math.isnan(side_of(above_the_unigram(COMING_DOWN), Objective(), math.inf, 1.0))


def test_it_is_read_after_a_tenth_of_the_steps_and_not_before_the_warm_up_is_over() -> None:
    trial = above_the_unigram(COMING_DOWN)
    for floor, side in ((0.0, -1), (0.3, -1), (0.4, 1)):
        terms = dataclasses.replace(CONSTANT, baseline=100.0, floor=floor)
        found = observe([trial], terms).side
        assert found is not None
        assert found.tolist() == [side]
    assert observe([trial], dataclasses.replace(CONSTANT, constant_rate=False)).side is None


def test_the_best_rate_lies_above_a_run_that_was_too_low_and_below_one_too_high() -> None:
    for losses, above in ((COMING_DOWN, (0.97, 1.0)), (THERE_AT_ONCE, (0.0, 0.1))):
        trial = above_the_unigram(losses)
        terms = Terms(SPACE.low, SPACE.high, baseline=100.0, constant_rate=True)
        mu, weight = posterior_of([trial], terms).own_density
        assert above[0] < weight[mu > OPTIMUM].sum() < above[1]


def test_many_sides_that_contradict_each_other_say_little() -> None:
    x = OPTIMUM + np.array([-2.0, -1.0, 1.0, 2.0])
    odd = log_side(x, np.array([1.0, 1.0, -1.0, -1.0]), MU)
    assert np.ptp(odd) < -math.log(UNLIKE_STUDY)
