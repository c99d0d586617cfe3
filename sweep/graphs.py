"""A report's charts as plotly figures, for optuna-dashboard."""

import math
from typing import Any

from plotly.graph_objects import Figure, Scatter

from sweep.charts import Area, Chart, Layer, Line, Marks, Numbers, Span, Upright
from sweep.view.formats import format_bound

SYMBOLS = {
    "circle": "circle",
    "star": "star",
    "triangle": "triangle-down",
    "cross": "x",
    "diamond": "diamond",
    "open": "circle-open",
}
SIZES = {"star": 16}


def graph(chart: Chart) -> Figure:
    """One chart, small enough to be kept as a study's attributes: at most a few thousand bytes."""
    figure = Figure()
    for layer in chart.layers:
        _add(layer, figure, chart)
    figure.update_layout(
        title=chart.title,
        xaxis=_axis(chart.x_title, chart.x_log, chart.x_range, chart.x_ticks),
        yaxis=_axis(chart.y_title, chart.y_log, chart.y_range),
        legend={"font": {"size": 11}},
        hovermode="closest",
    )
    # The default template is 7 kB of colours, and the dashboard has its own.
    figure.layout.template = None
    return figure


def _axis(
    title: str, log: bool, shown: tuple[float, float], ticks: Numbers = ()
) -> dict[str, object]:
    ends = [math.log10(end) if log else end for end in shown]
    axis: dict[str, object] = {"title": title, "type": "log" if log else "linear", "range": ends}
    if ticks:
        axis |= {"tickvals": list(ticks), "ticktext": [format_bound(tick) for tick in ticks]}
    return axis


def _add(layer: Layer, figure: Figure, chart: Chart) -> None:
    if isinstance(layer, Line):
        dash = "dash" if layer.dashed else "solid"
        line = {"color": layer.colour, "width": layer.width, "dash": dash}
        figure.add_trace(_scatter(layer.name, layer.x, layer.y, mode="lines", line=line))
    elif isinstance(layer, Area):
        # There and back: one closed shape.
        around = (*layer.x, *reversed(layer.x)), (*layer.high, *reversed(layer.low))
        look: dict[str, Any] = {
            "fill": "toself",
            "fillcolor": layer.colour,
            "opacity": 0.25,
            "line": {"width": 0},
        }
        figure.add_trace(_scatter(layer.name, *around, mode="lines", hoverinfo="skip", **look))
    elif isinstance(layer, Span):
        low, high = chart.y_range
        box = (layer.low, layer.low, layer.high, layer.high), (low, high, high, low)
        look = {"fill": "toself", "fillcolor": layer.colour, "opacity": 0.15, "line": {"width": 0}}
        figure.add_trace(_scatter(layer.name, *box, mode="lines", hoverinfo="name", **look))
    elif isinstance(layer, Upright):
        dotted = {"color": layer.colour, "width": 1.6, "dash": "dot"}
        ends = (layer.x, layer.x), chart.y_range
        figure.add_trace(_scatter(layer.name, *ends, mode="lines", line=dotted))
    else:
        figure.add_trace(_marks(layer))


def _marks(marks: Marks) -> Scatter:
    look = {
        "color": marks.colour,
        "symbol": SYMBOLS[marks.symbol],
        "size": SIZES.get(marks.symbol, 9),
    }
    bars = {}
    if marks.low:
        up = [high - y for high, y in zip(marks.high, marks.y, strict=True)]
        down = [y - low for low, y in zip(marks.low, marks.y, strict=True)]
        bars = {"error_y": {"array": up, "arrayminus": down, "color": marks.colour}}
    return _scatter(
        marks.name,
        marks.x,
        marks.y,
        mode="markers+text" if marks.labels else "markers",
        marker=look,
        text=list(marks.labels) or None,
        textposition="top right",
        hovertext=list(marks.texts) or None,
        cliponaxis=False,
        **bars,
    )


def _scatter(name: str, x: Numbers, y: Numbers, **look: Any) -> Scatter:
    """Numbers to four digits: more would only fill the database."""
    return Scatter(name=name, x=list(map(_short, x)), y=list(map(_short, y)), **look)


def _short(number: float) -> float | None:
    return float(f"{number:.4g}") if math.isfinite(number) else None
