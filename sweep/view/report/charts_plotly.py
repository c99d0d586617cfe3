"""A report's charts as plotly figures, for optuna-dashboard."""

from typing import Any

from plotly.graph_objects import Figure, Heatmap, Scatter

from sweep.view.axis import Axis
from sweep.view.report.labels import FONT, Label, labels
from sweep.view.report.layers import HEAT_COLOURS, Area, Chart, Heat, Layer, Line, Numbers, Points

PIXELS = 4 / 3  # a point of 1/72 inch
SIZE = 390, 185  # points: what the axes enclose in a browser's window that is 1,400 pixels wide
DASHES = {"solid": "solid", "dashed": "dash", "dotted": "dot"}
SYMBOLS = {
    "circle": "circle",
    "star": "star",
    "triangle": "triangle-down",
    "cross": "x",
    "diamond": "diamond",
    "open": "circle-open",
    "dot": "circle",
    "end": "circle",
}
SIZES = {"star": 16, "dot": 5, "end": 5}


def graph(chart: Chart) -> Figure:
    """One chart, small enough to be kept as a study's attributes: at most a few thousand bytes."""
    figure = Figure([_trace(layer, chart) for layer in chart.layers])
    figure.update_layout(
        title={"text": chart.title, "x": 0.02, "font": {"size": 15}},
        xaxis=_axis(chart.x),
        yaxis=_axis(chart.y),
        annotations=[_annotation(label) for label in labels(chart, SIZE)],
        legend={"font": {"size": 10}, "orientation": "h", "y": -0.2},
        margin={"t": 40, "r": 20, "l": 60},
        hovermode="closest",
    )
    # The default template is 7 kB of colours, and the dashboard has its own.
    figure.layout.template = None
    return figure


def _axis(axis: Axis) -> dict[str, object]:
    return {
        "title": {"text": axis.title, "standoff": 8, "font": {"size": 12}},
        "range": [0, axis.top],
        "tickvals": [_short(place) for place, _ in axis.ticks],
        "ticktext": [text for _, text in axis.ticks],
        "zeroline": False,
    }


def _annotation(label: Label) -> dict[str, object]:
    """The arrow is the line to a text that stands far from its point."""
    return {
        "text": label.text,
        "x": _short(label.x),
        "y": _short(label.y),
        "ax": round(PIXELS * label.right, 1),
        "ay": round(-PIXELS * label.up, 1),
        "font": {"size": PIXELS * FONT},
        "arrowhead": 0,
        "arrowwidth": 0.6,
        "arrowcolor": "#999999" if label.far else "rgba(0,0,0,0)",
        "standoff": 5,
    }


def _heat(heat: Heat, chart: Chart) -> Heatmap:
    rising = heat.best <= heat.worst
    colours = HEAT_COLOURS[:: 1 if rising else -1]
    return Heatmap(
        x=list(map(_short, chart.x.places(heat.x))),
        y=list(map(_short, chart.y.places(heat.y))),
        z=[list(map(_short, row)) for row in heat.values],
        zmin=min(heat.best, heat.worst),
        zmax=max(heat.best, heat.worst),
        zsmooth="best",
        colorscale=[[i / (len(colours) - 1), colour] for i, colour in enumerate(colours)],
        colorbar={"title": {"text": heat.name, "side": "right", "font": {"size": 11}}},
        hoverinfo="z",
    )


def _trace(layer: Layer, chart: Chart) -> Scatter | Heatmap:
    if isinstance(layer, Heat):
        return _heat(layer, chart)
    if isinstance(layer, Line):
        line = {"color": layer.colour, "width": layer.width, "dash": DASHES[layer.style]}
        look: dict[str, Any] = {"mode": "lines", "line": line}
        return _scatter(layer.name, chart, layer.x, layer.y, layer.texts, **look)
    if isinstance(layer, Area):
        # There and back: one closed shape.
        around = (*layer.x, *reversed(layer.x)), (*layer.high, *reversed(layer.low))
        look = {"fill": "toself", "fillcolor": layer.colour, "opacity": layer.opacity}
        return _scatter(layer.name, chart, *around, mode="lines", line={"width": 0}, **look)
    return _marks(layer, chart)


def _marks(marks: Points, chart: Chart) -> Scatter:
    look: dict[str, Any] = {
        "color": marks.colour,
        "symbol": SYMBOLS[marks.symbol],
        "size": SIZES.get(marks.symbol, 9),
    }
    bars = {}
    if marks.low:
        y, low, high = map(chart.y.places, (marks.y, marks.low, marks.high))
        up = [_short(b - a) for a, b in zip(y, high, strict=True)]
        down = [_short(b - a) for a, b in zip(low, y, strict=True)]
        bars = {"error_y": {"array": up, "arrayminus": down, "color": marks.colour}}
    points = _scatter(marks.name, chart, marks.x, marks.y, marks.texts, mode="markers", **bars)
    return points.update(marker=look, cliponaxis=False)


def _scatter(
    name: str, chart: Chart, x: Numbers, y: Numbers, texts: tuple[str, ...] = (), **look: Any
) -> Scatter:
    """Places to four digits: more would only fill the database."""
    right, up = list(map(_short, chart.x.places(x))), list(map(_short, chart.y.places(y)))
    hover: dict[str, Any] = {"hoverinfo": "name" if name else "skip"}
    if texts:
        hover = {"hoverinfo": "text", "hovertext": list(texts)}
    return Scatter(name=name, showlegend=bool(name), x=right, y=up, **hover, **look)


def _short(number: float) -> float:
    return float(f"{number:.4g}")
