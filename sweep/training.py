"""What is known of how a study's trials are trained."""

from collections.abc import Mapping
from typing import Any

from studies.training import UNKNOWN, Training
from sweep.protocol import SHARED_TRAINER

CONSTANT = "constant"  # the schedule's name


def training_of(identity: Mapping[str, Any], unigram_perplexity: float | None) -> Training:
    """Reads it from what makes a study's trials comparable.

    Args:
        identity: the study's flat fields.
        unigram_perplexity: of its text.

    Returns:
        Nothing is known of a trainer of the user's own: it may train on any text, at any rate.
    """
    if identity.get("trainer") != SHARED_TRAINER:
        return UNKNOWN
    return Training(unigram_perplexity, identity.get("lr_schedule.name") == CONSTANT)


def stored_training(about: Mapping[str, Any]) -> Training:
    """The same from a study's attributes."""
    return training_of(about.get("identity", {}), about.get("unigram_perplexity"))
