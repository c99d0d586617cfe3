"""Where values stand on an axis and which of them have a number, for pictures and the terminal."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from studies.objective import PERPLEXITY, Objective
from sweep.formatting import format_exponent, format_plain

NEAR_SHARE, BAR = 0.64, 0.012  # of a broken axis: the part below its break, and the break
LOST, TOP = 1.07, 1.11  # the row of what diverged, above the axis; where the picture then ends
LEAST = 1.1  # the last value of a logarithmic axis over the first, at least
PAD = 0.06  # of an axis beyond its values, at both ends
APART = 0.055  # of the axis: ticks that are closer would cover each other
DECADES = 8.0  # a logarithmic axis of a smaller factor has its numbers in equal steps


@dataclass(frozen=True, slots=True)
class Axis:
    """Values between 0 and 1: through knots, and in even steps of the (ln) value between them.

    Attributes:
        knots: (value, place), both increasing. Of four the two in the middle are the ends of a
            bar, above which the axis is compressed.
        ticks: (place, text).
        log: even steps are of ln value.
        lost: infinite values have a row of their own, above the axis.
    """

    title: str
    knots: tuple[tuple[float, float], ...]
    ticks: tuple[tuple[float, str], ...] = ()
    log: bool = True
    lost: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value on it."""
        return self.knots[0][0], self.knots[-1][0]

    @property
    def broken(self) -> tuple[float, float] | None:
        """The values at the ends of that bar; None where there is none."""
        return (self.knots[1][0], self.knots[2][0]) if len(self.knots) > 2 else None

    @property
    def top(self) -> float:
        """Where the picture ends."""
        return TOP if self.lost else 1.0

    def place(self, value: float) -> float:
        """Where a value stands; beyond the ends the axis goes on, but nothing is shown there."""
        if value == math.inf:
            return LOST
        upper = next((i for i, knot in enumerate(self.knots[1:-1], 1) if value <= knot[0]), -1)
        (start, low), (end, high) = self.knots[upper - 1], self.knots[upper]
        return low + (high - low) * self._share(value, start, end)

    def places(self, values: Iterable[float]) -> list[float]:
        """Where each of them stands."""
        return [self.place(value) for value in values]

    def _share(self, value: float, start: float, end: float) -> float:
        if self.log:
            value, start, end = (math.log(max(each, 1e-300)) for each in (value, start, end))
        return (value - start) / (end - start)


def rate_axis(rates: Sequence[float], title: str = "learning rate") -> Axis:
    """A logarithmic axis that holds these rates, numbered as 2e-3."""
    low, high = _padded(min(rates) / LEAST, max(rates) * LEAST)
    return _numbered(Axis(title, ((low, 0.0), (high, 1.0))), format_exponent)


def exact_axis(title: str, values: Sequence[float], text: Callable[[float], str]) -> Axis:
    """A logarithmic axis from the lowest to the highest of these values, and no further."""
    return _numbered(Axis(title, ((min(values), 0.0), (max(values), 1.0))), text)


def marked_axis(title: str, low: float, high: float, numbers: Sequence[float]) -> Axis:
    """A logarithmic axis with these numbers on it."""
    axis = Axis(title, ((low, 0.0), (high, 1.0)))
    return replace(axis, ticks=_apart((axis.place(x), format_plain(x)) for x in sorted(numbers)))


def linear_axis(title: str, low: float, high: float, *, whole: bool = False) -> Axis:
    """Equal steps; whole numbers alone where it is asked for."""
    axis = Axis(title, ((low, 0.0), (high, 1.0)), log=False)
    return _numbered(axis, format_plain, whole=whole)


def value_axis(
    title: str,
    seen: Sequence[float],
    also: Sequence[float] = (),
    *,
    objective: Objective,
    room: float = 1.5,
    pad: float = PAD,
) -> Axis:
    """An axis that holds all of them, logarithmic for perplexities.

    It is broken where some lie far above the lowest, unless large ones are the better.

    Args:
        seen: values; those within a factor of `room` of the lowest perplexity, or as many nats of
            the lowest of another number, have the lower part. Infinite ones have a row of their
            own.
        also: further ones, which decide nothing about the break; of all one at least is finite.
        objective: what they are; of an unknown unit, scaled.
        pad: how far the axis goes beyond them, as a share of it.
    """
    log = objective.name == PERPLEXITY
    most_nats = math.log(room) if objective.direction == "minimize" else math.inf
    more = [each for each in also if math.isfinite(each)]
    finite = [each for each in seen if math.isfinite(each)] or more
    lost = math.inf in (*seen, *also)
    low, high = min((*finite, *more)), max((*finite, *more))
    most = min(finite) * room if log else min(finite) + objective.stored(most_nats)
    least = LEAST * low if log else low + objective.stored(math.log(LEAST))
    near = max(least, max(each for each in finite if each <= most))
    start, end = _padded(low, near, pad, log=log)
    if high <= end:
        knots: tuple[tuple[float, float], ...] = ((start, 0.0), (end, 1.0))
    else:
        above = end * (1 + 1e-9) if log else end + 1e-9 * (end - start)
        bar = (end, NEAR_SHARE), (above, NEAR_SHARE + BAR)
        knots = ((start, 0.0), *bar, (_padded(end, high, pad, log=log)[1], 1.0))
    return _numbered(Axis(title, knots, log=log, lost=lost), format_plain)


def _numbered(axis: Axis, text: Callable[[float], str], *, whole: bool = False) -> Axis:
    """The axis with a few round numbers on it, and the name of the row above it."""
    ticks: list[tuple[float, str]] = [(LOST, "diverged")] if axis.lost else []
    for (low, start), (high, end) in zip(axis.knots, axis.knots[1:], strict=False):
        if end - start > 2 * BAR:
            numbers = round_numbers(low, high, axis.log, most=6 if axis.broken else 8)
            ticks += [(axis.place(x), text(x)) for x in numbers if not whole or x == round(x)]
    return replace(axis, ticks=_apart(ticks))


def _apart(ticks: Iterable[tuple[float, str]]) -> tuple[tuple[float, str], ...]:
    """Those of the ticks that do not cover one that came before."""
    found: list[tuple[float, str]] = []
    for place, text in ticks:
        if all(abs(place - other) >= APART for other, _ in found):
            found.append((place, text))
    return tuple(found)


def round_numbers(low: float, high: float, log: bool, most: int) -> list[float]:
    """At most so many round numbers from `low` to `high`: 1, 2, 5, 10, ... or in equal steps."""
    if log and high / low > DECADES:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            found = [f * 10.0**power for power in powers for f in factors]
            found = [each for each in found if low <= each <= high]
            if 2 <= len(found) <= most:
                return found
        return found[:: math.ceil(len(found) / most)]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(f * power for f in (1, 2, 5, 10) if f * power * most > high - low)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


def _padded(low: float, high: float, pad: float = PAD, *, log: bool = True) -> tuple[float, float]:
    if not log:
        return low - pad * (high - low), high + pad * (high - low)
    beyond = (high / low) ** pad
    return low / beyond, high * beyond
