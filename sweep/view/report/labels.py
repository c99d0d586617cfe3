"""Places for the numbers of a chart's points, where they cover neither points nor each other."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.view.report.layers import Chart, Line, Points

Array = NDArray[np.float64]
Page = NDArray[np.bool_]
"""(height, width): what is taken, in cells of a point of 1/72 inch; so are all lengths here."""

Table = NDArray[np.int_]
Size = tuple[int, int]
"""Width and height of what the axes enclose."""

FONT = 7.5
CHARACTER, LINE = 0.68 * FONT, 1.1 * FONT  # a character's width, a line's height
RADII = {"star": 7.0, "dot": 2.5, "end": 2.5}
RADIUS = 4.0  # of the other symbols
RINGS = (9.0, 13.0, 18.0, 24.0, 31.0, 39.0, 48.0, 58.0, 70.0)  # from a point to its label
BESIDE = 11.0  # a label that begins further away has a line to its point
# In 1/24 of a turn counter-clockwise from the right: above right is tried first.
TURNS = (3, 9, 6, 0, 12, 21, 15, 18, 1, 2, 4, 5, 7, 8, 10, 11, 23, 22, 13, 14)
ANGLES = np.pi / 12 * np.array(TURNS)
OFFSETS = np.concatenate([r * np.stack((np.cos(ANGLES), np.sin(ANGLES)), 1) for r in RINGS])
MOVED = 16  # labels at most that are moved to stand above each other
STACK = 20.0  # from the ends of lines to the column of those


@dataclass(frozen=True, slots=True)
class Label:
    """A text beside the point that it belongs to.

    Attributes:
        x, y: the point's place on the axes.
        right, up: from there to the text's centre.
    """

    text: str
    x: float
    y: float
    right: float
    up: float

    @property
    def far(self) -> bool:
        """Whether a line has to show where it belongs."""
        return math.hypot(max(abs(self.right) - _half(self.text)[0], 0.0), self.up) > BESIDE


def labels(chart: Chart, size: Size) -> list[Label]:
    """A place for each label, the best trial's first; those that find none are left out.

    Args:
        chart: whose marks have labels.
        size: of the area that it is drawn on.
    """
    groups = [layer for layer in chart.layers if isinstance(layer, Points)]
    groups.sort(key=lambda group: group.symbol != "star")
    marks = _marks(chart, size, groups)
    found = _stacked(chart, size, [group for group in groups if group.symbol == "end"])
    for label in found:
        marks[_box(_centre(label, chart, size), _half(label.text))] = True
    others = [group for group in groups if group.symbol != "end"]
    return [*found, *_scattered(chart, size, others, marks)]


def _scattered(chart: Chart, size: Size, groups: Sequence[Points], marks: Page) -> Iterator[Label]:
    """Each where nothing is near its point; over a line of the chart if there is no other place."""
    pages = marks | _lines(chart, size), marks
    tables = [*map(_table, pages)]
    for group in groups:
        own = RADII.get(group.symbol, RADIUS) + 1.5
        for point, text in zip(_points(chart, size, group.x, group.y), group.labels, strict=False):
            offset = _offset(point, _half(text), own, marks, tables)
            if offset is None and group.symbol == "star":  # in a crowd its line crosses others
                offset = _offset(point, _half(text), own, np.zeros_like(marks), tables)
            if offset is None:
                continue
            for page in pages:
                page[_box(point + offset, _half(text))] = True
                page[_cells(_between(point, offset, own), size)] = True
            tables = [*map(_table, pages)]
            yield _label(chart, size, text, point, offset)


def _offset(
    point: Array, half: Array, own: float, marks: Page, tables: Sequence[Table]
) -> Array | None:
    """The first of `OFFSETS` where a page is free for the text, and `marks` for the line to it."""
    size, centres = marks.shape[::-1], point + OFFSETS
    inside = ((centres >= half) & (centres <= size - half)).all(1)
    left, below, right, above = np.minimum(_edges(centres, half), size * 2).T
    for table in tables:
        taken = table[above, right] - table[below, right] - table[above, left] + table[below, left]
        for offset in OFFSETS[inside & (taken == 0)]:
            if not marks[_cells(_between(point, offset, own), size)].any():
                return np.asarray(offset)
    return None


def _table(page: Page) -> Table:
    """How many cells are taken below and to the left of each corner (Crow 1984)."""
    return np.pad(page.cumsum(0, dtype=np.int32).cumsum(1), ((1, 0), (1, 0)))


def _stacked(chart: Chart, size: Size, ends: Sequence[Points]) -> list[Label]:
    """In a column beside the ends of their lines; of many those alone that need not be moved."""
    points = [(_points(chart, size, each.x, each.y)[0], each.labels[0]) for each in ends]
    points.sort(key=lambda each: float(each[0][1]))
    if len(points) > MOVED:
        points = [p for i, p in enumerate(points) if not i or p[0][1] - points[i - 1][0][1] > LINE]
    heights = _spread([point[1] for point, _ in points], size[1])
    found = []
    for (point, text), (y, alone) in zip(points, heights, strict=True):
        right = (RINGS[0] - CHARACTER / 2 if alone else STACK) + _half(text)[0]
        found.append(_label(chart, size, text, point, np.array((right, y - point[1]))))
    return found


def _spread(heights: Sequence[float], most: float) -> list[tuple[float, bool]]:
    """Increasing heights moved as little as needed to be a line apart, and whether one stayed.

    Less i lines each, they need only not fall: the pooling of adjacent violators (Ayer et al.
    1955) has the least sum of squared moves.
    """
    pools: list[tuple[float, int]] = []
    for i, height in enumerate(heights):
        mean, count = height - i * LINE, 1
        while pools and pools[-1][0] > mean:
            below, more = pools.pop()
            mean, count = (mean * count + below * more) / (count + more), count + more
        pools.append((mean, count))
    top = most - (len(heights) - 0.5) * LINE
    even = [(min(max(mean, LINE / 2), top), n == 1) for mean, n in pools for _ in range(n)]
    return [(mean + i * LINE, alone) for i, (mean, alone) in enumerate(even)]


def _label(chart: Chart, size: Size, text: str, point: Array, offset: Array) -> Label:
    x, y = point / size * (chart.x.top, chart.y.top)
    return Label(text, float(x), float(y), float(offset[0]), float(offset[1]))


def _centre(label: Label, chart: Chart, size: Size) -> Array:
    place = np.array((label.x / chart.x.top, label.y / chart.y.top))
    return np.asarray(place * size + (label.right, label.up))


def _half(text: str) -> Array:
    """Half of a text's width and height."""
    return np.array((len(text) * CHARACTER, LINE)) / 2


