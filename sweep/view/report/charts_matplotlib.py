"""A report's charts by matplotlib: PNG files, and SVG to stand in a page."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from sweep.errors import SweepError
from sweep.outputs import PICTURE, write_output
from sweep.view.report.labels import FONT, labels
from sweep.view.report.layers import HEAT_COLOURS, Area, Chart, Heat, Line, Points

INCH, DPI = 72, 150  # points; pixels
WIDTH, HEIGHT = 540, 290  # points: what the axes enclose
LEFT, RIGHT, ABOVE, BELOW = 62, 16, 34, 40  # points round the axes' area
SCALE = 66  # and beside it, where colours have a scale
LEGEND_LINE, COLUMNS = 15, 4  # points; names in a line
SYMBOLS = {
    "circle": "o",
    "star": "*",
    "triangle": "v",
    "cross": "x",
    "diamond": "D",
    "open": "o",
    "dot": ".",
    "end": ".",
}
SIZES = {"star": 150, "dot": 30, "end": 30}  # square points


def save_png(charts: Sequence[Chart], folder: Path, *, force: bool = False) -> list[Path]:
    """Writes one PNG a chart, named by its key; the folder is made where it is missing.

    Args:
        charts: of a report.
        folder: where to.
        force: as of `write_output`.

    Raises:
        SweepError: the folder cannot be written to, or as of `write_output`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SweepError(f"{folder} cannot be written to: {error.strerror}") from error
    files = [folder / f"{chart.key}.png" for chart in charts]
    for chart, file in zip(charts, files, strict=True):
        picture = io.BytesIO()
        draw(chart).savefig(picture, dpi=DPI, metadata={"Title": PICTURE})
        write_output(file, picture.getvalue(), force=force)
    return files


def svg(chart: Chart) -> str:
    """The chart as an <svg> element, without the XML prologue; the same chart, the same text."""
    out = io.StringIO()
    # Ids are random otherwise; two charts in one page must not share them.
    with rc_context({"svg.hashsalt": chart.key}):
        draw(chart).savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def draw(chart: Chart) -> Figure:
    """The whole picture: the labels are placed for this very size. The legend is below."""
    names = {layer.name for layer in chart.layers if layer.name and not isinstance(layer, Heat)}
    heats = [layer for layer in chart.layers if isinstance(layer, Heat)]
    below = BELOW + LEGEND_LINE * math.ceil(len(names) / COLUMNS)
    width, height = LEFT + WIDTH + RIGHT + (SCALE if heats else 0), below + HEIGHT + ABOVE
    figure = Figure((width / INCH, height / INCH))
    axes = figure.add_axes((LEFT / width, below / height, WIDTH / width, HEIGHT / height))
    for heat in heats:
        beside = (LEFT + WIDTH + 14) / width, below / height, 12 / width, HEIGHT / height
        _add_heat(heat, chart, axes, figure.add_axes(beside))
    for layer in chart.layers:
        if not isinstance(layer, Heat):
            _add(layer, chart, axes)
    _add_labels(chart, axes)
    _frame(chart, axes)
    _legend(axes, figure)
    return figure


def _frame(chart: Chart, axes: Axes) -> None:
    axes.set_xlim(0, chart.x.top)
    axes.set_ylim(0, chart.y.top)
    axes.set_title(chart.title, loc="left", fontsize=11, pad=12)
    for axis, known in ((axes.xaxis, chart.x), (axes.yaxis, chart.y)):
        axis.set_label_text(known.title, fontsize=9)
        axis.set_ticks([place for place, _ in known.ticks], [text for _, text in known.ticks])
    axes.tick_params(labelsize=8.5)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _add_heat(heat: Heat, chart: Chart, axes: Axes, scale: Axes) -> None:
    """Its cells, and the scale of its colours."""
    rising = heat.best <= heat.worst
    colours = LinearSegmentedColormap.from_list("heat", HEAT_COLOURS[:: 1 if rising else -1])
    cells = axes.pcolormesh(
        chart.x.places(heat.x),
        chart.y.places(heat.y),
        heat.values,
        cmap=colours,
        vmin=min(heat.best, heat.worst),
        vmax=max(heat.best, heat.worst),
        shading="gouraud",
        rasterized=True,
    )
    bar = axes.figure.colorbar(cells, cax=scale, extend="max" if rising else "min")
    bar.set_label(heat.name, fontsize=9)
    scale.tick_params(labelsize=8)


def _add(layer: Line | Area | Points, chart: Chart, axes: Axes) -> None:
    x, colour, name = chart.x.places(layer.x), layer.colour, layer.name
    if isinstance(layer, Line):
        y = chart.y.places(layer.y)
        axes.plot(x, y, ls=layer.style, color=colour, lw=layer.width, label=name)
    elif isinstance(layer, Area):
        low, high = chart.y.places(layer.low), chart.y.places(layer.high)
        axes.fill_between(x, low, high, color=colour, alpha=layer.opacity, lw=0, label=name)
    else:
        _add_marks(layer, chart, axes)


def _add_marks(marks: Points, chart: Chart, axes: Axes) -> None:
    x, y = chart.x.places(marks.x), chart.y.places(marks.y)
    if marks.low:
        low, high = chart.y.places(marks.low), chart.y.places(marks.high)
        axes.vlines(x, low, high, color=marks.colour, lw=1.4)
    axes.scatter(
        x,
        y,
        s=SIZES.get(marks.symbol, 36),
        marker=SYMBOLS[marks.symbol],
        facecolors="none" if marks.symbol == "open" else marks.colour,
        edgecolors=None if marks.symbol == "cross" else marks.colour,
        label=marks.name,
        zorder=3,
        clip_on=False,
    )


def _add_labels(chart: Chart, axes: Axes) -> None:
    line = {"arrowstyle": "-", "color": "#999999", "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
    for label in labels(chart, (WIDTH, HEIGHT)):
        axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(label.right, label.up),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=FONT,
            arrowprops=line if label.far else None,
        )


def _legend(axes: Axes, figure: Figure) -> None:
    handles, names = axes.get_legend_handles_labels()
    shown = dict(zip(names, handles, strict=True))  # one entry a name
    if shown:
        figure.legend(
            shown.values(),
            shown.keys(),
            ncols=COLUMNS,
            fontsize=8,
            frameon=False,
            loc="lower left",
            bbox_to_anchor=(LEFT / INCH / figure.get_figwidth(), 0.0),
            borderpad=0.2,
            borderaxespad=0.0,
        )
