"""What a study makes small or large: its name and unit, and the nats that the search works in."""

import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self, overload

import numpy as np
import numpy.typing as npt

from studies.errors import StudyError

Direction = Literal["minimize", "maximize"]

PERPLEXITY: Final = "perplexity"
VALIDATION_LOSS: Final = "validation_loss"
BITS_PER_BYTE: Final = "bits_per_byte"

LEAST = {PERPLEXITY: 1.0, VALIDATION_LOSS: 0.0, BITS_PER_BYTE: 0.0}
"""The metrics whose unit is known: the lowest value of each. All are the better the smaller."""
UNITS = {VALIDATION_LOSS: "nats", BITS_PER_BYTE: "bits a byte"}

KNOWN_FROM = 30.0  # a text of characters has a unigram perplexity of some 20, and 3 is a good one
FAR_OFF = 8.0  # times the middle one's distance to the best; what is further off sets no scale
AS_LOSSES = 1.5  # of the loss of a model without context


@dataclass(frozen=True, slots=True)
class Objective:
    """The number that says how good a rate is.

    Optuna minimises: where a number is to be large it is stored with the other sign (`signed`), and
    all that is read of trials is as it is stored. The search works in nats a token where it knows
    the unit: in ln of a perplexity, in a loss itself, in bits a byte times ln 2 (so many nats a
    byte). Of any other number `scale` is taken for one nat.

    Attributes:
        name: "perplexity", "validation_loss" (nats), "bits_per_byte", or any other number's.
        direction: "minimize" or "maximize".
        scale: how much of a number whose unit is unknown counts as a nat; 1 of the others.
        tokens_per_byte: of the text, which tells nats a token as bits a byte; None: unknown.

    Raises:
        StudyError: no name, another direction, or a loss that is to be large.
    """

    name: str = PERPLEXITY
    direction: Direction = "minimize"
    scale: float = 1.0
    tokens_per_byte: float | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise StudyError("metric must be a name, such as perplexity, got an empty one")
        if self.direction not in ("minimize", "maximize"):
            raise StudyError(f'direction must be minimize or maximize, got "{self.direction}"')
        if self.known_unit and self.direction == "maximize":
            raise StudyError(f"direction of {self.name} must be minimize: the smaller, the better")

    @property
    def known_unit(self) -> bool:
        """Whether its values can be told in nats."""
        return self.name in LEAST

    @property
    def words(self) -> str:
        """Its name in a sentence: "validation loss"."""
        return self.name.replace("_", " ") if self.known_unit else self.name

    @property
    def unit(self) -> str:
        """In words; "" of a perplexity, which has none, and of an unknown one."""
        return UNITS.get(self.name, "")

    @property
    def label(self) -> str:
        """Its name and unit, for an axis: "validation loss (nats)"."""
        return f"{self.words} (nats)" if self.name == VALIDATION_LOSS else self.words

    @property
    def stored_name(self) -> str:
        """What the stored number is: "-accuracy" where a large one is the better."""
        return self.name if self.direction == "minimize" else f"-{self.name}"

    @property
    def least(self) -> float:
        """The lowest number that can be stored."""
        return LEAST.get(self.name, -sys.float_info.max)

    @property
    def bounds(self) -> str:
        """What values are possible, in words: "at least 1"."""
        return f"at least {self.least:g}" if self.known_unit else "finite"

    def signed(self, value: float) -> float:
        """A value as it is stored; a stored one as it is shown. Infinity, that of a training which
        diverged, is the same in both.
        """
        return value if self.direction == "minimize" or value == math.inf else -value

    def valid(self, stored: float) -> bool:
        """Whether it can be a stored number: infinity can, of a training that diverged."""
        return stored >= self.least

    @overload
    def nats(self, stored: float) -> float: ...

    @overload
    def nats(self, stored: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]: ...

    def nats(self, stored: float | npt.NDArray[np.float64]) -> float | npt.NDArray[np.float64]:
        """A stored number as the search works in it; NaN of a perplexity that is not positive."""
        if self.name == PERPLEXITY:
            if isinstance(stored, np.ndarray):
                with np.errstate(divide="ignore", invalid="ignore"):
                    return np.where(stored > 0, np.log(stored), math.nan)
            return math.log(stored) if stored > 0 else math.nan
        return stored * self._nat

    def stored(self, nats: float) -> float:
        """The inverse of `nats`; infinity where that overflows."""
        if self.name != PERPLEXITY:
            return nats / self._nat
        try:
            return math.exp(nats)
        except OverflowError:
            return math.inf

    def value(self, nats: float) -> float:
        """What is shown of so many nats."""
        return self.signed(self.stored(nats))

    def scaled_to(self, stored: Sequence[float]) -> Self:
        """The same, knowing from some stored numbers how much of it is as much as a nat.

        Over rates some factor of ten apart, trainings of a language model come to about a nat
        apart. So of a number whose unit is unknown the distance of the best to the worst counts as
        one, but no more than a few times that to the middle one: a training that was all but lost
        sets no scale. It is a power of two, so that it seldom changes.
        """
        if self.known_unit or not len(stored) or not np.ptp(stored):
            return self
        middle = float(np.median(stored) - np.min(stored))
        spread = min(float(np.ptp(stored)), FAR_OFF * middle or math.inf)
        return dataclasses.replace(self, scale=2.0 ** round(math.log2(spread)))

    def better(self, value: float, other: float | None) -> float:
        """The better of two shown values; the first one where there is no other."""
        return value if other is None else min(value, other, key=self.signed)

    def nats_between(self, value: float, other: float) -> float:
        """How much worse a shown value is than another, in nats: ln of a ratio of perplexities."""
        if self.name == PERPLEXITY:
            return math.log(value / other)
        return self.nats(self.signed(value)) - self.nats(self.signed(other))

    @property
    def _nat(self) -> float:
        """The nats of a number of 1, but of a perplexity."""
        return math.log(2.0) if self.name == BITS_PER_BYTE else 1.0 / self.scale

    def of_perplexity(self, perplexity: float | None) -> float | None:
        """A perplexity as a value of this; None where it is none, or cannot be told."""
        if perplexity is None or self.name == PERPLEXITY:
            return perplexity
        if self.name == BITS_PER_BYTE and self.tokens_per_byte and perplexity > 0:
            return math.log2(perplexity) * self.tokens_per_byte
        known = self.name == VALIDATION_LOSS and perplexity > 0
        return math.log(perplexity) if known else None

    def to_perplexity(self, value: float) -> float:
        """The inverse, of a perplexity or a loss."""
        return math.exp(value) if self.name == VALIDATION_LOSS else value

    def format(self, value: float | None) -> str:
        """A value as it is shown: "61.24", "3.2415"; "-" where there is none, "inf" if infinite."""
        if value is None:
            return "-"
        if not math.isfinite(value):
            return str(value)
        if self.name in UNITS:
            return f"{value:.4f}"
        if abs(value) >= 1e6:
            mantissa, exponent = f"{value:.2e}".split("e")
            return f"{mantissa}e{int(exponent)}"
        if self.name == PERPLEXITY:
            return f"{value:,.{3 - min(3, max(0, len(str(int(value))) - 1))}f}"
        return f"{value:,.5g}"

    def described(self, value: float | None) -> str:
        """A value with its name: "perplexity 61.24", "validation loss 3.2415"."""
        return f"{self.words} {self.format(value)}"

    def portion(self, share: float) -> str:
        """How much that is: of a perplexity a share of it, else in the number's own unit.

        Args:
            share: 0.01 is 1 % of perplexity, and of any other number as many nats as that is.
        """
        if self.name == PERPLEXITY:
            return f"{100 * share:.2g} %"
        return f"{abs(self._number(math.log1p(share))):.2g} {self.unit}".rstrip()

    def gap(self, nats: float) -> str:
        """A difference with its sign, as it is shown: "+0.3 %", "x12", "+0.0030 nats"."""
        if self.name != PERPLEXITY:
            return f"{self.signed(self._number(nats)):+.2g} {self.unit}".rstrip()
        percent = 100 * math.expm1(nats)
        if percent >= 1000:
            return f"x{math.exp(nats):,.0f}"
        return f"{percent:+.0f} %" if abs(percent) >= 9.95 else f"{percent:+.1f} %"

    def suspicion(self, values: Sequence[float], baseline: float | None) -> str:
        """What is to be said where perplexities are more likely losses in nats; "" where not so.

        Args:
            values: of one text.
            baseline: of a model that knows no context there; None where it is unknown.
        """
        if self.name != PERPLEXITY or not values or baseline is None or baseline < KNOWN_FROM:
            return ""
        if max(values) >= AS_LOSSES * math.log(baseline):
            return ""
        return (
            f"perplexity {values[0]:.4g} looks like a loss in nats beside {baseline:.4g}, the "
            "text's unigram perplexity: perplexity is exp(loss), here "
            f"{math.exp(values[0]):.4g}"
        )

    def _number(self, nats: float) -> float:
        return nats / self._nat