def _points(chart: Chart, size: Size, x: Sequence[float], y: Sequence[float]) -> Array:
    """Where they stand, (n, 2)."""
    places = np.array((chart.x.places(x), chart.y.places(y))).T
    return np.asarray(places / (chart.x.top, chart.y.top) * size)


def _marks(chart: Chart, size: Size, groups: Sequence[Points]) -> Page:
    """The marks and their error bars."""
    page = np.zeros(size[::-1], bool)
    for group in groups:
        radius = RADII.get(group.symbol, RADIUS)
        low = _points(chart, size, group.x, group.low or group.y)
        high = _points(chart, size, group.x, group.high or group.y)
        for centre, half in zip((low + high) / 2, (high - low) / 2 + radius, strict=True):
            page[_box(centre, half)] = True
    return page


def _lines(chart: Chart, size: Size) -> Page:
    page = np.zeros(size[::-1], bool)
    for line in (layer for layer in chart.layers if isinstance(layer, Line)):
        points = _points(chart, size, line.x, line.y)
        steps = np.diff(points, axis=0)[:, None]
        shares = np.linspace(0, 1, 2 + int(np.abs(steps).max(initial=0)))[:, None]
        page[_cells((points[:-1, None] + steps * shares).reshape(-1, 2), size)] = True
    return page


def _between(point: Array, offset: Array, own: float) -> Array:
    """On the line from a mark's edge to its label's, a place each point; none where they touch."""
    length = float(np.hypot(*offset))
    return np.asarray(point + offset * (np.arange(own, length - LINE) / length)[:, None])


def _box(centre: Array, half: Array) -> tuple[slice, slice]:
    """The cells of a rectangle, as far as they are on the page."""
    left, below, right, above = _edges(centre, half)
    return slice(below, above), slice(left, right)


def _edges(centres: Array, half: Array) -> NDArray[np.int_]:
    """Of rectangles, in whole cells: left, below, right, above; (..., 4)."""
    ends = np.floor(centres - half), np.ceil(centres + half)
    return np.asarray(np.maximum(np.concatenate(ends, -1), 0).astype(int))


def _cells(points: Array, size: Size) -> tuple[Array, Array]:
    """The cells that points lie in; those beyond the page are left out."""
    column, row = np.floor(points[np.isfinite(points).all(1)]).astype(int).T
    there = (column >= 0) & (column < size[0]) & (row >= 0) & (row < size[1])
    return row[there], column[there]
