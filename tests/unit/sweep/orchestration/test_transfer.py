"""A forecast in the plan of a study: the first rate, a prior of its own, and the range."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from studies.transfer import FORECAST
from sweep.config.load import load
from sweep.errors import SweepError
from sweep.orchestration.plan import Plan, make_plan
from sweep.orchestration.transfer import REACH, SHARE, sentence, with_forecast
from sweep.results.forecast import Forecast

Make = Callable[..., Plan]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """The known case: 8e-4 (sqrt), 1e-4 (unscaled) and 6.4e-3 (linear)."""
    monkeypatch.chdir(tmp_path)

    def made(*sets: str, text: str = "") -> Plan:
        (tmp_path / "sweep.toml").write_text(text)
        config = load(None, profile="cuda", cuda=False, assignments=sets)
        return make_plan(config, parameters=2739432)

    return made


def forecast(rate: float, width: float = 0.3) -> Forecast:
    factor = math.exp(1.645 * width)
    return Forecast(
        batch_size=2048,
        parameters=2739432,
        learning_rate=rate,
        low=rate / factor,
        high=rate * factor,
        level=0.9,
        width=width,
        batch_ratio=4.0,
        parameter_ratio=1.0,
        studies=("a", "b"),
        batches=(512, 128),
        made=0.0,
    )


def test_it_is_tried_first_and_joined_by_the_rules_that_say_the_same(plan: Make) -> None:
    made = with_forecast(plan(), forecast(9e-4))
    assert made.first[0].learning_rate == 9e-4
    assert made.first[0].rules == (FORECAST, "sqrt", "sqrt_model_size")


def test_rules_far_from_it_are_left_to_the_search(plan: Make) -> None:
    near = with_forecast(plan(), forecast(2e-3, width=0.4))
    assert [centre.rules[0] for centre in near.first] == [FORECAST, "sqrt"]
    wide = with_forecast(plan(), forecast(2e-3, width=3 / REACH))
    assert [centre.rules[0] for centre in wide.first] == [FORECAST, "sqrt", "unscaled", "linear"]


def test_it_outweighs_all_rules_together(plan: Make) -> None:
    priors = with_forecast(plan(), forecast(2e-3)).priors
    mine = priors.pop(FORECAST)
    assert (mine.rate, mine.width) == (2e-3, 0.3)
    assert mine.weight == pytest.approx(SHARE * sum(prior.weight for prior in priors.values()))
    assert priors == plan().priors


def test_one_that_knows_less_than_the_rules_weighs_less(plan: Make) -> None:
    width = next(iter(plan().priors.values())).width
    vague = with_forecast(plan(), forecast(2e-3, 2 * width)).priors.pop(FORECAST)
    certain = with_forecast(plan(), forecast(2e-3)).priors.pop(FORECAST)
    assert vague.weight == pytest.approx(certain.weight / 2)


def test_the_range_is_widened_to_hold_it_unless_it_was_given(plan: Make) -> None:
    wide = with_forecast(plan(), forecast(0.5))
    assert wide.low == plan().low
    assert wide.high == pytest.approx(1.5)
    given = with_forecast(plan("study.range=[1e-4, 1e-2]"), forecast(0.5))
    assert (given.low, given.high) == (1e-4, 1e-2)
    assert given.first[0].learning_rate == 1e-2
    assert given.priors[FORECAST].rate == 0.5


def test_without_one_the_plan_stays(plan: Make) -> None:
    assert with_forecast(plan(), None) == plan()


def test_a_rule_cannot_have_its_name(plan: Make) -> None:
    text = f"[[rules]]\nname = '{FORECAST}'\nbatch_exponent = 0.5\nparameter_exponent = 0\n"
    with pytest.raises(SweepError, match="'forecast' is taken twice"):
        plan(text=text)


def test_one_line_says_what_is_used() -> None:
    assert sentence(forecast(2e-3)) == (
        "2 finished studies of this model and text (batch 128, 512) forecast the best rate: 2.0e-3 "
        "(1.2e-3 to 3.3e-3); --no-transfer leaves it out"
    )


def test_it_is_stored_as_it_is() -> None:
    assert Forecast.read(forecast(2e-3).stored()) == forecast(2e-3)
