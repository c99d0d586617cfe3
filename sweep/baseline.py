"""What a model reaches that knows no context, where a study's trials can be measured by it."""

from collections.abc import Mapping
from typing import Any

from sweep.protocol import SHARED_TRAINER


def baseline_of(trainer: str, unigram_perplexity: float | None) -> float | None:
    """The text's unigram perplexity; None for a trainer of the user's own, of whatever text.

    Args:
        trainer: its import path.
        unigram_perplexity: of the study's text.
    """
    return unigram_perplexity if trainer == SHARED_TRAINER else None


def stored_baseline(about: Mapping[str, Any]) -> float | None:
    """The same from a study's attributes."""
    trainer = about.get("identity", {}).get("trainer", "")
    return baseline_of(trainer, about.get("unigram_perplexity"))
