"""A small plot for the terminal: values by rate, and under it where the best rate lies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from sweep.formatting import format_bound, format_fitted
from sweep.results.types import RatePosterior, TrialRow
from sweep.view.axis import Axis, value_axis

# (sign, style); the last one drawn in a cell is the one seen
LOOKS = {
    "pruned": ("▾", "yellow"),
    "paused": ("▾", "cyan"),
    "failed": ("!", "red"),
    "running": ("○", "cyan"),
    "complete": ("●", "blue"),
    "diverged": ("x", "red"),
    "best": ("★", "bold green"),
}
BLOCKS = " ▁▂▃▄▅▆▇█"
LABELS = 8  # columns before the plot: a value, or "diverged"
AROUND = 1.3  # how far beyond the lowest and the highest rate the plot reaches
FAR = 40.0  # and how far from the best one at most; what lies further stands at the edge
BELOW = 3  # lines under the points: the belief, the rates, what they say


@dataclass(frozen=True, slots=True)
class _Cells:
    """An axis of so many cells; the last one is for infinite values where it has a row for them."""

    axis: Axis
    count: int

    def cell(self, value: float) -> int:
        if math.isinf(value):
            return self.count - 1
        last = self.count - 1 - self.axis.lost
        return min(max(round(self.axis.place(value) * last), 0), last)


def live_plot(
    rows: Sequence[TrialRow],
    best: TrialRow | None,
    known: RatePosterior | None,
    width: int,
    height: int,
) -> Text:
    """Draws the plot; empty before a trial has a value.

    Args:
        rows: every trial of the study.
        best: the best one.
        known: where the best rate lies; None before that is known.
        width: columns.
        height: lines, at least 6.
    """
    shown = [row for row in rows if row.value is not None and row.learning_rate > 0]
    finite = [row for row in shown if row.value is not None and math.isfinite(row.value)]
    if not finite:
        return Text()
    x = _rates(shown, best, known, width - LABELS - 1)
    objective = shown[0].objective.scaled_to([row.stored for row in finite])
    seen = [math.inf if row.diverged else row.value or 0.0 for row in shown]
    decay = known.weight_decay if known is not None else None
    below = BELOW + (decay is not None)
    y = _Cells(value_axis("", seen, objective=objective, pad=0), height - below)
    lines = [_points(shown, best, x, y)]
    if known is not None:
        lines.append(_belief(known, x))
    lines.append(_ends(x))
    if known is not None:
        said = f"90 %: {format_fitted(known.low)} to {format_fitted(known.high)}"
        lines.append(Text(" " * (LABELS + 1) + said, style="green"))
    if decay is not None:
        said = f"weight decay {decay[1]:.2g} to {decay[2]:.2g}"
        lines.append(Text(" " * (LABELS + 1) + said, style="green"))
    plot = Text("\n").join(lines)
    plot.no_wrap = True
    return plot


def _rates(
    rows: Sequence[TrialRow], best: TrialRow | None, known: RatePosterior | None, cells: int
) -> _Cells:
    rates = [row.learning_rate for row in rows]
    rates += [known.low, known.high] if known is not None else []
    low, high = min(rates) / AROUND, max(rates) * AROUND
    if best is not None:
        low, high = max(low, best.learning_rate / FAR), min(high, best.learning_rate * FAR)
    return _Cells(Axis("", ((low, 0.0), (high, 1.0))), cells)


def _points(rows: Sequence[TrialRow], best: TrialRow | None, x: _Cells, y: _Cells) -> Text:
    cells: dict[tuple[int, int], str] = {}
    kinds = {row.number: _kind(row, best) for row in rows}
    for row in sorted(rows, key=lambda row: list(LOOKS).index(kinds[row.number])):
        value = math.inf if row.diverged else row.value or 0.0
        cells[y.cell(value), x.cell(row.learning_rate)] = kinds[row.number]
    named = [*y.axis.ends, *(y.axis.broken or ())[:1]]
    labels = {y.cell(value): rows[0].objective.format(value) for value in named}
    labels |= {y.count - 1: "diverged"} if y.axis.lost else {}
    even = y.cell(named[2]) if y.axis.broken else y.count
    text = Text()
    for line in reversed(range(y.count)):
        text.append(f"{labels.get(line, ''):>{LABELS}}", style="dim")
        text.append("│" if line <= even else "┊", style="dim")  # above, the scale is compressed
        for column in range(x.count):
            sign, style = LOOKS[cells[line, column]] if (line, column) in cells else (" ", "")
            text.append(sign, style=style)
        text.append("\n" if line else "")
    return text


def _kind(row: TrialRow, best: TrialRow | None) -> str:
    if best is not None and row.number == best.number:
        return "best"
    return "diverged" if row.diverged else row.state if row.state in LOOKS else "complete"


def _belief(known: RatePosterior, x: _Cells) -> Text:
    """The probability of each column's rates to hold the best, as blocks; the interval in green."""
    heights = [0.0] * x.count
    for rate, probability in zip(known.rates, known.probabilities, strict=True):
        if 0 <= x.axis.place(rate) <= 1:
            place = x.cell(rate)
            heights[place] = max(heights[place], probability)
    filled = _filled(heights)
    tallest = max(filled) or 1.0
    text = Text(" " * LABELS + "│", style="dim")
    inside = range(x.cell(known.low), x.cell(known.high) + 1)
    for column, height in enumerate(filled):
        block = BLOCKS[round(height / tallest * (len(BLOCKS) - 1))]
        text.append(block, style="green" if column in inside else "dim")
    return text


def _filled(heights: list[float]) -> list[float]:
    """Columns between two points of the grid take the higher one of those beside them."""
    return [h or max(heights[max(0, i - 1) : i + 2]) for i, h in enumerate(heights)]


def _ends(x: _Cells) -> Text:
    """The lowest, the middle and the highest rate under the axis."""
    low, high = map(format_bound, x.axis.ends)
    middle = format_bound(math.sqrt(math.prod(x.axis.ends)))
    gap = x.count - len(low) - len(middle) - len(high)
    spaces = " " * max(1, gap // 2)
    line = f"{low}{spaces}{middle}{' ' * max(1, gap - len(spaces))}{high}"
    return Text(" " * LABELS + "└" + line, style="dim")
