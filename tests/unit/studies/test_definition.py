import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.definition import WIDE, Identity, edge, searched, validate_range, widen, working_range
from studies.errors import StudyError


def test_the_default_range_of_the_known_case_holds_a_borrowed_references_optimum() -> None:
    low, high = working_range([1e-4, 8e-4, 6.4e-3])
    assert (low, high) == (1e-5, 6.4e-2)
    assert low < 2.6e-2 < high


def test_linear_from_a_high_reference_stays_representable() -> None:
    assert working_range([2e-2 * 64]) == (0.128, 10.0)


@settings(deadline=None)
@given(st.lists(st.floats(1e-12, 1e6), min_size=1, max_size=5))
def test_the_default_range_is_always_valid(rates: list[float]) -> None:
    validate_range(*working_range(rates))


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0.0, 1.0, r"range\.low must lie between 1e-07 and 10, got 0"),
        (1e-4, 11.0, r"range\.high must lie between .* got 11"),
        (math.nan, 1.0, r"range\.low must lie between .* got nan"),
        (1e-2, 1e-3, r"range\.high must be at least 1\.25 times range\.low \(0\.01\), got 0\.001"),
        (1e-2, 1e-2, r"range\.high must be at least"),
    ],
)
def test_bad_ranges_are_refused(low: float, high: float, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        validate_range(low, high)


@pytest.mark.parametrize(
    ("rate", "tried", "side"),
    [
        (1e-3, [1e-4, 1e-3, 1e-2], ""),
        (9e-2, [1e-3, 1e-2, 9e-2], "upper"),
        (7e-2, [1e-3, 7e-2, 9e-2], ""),
        (8e-2, [1e-3, 8e-2, 9e-2], "upper"),
        (5e-2, [1e-3, 5e-2], ""),
        (1.2e-4, [1.2e-4, 1e-3], "lower"),
        (1e-4, [1e-4], "lower"),
        (0.5, [1e-3, 0.5], "upper"),
    ],
)
def test_the_edge(rate: float, tried: list[float], side: str) -> None:
    assert edge(rate, 1e-4, 1e-1, tried) == side


def test_in_a_narrow_range_the_nearer_end_counts() -> None:
    assert edge(1.05e-3, 1e-3, 1.3e-3, [1.05e-3]) == "lower"
    assert edge(1.25e-3, 1e-3, 1.3e-3, [1.25e-3]) == "upper"


@pytest.mark.parametrize(
    ("tried", "lower", "upper"),
    [([1e-2], False, False), ([1.9e-4, 4.9e-2], True, False), ([2.1e-4, 0.3], False, True)],
)
def test_a_range_is_searched_to_an_end_near_which_a_rate_was_tried(
    tried: list[float], *, lower: bool, upper: bool
) -> None:
    assert searched("lower", 1e-4, 1e-1, tried) is lower
    assert searched("upper", 1e-4, 1e-1, tried) is upper


def test_widening_stops_at_the_stored_distribution() -> None:
    assert widen(1e-4, 1e-2, "upper") == (1e-4, 1e-1)
    assert widen(1e-4, 1e-2, "lower", factor=2) == (5e-5, 1e-2)
    assert widen(1e-4, 5.0, "upper") == (1e-4, WIDE.high)
    assert widen(WIDE.low, 1e-2, "lower") == (WIDE.low, 1e-2)


NESTED = {"batch_size": 2048, "precision": "fp16", "data": {"window": 64}, "betas": (0.9, 0.999)}


def test_an_identity_flattens_nested_fields() -> None:
    assert Identity.of(NESTED).fields == {
        "batch_size": 2048,
        "precision": "fp16",
        "data.window": 64,
        "betas": "[0.9, 0.999]",
    }


def test_the_hash_depends_on_the_values_and_not_on_their_order() -> None:
    here = Identity.of(NESTED)
    assert Identity(dict(reversed(here.fields.items()))).hash8 == here.hash8
    assert Identity.of(NESTED | {"batch_size": 32}).hash8 != here.hash8
    # Stored studies are found by it: it must not change between versions.
    assert here.hash8 == "39d244a2"


def test_differences_are_sentences_in_a_stable_order() -> None:
    there = Identity.of({"extra": True, "data": {"window": 32}, "batch_size": 32, "precision": ""})
    assert Identity.of(NESTED).differences(there) == [
        "batch_size: 32 there, 2048 here",
        'precision: "" there, fp16 here',
        "data.window: 32 there, 64 here",
        "betas: absent there, [0.9, 0.999] here",
        "extra: true there, absent here",
    ]


FIELDS = st.dictionaries(
    st.sampled_from("abc"),
    st.sampled_from([0, 1, 1.0, True, "1", "true", "absent", None, ""]),
    max_size=2,
)


@settings(deadline=None)
@given(FIELDS, FIELDS)
def test_identities_of_another_hash_always_name_a_difference(first: dict, second: dict) -> None:
    here, there = Identity(first), Identity(second)
    differences = here.differences(there)
    assert (here.hash8 == there.hash8) == (differences == [])
    for sentence in differences:
        before, after = sentence.split(": ")[1].removesuffix(" here").split(" there, ")
        assert before != after


def test_a_field_that_is_not_finite_is_refused() -> None:
    with pytest.raises(StudyError, match=r"model\.scale must be finite, got nan"):
        Identity.of({"model": {"scale": math.nan}})
