"""What is known of how a study's trials are trained, where it helps to read their results."""

import math
from dataclasses import dataclass

from studies.errors import StudyError


@dataclass(frozen=True, slots=True)
class Training:
    """How the trials are trained; nothing is known of it where nothing is said.

    Attributes:
        baseline: perplexity of a model that knows no context (the unigram perplexity); None where
            it is unknown.
        constant_rate: whether the rate stays as it is from a warm-up on to the end, and the trials'
            steps are equally long.

    Raises:
        StudyError: the baseline is no perplexity.
    """

    baseline: float | None = None
    constant_rate: bool = False

    def __post_init__(self) -> None:
        if self.baseline is not None and not 1 <= self.baseline < math.inf:
            raise StudyError(f"baseline must be a perplexity, at least 1, got {self.baseline:g}")


UNKNOWN = Training()
