"""What a picture is made of, whichever library draws it: lines, areas and marks on two axes."""

from dataclasses import dataclass

from sweep.view.axis import Axis

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points, over `texts` where one points at them; `style` is as CSS has it."""

    name: str
    x: Numbers
    y: Numbers
    colour: str
    width: float = 1.5
    style: str = "solid"  # or "dashed", "dotted"
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Area:
    """What lies between two lines."""

    name: str
    x: Numbers
    low: Numbers
    high: Numbers
    colour: str
    opacity: float = 0.25


@dataclass(frozen=True, slots=True)
class Points:
    """Points, each with a short label and a text; `low` and `high` are error bars in y.

    Attributes:
        symbol: "circle", "open", "star", "triangle", "cross", "diamond", "dot", or "end" of a line.
    """

    name: str
    x: Numbers
    y: Numbers
    colour: str
    symbol: str = "circle"
    labels: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    low: Numbers = ()
    high: Numbers = ()


@dataclass(frozen=True, slots=True)
class Heat:
    """Colours over both axes, with a scale of their own.

    Attributes:
        name: of the scale.
        x, y: the cells' middles, in even steps of their axes.
        values: a row a y.
        best, worst: the values of the first and the last colour; what lies beyond has that too.
    """

    name: str
    x: Numbers
    y: Numbers
    values: tuple[Numbers, ...]
    best: float
    worst: float


# From the best to the worst: ColorBrewer's YlGnBu, without its dark end, on which no number shows.
HEAT_COLOURS = ("#ffffd9", "#edf8b1", "#c7e9b4", "#7fcdbb", "#41b6c4", "#1d91c0")

Layer = Line | Area | Points | Heat


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture.

    Attributes:
        key: names its file and its place in the dashboard.
        caption: what it shows, in a sentence.
        x, y: the axes; whatever lies beyond their ends is cut off.
        layers: the last ones are drawn over the first ones.
    """

    key: str
    title: str
    caption: str
    x: Axis
    y: Axis
    layers: tuple[Layer, ...]
