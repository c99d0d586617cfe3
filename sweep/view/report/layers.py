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


Layer = Line | Area | Points


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
