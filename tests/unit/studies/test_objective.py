import math

import pytest
from studies.perplexity import is_perplexity, look_like_losses


@pytest.mark.parametrize(
    ("value", "can_be"),
    [(1.0, True), (43.85, True), (math.inf, True), (0.99, False), (-3.0, False), (math.nan, False)],
)
def test_a_perplexity_is_the_exponential_of_a_loss(value: float, can_be: bool) -> None:
    assert is_perplexity(value) is can_be


@pytest.mark.parametrize(
    ("values", "baseline", "suspected"),
    [
        ((3.78, 4.55, 4.87), 135.7, True),  # ln of 43.85, 94.59 and 130.3
        ((5.9,), 135.7, True),  # a run that diverged a little
        ((43.85, 94.59, 130.3), 135.7, False),
        ((3.78, 43.85), 135.7, False),
        ((5.1, 9.5), 1200.0, True),
        ((12.0, 20.0), 1200.0, False),  # a large model is as good as that
        ((2.6, 3.1), 20.0, False),  # a text of characters
        ((3.78,), None, False),
        ((), 135.7, False),
    ],
)
def test_losses_are_of_the_size_of_the_baseline_s_loss(
    values: tuple[float, ...], baseline: float | None, suspected: bool
) -> None:
    assert look_like_losses(values, baseline) is suspected
