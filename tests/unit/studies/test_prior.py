import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.errors import StudyError
from studies.prior import Centre, centres, multiples, nearest_rule, rule_priors
from studies.rules import RULES, Reference, ScalingRule, Setting

PARAMETERS = 2_739_432
REFERENCE = Reference(Setting(32, PARAMETERS), 1e-4, 23.34, swept=True)
BY_NAME = {rule.name: rule for rule in RULES}


def known_centres(
    *, parameters: int = PARAMETERS, rules: tuple[ScalingRule, ...] = RULES, high: float = 1e-1
) -> list[Centre]:
    return centres(rules, REFERENCE, Setting(2048, parameters), low=1e-6, high=high)


def test_the_known_case_merges_to_three_centres_with_sqrt_first() -> None:
    found = known_centres()
    assert [centre.rules for centre in found] == [
        ("sqrt", "sqrt_model_size"),
        ("unscaled", "model_size"),
        ("linear",),
    ]
    assert [centre.learning_rate for centre in found] == pytest.approx([8e-4, 1e-4, 6.4e-3])


def test_a_four_times_larger_model_separates_the_model_size_rules() -> None:
    found = {
        centre.rules: centre.learning_rate for centre in known_centres(parameters=4 * PARAMETERS)
    }
    assert found == pytest.approx(
        {
            ("sqrt",): 8e-4,
            ("sqrt_model_size",): 4e-4,
            ("unscaled",): 1e-4,
            ("linear",): 6.4e-3,
            ("model_size",): 5e-5,
        }
    )


def test_without_sqrt_the_middle_comes_first() -> None:
    rules = (BY_NAME["linear"], ScalingRule("mine", 0.25, 0.0, ""), BY_NAME["unscaled"])
    assert [centre.rules for centre in known_centres(rules=rules)] == [
        ("mine",),
        ("unscaled",),
        ("linear",),
    ]


def test_rates_outside_the_range_are_clipped_and_merged_again() -> None:
    rules = (*RULES, ScalingRule("steeper", 1.2, 0.0, ""))
    found = known_centres(rules=rules, high=2e-3)
    assert Centre(2e-3, ("linear", "steeper")) in found


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(StudyError, match="distinct names, got 'sqrt' twice"):
        known_centres(rules=(BY_NAME["sqrt"], BY_NAME["sqrt"]))


def test_no_rules_give_no_centres() -> None:
    assert known_centres(rules=()) == []


@settings(deadline=None)
@given(
    exponents=st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), max_size=6),
    batch=st.integers(1, 100_000),
    parameters=st.integers(1, 10**12),
)
def test_every_rule_has_exactly_one_centre_near_its_clipped_rate(
    exponents: list[tuple[float, float]], batch: int, parameters: int
) -> None:
    rules = [*RULES, *(ScalingRule(f"r{i}", p, q, "") for i, (p, q) in enumerate(exponents))]
    setting, low, high = Setting(batch, parameters), 1e-6, 1e-1
    found = centres(rules, REFERENCE, setting, low=low, high=high)
    names = [name for centre in found for name in centre.rules]
    assert sorted(names) == sorted(rule.name for rule in rules)
    assert "sqrt" in found[0].rules
    served = {name: centre.learning_rate for centre in found for name in centre.rules}
    for rule in rules:
        clipped = min(max(rule.learning_rate(REFERENCE, setting), low), high)
        assert max(clipped / served[rule.name], served[rule.name] / clipped) <= 1.25 * (1 + 1e-6)
    rates = sorted(centre.learning_rate for centre in found)
    assert all(b / a > 1.25 * (1 - 1e-6) for a, b in itertools.pairwise(rates))


def test_the_nearest_rule_is_nearest_in_log_distance() -> None:
    rates = {"unscaled": 1e-4, "model_size": 1e-4, "sqrt": 8e-4, "linear": 6.4e-3}
    # 2.5e-3 is nearer to sqrt by difference, to linear by ratio.
    assert nearest_rule(2.5e-3, rates) == ("linear", pytest.approx(2.5 / 6.4))
    assert nearest_rule(1.1e-4, rates) == ("unscaled", pytest.approx(1.1))
    assert multiples(1.6e-3, rates)["sqrt"] == pytest.approx(2.0)
    assert math.isclose(multiples(1.6e-3, rates)["linear"], 0.25)


def test_a_rule_is_trusted_less_the_further_it_carries_and_the_vaguer_its_reference() -> None:
    def width(batch_size: int, parameters: int = PARAMETERS, *, swept: bool = True) -> float:
        reference = Reference(Setting(32, PARAMETERS), 1e-4, None, swept=swept)
        setting = Setting(batch_size, parameters)
        (found,) = {prior.width for prior in rule_priors(RULES, reference, setting).values()}
        return found

    assert width(32) == pytest.approx(0.35)
    assert width(32, swept=False) == pytest.approx(0.8)
    assert width(2048) == pytest.approx(math.hypot(0.35, 0.25 * math.log(64)))
    assert width(32, 4 * PARAMETERS) == pytest.approx(math.hypot(0.35, 0.2 * math.log(4)))


def test_rules_that_say_the_same_share_one_weight() -> None:
    priors = rule_priors(RULES, REFERENCE, Setting(2048, PARAMETERS))
    weights = {name: prior.weight for name, prior in priors.items()}
    assert weights == {
        "unscaled": 0.5,
        "model_size": 0.5,
        "sqrt": 0.5,
        "sqrt_model_size": 0.5,
        "linear": 1.0,
    }
    assert priors["sqrt"].rate == pytest.approx(8e-4)
