import math
import subprocess
import sys

import pytest

from studies.errors import StudyError
from studies.rules import RULES, Reference, ScalingRule, Setting

PARAMETERS = 2_739_432
REFERENCE = Reference(Setting(32, PARAMETERS), 1e-4, 23.34, swept=True)


def rates(batch_size: int, parameters: int = PARAMETERS) -> dict[str, float]:
    setting = Setting(batch_size, parameters)
    return {rule.name: rule.learning_rate(REFERENCE, setting) for rule in RULES}


def test_the_known_case() -> None:
    assert rates(2048) == pytest.approx(
        {
            "unscaled": 1e-4,
            "linear": 6.4e-3,
            "sqrt": 8e-4,
            "model_size": 1e-4,
            "sqrt_model_size": 8e-4,
        }
    )


def test_a_four_times_larger_model_halves_the_model_size_rules() -> None:
    same, larger = rates(2048), rates(2048, 4 * PARAMETERS)
    assert larger["model_size"] == pytest.approx(same["model_size"] / 2)
    assert larger["sqrt_model_size"] == pytest.approx(same["sqrt_model_size"] / 2)
    assert larger["linear"] == same["linear"]


def test_every_rule_gives_the_reference_at_its_own_setting() -> None:
    assert set(rates(32).values()) == {1e-4}


def test_the_formulas_of_the_built_in_rules() -> None:
    assert {rule.name: rule.formula for rule in RULES} == {
        "unscaled": "lr0",
        "linear": "lr0 x B/B0",
        "sqrt": "lr0 x sqrt(B/B0)",
        "model_size": "lr0 / sqrt(N/N0)",
        "sqrt_model_size": "lr0 x sqrt(B/B0) / sqrt(N/N0)",
    }


@pytest.mark.parametrize(
    ("batch", "size", "formula"),
    [
        (0.25, 0, "lr0 x (B/B0)^0.25"),
        (0, -0.7, "lr0 / (N/N0)^0.7"),
        (-1, 1, "lr0 / (B/B0) x N/N0"),
        (0.5, -1, "lr0 x sqrt(B/B0) / (N/N0)"),
    ],
)
def test_the_formula_of_a_rule_of_ones_own(batch: float, size: float, formula: str) -> None:
    assert ScalingRule("mine", batch, size, "").formula == formula


def test_every_rule_has_a_source_and_a_name_of_its_own() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.source for rule in RULES)


@pytest.mark.parametrize("exponent", [5.0, -5.0, math.nan, math.inf])
def test_an_exponent_out_of_bounds_is_refused(exponent: float) -> None:
    with pytest.raises(StudyError, match="'mine': batch_exponent must lie between -4 and 4"):
        ScalingRule("mine", exponent, 0.0, "")


def test_settings_and_references_must_be_positive() -> None:
    with pytest.raises(StudyError, match="batch_size must be positive and finite, got 0"):
        Setting(0, 1)
    with pytest.raises(StudyError, match="tokens must be positive"):
        Setting(1, 1, tokens=0)
    with pytest.raises(StudyError, match=r"reference\.learning_rate must be positive .* got nan"):
        Reference(Setting(1, 1), math.nan, None, swept=False)


def test_the_package_loads_no_torch() -> None:
    code = "import sys, studies; print(sorted({'torch', 'trainers', 'sweep'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("perplexity", [0.5, 0.0, -1.0, math.nan])
def test_a_reference_s_perplexity_is_one(perplexity: float) -> None:
    with pytest.raises(StudyError, match=r"reference\.perplexity must be at least 1, got "):
        Reference(Setting(32, PARAMETERS), 1e-4, perplexity, swept=True)
