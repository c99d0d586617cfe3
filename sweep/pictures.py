"""A report's charts by matplotlib: PNG files, and SVG to stand in a page."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from sweep.charts import Area, Chart, Layer, Line, Marks, Span, Upright
from sweep.errors import SweepError
from sweep.view.formats import format_bound

SIZE_INCHES, DPI = (8.6, 4.8), 150
SYMBOLS = {"circle": "o", "star": "*", "triangle": "v", "cross": "x", "diamond": "D", "open": "o"}
SHORT = 5.0  # a range's high over its low
MANY = 14  # lines; more have no legend


def save_png(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Writes one PNG a chart, named by its key; the folder is made where it is missing.

    Raises:
        SweepError: the folder cannot be written to.
    """
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for chart in charts:
            files.append(folder / f"{chart.key}.png")
            _draw(chart).savefig(files[-1], dpi=DPI)
    except OSError as error:
        raise SweepError(f"{folder} cannot be written to: {error.strerror}") from error
    return files


def svg(chart: Chart) -> str:
    """The chart as an <svg> element, without the XML prologue; the same chart, the same text."""
    out = io.StringIO()
    # Ids are random otherwise; two charts in one page must not share them.
    with rc_context({"svg.hashsalt": chart.key}):
        _draw(chart).savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _draw(chart: Chart) -> Figure:
    figure = Figure(SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log" if chart.x_log else "linear")
    axes.set_yscale("log" if chart.y_log else "linear")
    axes.set_xlim(*chart.x_range)
    axes.set_ylim(*chart.y_range)
    for layer in chart.layers:
        _add(layer, axes)
    axes.set_title(chart.title, loc="left", fontsize=11, pad=14)
    axes.set_xlabel(chart.x_title)
    axes.set_ylabel(chart.y_title)
    axes.grid(alpha=0.25, which="major")
    axes.spines[["top", "right"]].set_visible(False)
    _ticks(axes, chart)
    _legend(axes)
    return figure


def _add(layer: Layer, axes: Axes) -> None:
    if isinstance(layer, Line):
        style = "--" if layer.dashed else "-"
        name = layer.name if layer.legend else None
        axes.plot(layer.x, layer.y, style, color=layer.colour, lw=layer.width, label=name)
    elif isinstance(layer, Area):
        axes.fill_between(
            layer.x, layer.low, layer.high, color=layer.colour, alpha=0.25, lw=0, label=layer.name
        )
    elif isinstance(layer, Span):
        axes.axvspan(layer.low, layer.high, color=layer.colour, alpha=0.12, lw=0, label=layer.name)
    elif isinstance(layer, Upright):
        axes.axvline(layer.x, color=layer.colour, lw=1.6, ls=":", label=layer.name)
    else:
        _add_marks(layer, axes)


def _add_marks(marks: Marks, axes: Axes) -> None:
    if marks.low:
        down = [y - low for y, low in zip(marks.y, marks.low, strict=True)]
        up = [high - y for y, high in zip(marks.y, marks.high, strict=True)]
        axes.errorbar(marks.x, marks.y, (down, up), fmt="none", ecolor=marks.colour, capsize=4)
    size = 150 if marks.symbol == "star" else 42
    axes.scatter(
        marks.x,
        marks.y,
        s=size,
        marker=SYMBOLS[marks.symbol],
        facecolors="none" if marks.symbol == "open" else marks.colour,
        edgecolors=None if marks.symbol == "cross" else marks.colour,
        label=marks.name,
        zorder=3,
        clip_on=False,
    )
    for x, y, label in zip(marks.x, marks.y, marks.labels, strict=False):
        axes.annotate(label, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7.5)


def _ticks(axes: Axes, chart: Chart) -> None:
    plain = FuncFormatter(lambda value, _: format_bound(value) if value > 0 else "0")
    logs = (axes.xaxis, chart.x_log, chart.x_range), (axes.yaxis, chart.y_log, chart.y_range)
    for axis, log, (low, high) in logs:
        if log:
            # On a short range a logarithmic axis would have one number or none.
            short = high / low < SHORT
            axis.set_major_locator(MaxNLocator(8) if short else LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(plain)
            axis.set_minor_locator(NullLocator())
    if not chart.x_log:
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))  # epochs
    if chart.x_ticks:
        axes.set_xticks(chart.x_ticks)


def _legend(axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    shown = dict(zip(names, handles, strict=True))  # one entry a name
    if shown and len(shown) <= MANY:
        axes.legend(
            shown.values(),
            shown.keys(),
            fontsize=8,
            frameon=False,
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
        )
