"""A small plot for the terminal: perplexity by rate, and under it where the best rate lies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from sweep.summary import Belief, TrialRow
from sweep.view.formats import format_bound, format_fitted, format_perplexity

# (sign, style); the last one drawn in a cell is the one seen
LOOKS = {
    "pruned": ("▾", "yellow"),
    "failed": ("!", "red"),
    "running": ("○", "cyan"),
    "complete": ("●", "blue"),
    "diverged": ("x", "red"),
    "best": ("★", "bold green"),
}
BLOCKS = " ▁▂▃▄▅▆▇█"
LABELS = 7  # columns before the plot: a perplexity
AROUND = 1.3  # how far beyond the lowest and the highest rate the plot reaches
FAR = 40.0  # and how far from the best one at most; what lies further stands at the edge
ROOM = 1.5  # how far above the best perplexity; what lies higher stands at the top
BELOW = 3  # lines under the points: the belief, the rates, what they say


@dataclass(frozen=True, slots=True)
class _Axis:
    """A logarithmic axis of so many cells."""

    low: float
    high: float
    cells: int

    def cell(self, value: float) -> int:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return min(max(round(share * (self.cells - 1)), 0), self.cells - 1)


def live_plot(
    rows: Sequence[TrialRow], best: TrialRow | None, known: Belief | None, width: int, height: int
) -> Text:
    """Draws the plot; empty before a trial has a perplexity.

    Args:
        rows: every trial of the study.
        best: the best one.
        known: where the best rate lies; None before that is known.
        width: columns.
        height: lines, at least 6.
    """
    shown = [row for row in rows if row.perplexity is not None and row.learning_rate > 0]
    finite = [p for row in shown if (p := row.perplexity) is not None and math.isfinite(p)]
    if not finite:
        return Text()
    x = _rates(shown, best, known, width - LABELS - 1)
    top = min(max(max(finite), 1.05 * min(finite)), ROOM * min(finite))
    y = _Axis(min(finite), top, height - BELOW)
    lines = [_points(shown, best, x, y)]
    if known is not None:
        lines.append(_belief(known, x))
    lines.append(_ends(x))
    if known is not None:
        said = f"90 %: {format_fitted(known.low)} to {format_fitted(known.high)}"
        lines.append(Text(" " * (LABELS + 1) + said, style="green"))
    plot = Text("\n").join(lines)
    plot.no_wrap = True
    return plot


def _rates(
    rows: Sequence[TrialRow], best: TrialRow | None, known: Belief | None, cells: int
) -> _Axis:
    rates = [row.learning_rate for row in rows]
    rates += [known.low, known.high] if known is not None else []
    low, high = min(rates) / AROUND, max(rates) * AROUND
    if best is not None:
        low, high = max(low, best.learning_rate / FAR), min(high, best.learning_rate * FAR)
    return _Axis(low, high, cells)


def _points(rows: Sequence[TrialRow], best: TrialRow | None, x: _Axis, y: _Axis) -> Text:
    cells: dict[tuple[int, int], str] = {}
    kinds = {row.number: _kind(row, best) for row in rows}
    for row in sorted(rows, key=lambda row: list(LOOKS).index(kinds[row.number])):
        perplexity = row.perplexity or y.high
        place = y.cell(min(perplexity, y.high)), x.cell(row.learning_rate)
        cells[place] = kinds[row.number]
    text = Text()
    for line in reversed(range(y.cells)):
        label = {0: y.low, y.cells - 1: y.high}.get(line)
        text.append(f"{format_perplexity(label) if label else '':>{LABELS}}", style="dim")
        text.append("│", style="dim")
        for column in range(x.cells):
            sign, style = LOOKS[cells[line, column]] if (line, column) in cells else (" ", "")
            text.append(sign, style=style)
        text.append("\n" if line else "")
    return text


def _kind(row: TrialRow, best: TrialRow | None) -> str:
    if best is not None and row.number == best.number:
        return "best"
    return "diverged" if row.diverged else row.state if row.state in LOOKS else "complete"


def _belief(known: Belief, x: _Axis) -> Text:
    """The probability of each column's rates to hold the best, as blocks; the interval in green."""
    heights = [0.0] * x.cells
    for rate, probability in zip(known.rates, known.probabilities, strict=True):
        if x.low <= rate <= x.high:
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


def _ends(x: _Axis) -> Text:
    """The lowest, the middle and the highest rate under the axis."""
    low, high = format_bound(x.low), format_bound(x.high)
    middle = format_bound(math.sqrt(x.low * x.high))
    gap = x.cells - len(low) - len(middle) - len(high)
    spaces = " " * max(1, gap // 2)
    line = f"{low}{spaces}{middle}{' ' * max(1, gap - len(spaces))}{high}"
    return Text(" " * LABELS + "└" + line, style="dim")
