"""Scaling rules: what the learning rate should be at another batch size or model size."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from studies.errors import StudyError
from studies.objective import Objective

LARGEST_EXPONENT = 4.0


def _require_positive(field: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise StudyError(f"{field} must be positive and finite, got {value}")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a scaling rule looks at.

    Attributes:
        batch_size: sequences a step (B).
        parameters: trainable parameters of the model (N).
        tokens: training tokens of the whole run, every epoch counted; None where unknown.
        sequences: that it trains on, every epoch counted; None where unknown.
    """

    batch_size: int
    parameters: int
    tokens: float | None = None
    sequences: float | None = None

    def __post_init__(self) -> None:
        _require_positive("batch_size", self.batch_size)
        _require_positive("parameters", self.parameters)
        for field in ("tokens", "sequences"):
            value = getattr(self, field)
            if value is not None:
                _require_positive(field, value)

    @property
    def length(self) -> float | None:
        """How long a run is: in tokens, or where those are unknown in sequences."""
        return self.tokens or self.sequences


@dataclass(frozen=True, slots=True)
class Reference:
    """A learning rate that is known to work somewhere (lr0 at B0 and N0).

    Attributes:
        perplexity: what it reached on validation; None where not known or not comparable.
        swept: found by a sweep; False for a guess or a value taken from elsewhere.
        precision, model, data, epochs: of the run it comes from; None where unknown.
    """

    setting: Setting
    learning_rate: float
    perplexity: float | None
    swept: bool
    precision: str = "fp32"
    model: str | None = None
    data: str | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        _require_positive("reference.learning_rate", self.learning_rate)
        if self.perplexity is not None and not Objective().valid(self.perplexity):
            raise StudyError(f"reference.perplexity must be at least 1, got {self.perplexity:g}")


class Rule(Protocol):
    """What says how a learning rate is carried to another setting."""

    @property
    def name(self) -> str:
        """Of no other rule."""
        ...

    @property
    def formula(self) -> str:
        """The rule in words for people."""
        ...

    @property
    def source(self) -> str:
        """Where the rule comes from and where it holds."""
        ...

    def learning_rate(self, reference: Reference, setting: Setting) -> float:
        """Carries the reference's rate to another setting."""
        ...


@dataclass(frozen=True, slots=True)
class FunctionRule:
    """Any function of two settings.

    Attributes:
        function: of (reference, setting) to a learning rate; the same for the same arguments.
        formula: the rule in words for people.
        source: where the rule comes from and where it holds.
    """

    name: str
    function: Callable[[Reference, Setting], float]
    formula: str
    source: str

    def learning_rate(self, reference: Reference, setting: Setting) -> float:
        """Carries the reference's rate to another setting.

        Raises:
            StudyError: the function fails, or gives what is no learning rate.
        """
        try:
            rate = float(self.function(reference, setting))
        except Exception as error:  # a user's own function may raise anything
            reason = " ".join(str(error).split())
            raise StudyError(
                f"rule {self.name!r}: its function failed with {type(error).__name__}: {reason}"
            ) from error
        _require_positive(f"rule {self.name!r}: the rate of its function", rate)
        return rate


@dataclass(frozen=True, slots=True)
class ScalingRule:
    """A power rule: lr = lr0 * (B/B0)**p * (N/N0)**q.

    Attributes:
        batch_exponent: p, of the batch size.
        parameter_exponent: q, of the number of parameters.
        source: where the rule comes from and where it holds.
    """

    name: str
    batch_exponent: float
    parameter_exponent: float
    source: str

    def __post_init__(self) -> None:
        for field in ("batch_exponent", "parameter_exponent"):
            value = getattr(self, field)
            # `not <=` instead of `>`: refuses NaN too.
            if not abs(value) <= LARGEST_EXPONENT:
                raise StudyError(
                    f"rule {self.name!r}: {field} must lie between {-LARGEST_EXPONENT:g} and "
                    f"{LARGEST_EXPONENT:g}, got {value}"
                )

    def learning_rate(self, reference: Reference, setting: Setting) -> float:
        """Carries the reference's rate to another setting.

        Args:
            reference: the rate and the setting it is known to work at.
            setting: where a rate is wanted.

        Returns:
            The learning rate that the rule asks for.
        """
        batch_ratio = setting.batch_size / reference.setting.batch_size
        size_ratio = setting.parameters / reference.setting.parameters
        scale: float = batch_ratio**self.batch_exponent * size_ratio**self.parameter_exponent
        return reference.learning_rate * scale

    @property
    def formula(self) -> str:
        """The rule in words for people, e.g. "lr0 x sqrt(B/B0) / sqrt(N/N0)"."""
        batch = _factor("B/B0", self.batch_exponent)
        return "lr0" + batch + _factor("N/N0", self.parameter_exponent)


def _factor(ratio: str, exponent: float) -> str:
    if exponent == 0:
        return ""
    sign = " x " if exponent > 0 else " / "
    if abs(exponent) == 0.5:
        return f"{sign}sqrt({ratio})"
    if abs(exponent) == 1:
        return sign + (ratio if exponent > 0 else f"({ratio})")
    return f"{sign}({ratio})^{abs(exponent):g}"


RULES: tuple[ScalingRule, ...] = (
    ScalingRule(
        "unscaled",
        0.0,
        0.0,
        "the reference's own rate; what is left above the critical batch size "
        "(McCandlish et al. 2018, arXiv 1812.06162)",
    ),
    ScalingRule(
        "linear",
        1.0,
        0.0,
        "Goyal et al. 2017, arXiv 1706.02677: SGD with momentum, warm-up, below the critical "
        "batch size",
    ),
    ScalingRule(
        "sqrt",
        0.5,
        0.0,
        "Krizhevsky 2014, arXiv 1404.5997 (the gradient's variance kept); Malladi et al. 2022, "
        "arXiv 2205.10287, for Adam",
    ),
    ScalingRule(
        "model_size",
        0.0,
        -0.5,
        "rule of thumb: muP (Yang et al. 2022, arXiv 2203.03466) has Adam's hidden rates fall as "
        "1/width, and N grows as width^2 at a fixed depth; measured exponents vary "
        "(-0.71 in Step Law, arXiv 2503.04715, where tokens are held fixed)",
    ),
    ScalingRule(
        "sqrt_model_size",
        0.5,
        -0.5,
        "sqrt and model_size multiplied; no source measures the two together",
    ),
)
