"""What a perplexity can be, and what is rather a loss in nats that was taken for one."""

import math
from collections.abc import Iterable

LEAST = 1.0  # exp(loss) of a loss that is not negative
KNOWN_FROM = 30.0  # a text of characters has a unigram perplexity of some 20, and 3 is a good one
AS_LOSSES = 1.5  # of the loss of a model without context


def is_perplexity(value: float) -> bool:
    """Whether a perplexity can have this value."""
    return value >= LEAST


def look_like_losses(values: Iterable[float], baseline: float | None) -> bool:
    """Whether all of some perplexities are more likely losses in nats: a suspicion, no proof.

    Args:
        values: of one text.
        baseline: perplexity there of a model that knows no context; None where it is unknown.
    """
    known = list(values)
    if not known or baseline is None or baseline < KNOWN_FROM:
        return False
    return max(known) < AS_LOSSES * math.log(baseline)


def suspicion(value: float, baseline: float) -> str:
    """What is to be said of a value that looks like a loss."""
    return (
        f"perplexity {value:.4g} looks like a loss in nats beside {baseline:.4g}, the text's "
        f"unigram perplexity: perplexity is exp(loss), here {math.exp(value):.4g}"
    )
