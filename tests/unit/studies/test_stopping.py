import math

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from studies import PARAMETER, LearningRateSampler, Remaining, StudyError, parse_until, remaining
from studies.likelihood import Observations
from studies.numbers import MOST_RESULTS
from studies.posterior import Posterior
from studies.stopping import by_regret

OPTIMUM, UNIGRAM = 1e-3, 140.0
SPACE = FloatDistribution(1e-5, 1e-1, log=True)


def study_of(*offsets: float, optimum: float = OPTIMUM) -> Study:
    study = optuna.create_study()
    for x in offsets:
        study.add_trial(
            create_trial(
                value=20 * math.exp(0.022 * x**2),
                params={PARAMETER: optimum * math.exp(x)},
                distributions={PARAMETER: SPACE},
            )
        )
    return study


def left(study: Study, until: float = 0.01) -> Remaining:
    return remaining(LearningRateSampler(baseline=UNIGRAM).posterior(study), study.trials, until)


def test_a_bracketed_optimum_leaves_nothing_worth_a_training() -> None:
    found = left(study_of(-1.0, -0.4, 0.05, 0.5, 1.0))
    assert found.enough
    assert found.share is not None
    assert found.share < 0.01
    shown = f"{100 * found.share:.2g} % of perplexity is expected to be left to gain"
    assert found.sentence.startswith(f"{shown} over rate 0.00105, at most ")
    assert " % with 90 % probability: under 1 %; the best rate lies between 0.00" in found.sentence


def test_a_slope_without_its_bottom_goes_on() -> None:
    found = left(study_of(-3.0, -2.4, -1.8))
    assert not found.enough
    assert found.share is not None
    # The best of them is 0.022 * 1.8^2 nats above the optimum: 7.4 %.
    assert found.share == pytest.approx(0.074, rel=0.4)
    most = float(found.sentence.split("at most ")[1].split(" %")[0])
    assert most > 7.4
    assert ": not under 1 %; " in found.sentence


def test_the_same_study_is_enough_for_one_and_not_for_another() -> None:
    study = study_of(-1.0, -0.4, 0.05, 0.5, 1.0)
    most = float(left(study).sentence.split("at most ")[1].split(" %")[0]) / 100
    assert left(study, until=1.1 * most).enough
    assert not left(study, until=0.9 * most).enough


def test_two_trials_say_nothing_whatever_the_prior() -> None:
    study = study_of(-0.1, 0.1)
    study.add_trial(create_trial(state=TrialState.FAIL))
    sure = LearningRateSampler({"sqrt": OPTIMUM}, baseline=UNIGRAM).posterior(study)
    found = remaining(sure, study.trials, 0.5)
    assert found == Remaining(
        None, False, "3 complete trials are needed to say what is left to gain"
    )


def test_a_best_rate_at_the_end_of_the_range_is_said() -> None:
    study = study_of(-2.0, -1.0, -0.1, optimum=0.9e-1)
    found = left(study)
    assert not found.enough
    assert found.sentence.endswith(", perhaps beyond the upper end of the range")


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), (" 0.5 % ", 0.005), ("", None)])
def test_until_is_a_percentage(text: str, share: float | None) -> None:
    assert parse_until(text) == (None if share is None else pytest.approx(share))


@pytest.mark.parametrize("text", ["1", "0%", "-1%", "100%", "one%", "1%%", "nan%", "1% or so"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match=r"until must be a percentage above 0 and below 100"):
        parse_until(text)


def test_the_least_is_left_over_the_rate_nearest_the_best_of_complete_trials() -> None:
    study = study_of(-1.0, -0.4, 0.05, 0.5, 1.0)
    study.add_trial(create_trial(state=TrialState.FAIL, params={PARAMETER: OPTIMUM},
                                 distributions={PARAMETER: SPACE}))  # fmt: skip
    known = LearningRateSampler(baseline=UNIGRAM).posterior(study)
    found = by_regret(known, study.trials)
    assert [number for _, number in found][:1] == [2]
    assert {number for _, number in found} == {0, 1, 2, 3, 4}
    assert [left for left, _ in found] == sorted(left for left, _ in found)


def test_of_trials_at_one_rate_the_earliest_comes_first() -> None:
    study = study_of(0.5, 0.05, -0.4, 0.05, 0.05, 1.0, -1.0)
    known = LearningRateSampler(baseline=UNIGRAM).posterior(study)
    assert [number for _, number in by_regret(known, study.trials)][:3] == [1, 3, 4]


def test_what_is_left_over_very_many_rates_is_read_off_a_grid() -> None:
    offsets = np.random.default_rng(0).uniform(-2.0, 1.5, MOST_RESULTS + 1)
    study = study_of(*offsets)
    x = math.log(OPTIMUM) + offsets
    seen = Observations(x, np.log(20) + 0.022 * offsets**2, x[:0], x[:0], math.log(UNIGRAM))
    known = Posterior(seen, {}, SPACE.low, SPACE.high)
    found = {number: left for left, number in by_regret(known, study.trials)}
    exact = known.regret(x)
    assert [found[number] for number in range(len(x))] == pytest.approx(exact, abs=2e-4)
