"""What a study searches, where, and what makes two studies the same one."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from optuna.distributions import BaseDistribution, FloatDistribution

from studies.errors import StudyError

PARAMETER = "learning_rate"
# Stored with every trial and never changed: a changed distribution would set the old trials apart.
# It reaches above 1 because linear asks for 1.28 from 2e-2 at batch 32 to batch 2048.
WIDE = FloatDistribution(1e-7, 10.0, log=True)
NARROWEST = 1.25

JsonScalar = str | int | float | bool | None


def working_range(rates: Iterable[float], *, margin: float = 10.0) -> tuple[float, float]:
    """Chooses the range to search where the user gives none.

    The margin is what a rule may be wrong by. Carried to a 4 times larger batch the usual rules
    miss by 0.6 to 1.2 (rms, ln) on the Step Law runs, so 10 is two of their deviations; a borrowed
    reference may be out by more (measured: 26 times above sqrt, 4 above linear), which `edge` shows
    and `widen` mends.

    Args:
        rates: the rules' rates or their centres, at least one.
        margin: the factor below the lowest and above the highest of them.

    Returns:
        The lowest and the highest rate, to three digits and within `WIDE`.
    """
    known = list(rates)
    assert known, "working_range needs at least one rate"
    low, high = _within_wide(min(known) / margin), _within_wide(max(known) * margin)
    if high / low < NARROWEST:
        # Every rate lies beyond one end of WIDE: the range is the margin at that end.
        low, high = _within_wide(low / margin), _within_wide(high * margin)
    return low, high


def validate_range(low: float, high: float) -> None:
    """Checks a range that the user gave.

    Raises:
        StudyError: it is empty, too narrow to search, or reaches out of `WIDE`.
    """
    for end, value in (("low", low), ("high", high)):
        if not WIDE.low <= value <= WIDE.high:
            raise StudyError(
                f"range.{end} must lie between {WIDE.low:g} and {WIDE.high:g}, got {value:g}"
            )
    if high < NARROWEST * low:
        raise StudyError(
            f"range.high must be at least {NARROWEST:g} times range.low ({low:g}), got {high:g}"
        )


def range_within(
    distribution: BaseDistribution | None, low: float | None, high: float | None
) -> tuple[float, float]:
    """The part of a range that a parameter's distribution allows.

    Args:
        distribution: the parameter's.
        low: the lowest rate of the range; None for the distribution's own.
        high: the highest.

    Raises:
        StudyError: the rate's scale is not logarithmic, or the distribution allows none of them.
    """
    if not isinstance(distribution, FloatDistribution) or not distribution.log:
        raise StudyError(f"{PARAMETER} must be a float on a log scale, got {distribution}")
    low = distribution.low if low is None else low
    high = distribution.high if high is None else high
    within = max(low, distribution.low), min(high, distribution.high)
    if not within[0] <= within[1]:
        raise StudyError(
            f"{PARAMETER} is searched from {low:g} to {high:g}, where its distribution, from "
            f"{distribution.low:g} to {distribution.high:g}, allows no rate"
        )
    return within


def edge(rate: float, low: float, high: float, tried: Iterable[float]) -> str:
    """Tells whether the best rate leans on an end of the range, so that the best may lie outside.

    Args:
        rate: the best rate so far.
        low: the lowest rate of the range.
        high: the highest.
        tried: every rate with a result, diverged ones included.

    Returns:
        "lower" or "upper" where the rate is within a factor of 1.5 of that end (or beyond it) and
        no rate more than 1.2 times further out was tried (a finer difference is noise); else "".
    """
    rates = list(tried)
    leans_low = rate <= 1.5 * low and not any(other < rate / 1.2 for other in rates)
    leans_high = rate >= high / 1.5 and not any(other > rate * 1.2 for other in rates)
    if leans_low and leans_high:
        return "lower" if rate / low < high / rate else "upper"
    return "lower" if leans_low else "upper" if leans_high else ""


def searched(side: str, low: float, high: float, tried: Iterable[float]) -> bool:
    """Tells whether the range was searched to an end: until then the best rate may lie within.

    Args:
        side: "lower" or "upper".
        low: the lowest rate of the range.
        high: the highest.
        tried: every rate with a result, diverged ones included.

    Returns:
        Whether a rate within a factor of 2 of that end, or beyond it, was tried.
    """
    assert side in ("lower", "upper"), side
    return any(rate <= 2 * low if side == "lower" else rate >= high / 2 for rate in tried)


def widen(low: float, high: float, side: str, factor: float = 10.0) -> tuple[float, float]:
    """Moves one end of the range outwards.

    Args:
        side: "lower" or "upper", as `edge` answers.
        factor: how far.

    Returns:
        The new range within `WIDE`; the same one where that end cannot move.
    """
    assert side in ("lower", "upper"), side
    if side == "lower":
        return min(low, _within_wide(low / factor)), high
    return low, max(high, _within_wide(high * factor))


def _within_wide(rate: float) -> float:
    return min(max(float(f"{rate:.3g}"), WIDE.low), WIDE.high)


@dataclass(frozen=True, slots=True)
class Identity:
    """What trials must share to be compared: everything about a run but its learning rate.

    Attributes:
        fields: values by flattened key ("model.options.hidden"); lists as JSON text.
    """

    fields: dict[str, JsonScalar]

    @classmethod
    def of(cls, nested: Mapping[str, Any]) -> Self:
        """Flattens a nested mapping, e.g. a TrainConfig as a dict without its learning rate.

        Raises:
            StudyError: a number is not finite.
        """
        return cls(dict(_flattened("", nested)))

    @property
    def hash8(self) -> str:
        """Eight hexadecimal digits that do not depend on the order of the fields."""
        text = json.dumps(self.fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def differences(self, other: "Identity") -> list[str]:
        """Says where a stored identity differs from this one.

        Args:
            other: the one over there, usually the stored study's.

        Returns:
            Sentences such as "batch_size: 32 there, 2048 here", in the order of this one's
            fields, then of those only the other has.
        """
        names = dict.fromkeys([*self.fields, *other.fields])
        pairs = ((name, _json(other.fields, name), _json(self.fields, name)) for name in names)
        return [_difference(*pair) for pair in pairs if pair[1] != pair[2]]


def _flattened(prefix: str, nested: Mapping[str, Any]) -> Iterable[tuple[str, JsonScalar]]:
    for key, value in nested.items():
        name = prefix + str(key)
        if isinstance(value, Mapping):
            yield from _flattened(f"{name}.", value)
        elif isinstance(value, list | tuple):
            yield name, json.dumps(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise StudyError(f"{name} must be finite, got {value}")
        else:
            yield name, value


def _json(fields: dict[str, JsonScalar], name: str) -> str | None:
    # Compared as JSON: 1, 1.0 and true differ here exactly where they differ in the hash.
    return json.dumps(fields[name]) if name in fields else None


def _difference(name: str, there: str | None, here: str | None) -> str:
    if _plain(there) == _plain(here):
        return f"{name}: {there or 'absent'} there, {here or 'absent'} here"
    return f"{name}: {_plain(there)} there, {_plain(here)} here"


def _plain(text: str | None) -> str:
    """A value without the quotes of JSON, where it is still seen without them."""
    if text is None:
        return "absent"
    value = json.loads(text)
    return value if isinstance(value, str) and value else text
