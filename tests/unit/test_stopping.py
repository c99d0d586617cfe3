import math

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from studies import PARAMETER, LearningRateSampler, Remaining, StudyError, parse_until, remaining

OPTIMUM = 1e-3
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
    return remaining(LearningRateSampler().posterior(study), study.trials, until)


def test_a_bracketed_optimum_leaves_nothing_worth_a_training() -> None:
    found = left(study_of(-1.0, -0.4, 0.05, 0.5, 1.0))
    assert found.enough
    assert found.share is not None
    assert found.share < 0.01
    assert found.sentence.startswith("at most 0.")
    assert "is left to gain over rate 0.00105 (90 % sure), under 1 %" in found.sentence


def test_a_slope_without_its_bottom_goes_on() -> None:
    found = left(study_of(-3.0, -2.4, -1.8))
    assert not found.enough
    assert found.share is not None
    # The best of them is 0.022 * 1.8^2 nats above the optimum: 7.4 %.
    assert found.share > 0.07
    assert ", not under 1 %" in found.sentence


def test_the_same_study_is_enough_for_one_and_not_for_another() -> None:
    study = study_of(-1.0, -0.4, 0.05, 0.5, 1.0)
    share = left(study).share
    assert share is not None
    assert left(study, until=1.1 * share).enough
    assert not left(study, until=0.9 * share).enough


def test_two_trials_say_nothing_whatever_the_prior() -> None:
    study = study_of(-0.1, 0.1)
    study.add_trial(create_trial(state=TrialState.FAIL))
    sure = LearningRateSampler({"sqrt": OPTIMUM}).posterior(study)
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
