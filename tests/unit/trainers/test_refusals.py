"""Values as they are shown: short, whatever they stand for."""

import pytest

from trainers.refusals import shown


@pytest.mark.parametrize("value", ["text", 3, 1e-9, None, [1e-3, 1e-4], {"a": [1]}, (0, 1)])
def test_a_short_value_is_shown_as_it_was_given(value: object) -> None:
    assert shown(value) == repr(value)


def test_a_long_text_is_cut_off() -> None:
    assert shown("a" * 10**6) == f"'{'a' * 79}..."


def test_a_few_lists_that_stand_for_ten_thousand_million_are_not_written_out() -> None:
    value: object = "x"
    for _ in range(10):
        value = [value] * 10
    assert len(shown(value)) <= 83
