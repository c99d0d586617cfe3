"""The pictures as they are drawn: where a point stands, what covers what, what the axes say."""

import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from support import open_ledger, play

from studies.objective import Objective
from studies.prior import Prior
from sweep.results.report import Report, build
from sweep.view.axis import exact_axis, linear_axis, rate_axis, round_numbers, value_axis
from sweep.view.report.charts import charts
from sweep.view.report.charts_matplotlib import draw
from sweep.view.report.charts_plotly import PIXELS, SIZE, graph
from sweep.view.report.labels import FONT
from sweep.view.report.layers import HEAT_COLOURS, Area, Chart, Heat, Line, Points
from trainers.config import TrainConfig

UNIGRAM = 135.7
# Rates and perplexities of a sweep at batch 2,048: a narrow basin, and four runs far above it.
MAIN = {
    1.70e-2: 43.85,
    2.12e-3: 94.59,
    1.36e-1: 130.3,
    2.52e-2: 41.93,
    2.29e-2: 42.39,
    2.93e-2: 42.79,
    2.07e-2: 42.50,
    3.23e-2: 91.15,
    1.87e-2: 43.07,
    4.07e-1: 136.5,
}
LOST = {0.25: math.inf, 0.3: math.inf}


def crowd() -> dict[float, float]:
    """Forty runs, most of them near the optimum."""
    draws = random.Random(3)
    rates = [2.5e-2 * math.exp(draws.gauss(0, 0.5)) for _ in range(40)]
    return {rate: 42 * math.exp(0.3 * math.log(rate / 2.5e-2) ** 2) for rate in rates}


def report_of(folder: Path, runs: dict[float, float]) -> Report:
    folder.mkdir()
    train = TrainConfig(learning_rate=1.0, epochs=10, batch_size=2048, precision="fp16")
    priors = {"sqrt": Prior(1.7e-2), "unscaled": Prior(2.12e-3), "linear": Prior(0.136)}
    search = {"sampler": "learning-rate", "pruner": "none", "first": (), "priors": priors}
    with open_ledger(folder, train=train, trials=len(runs), low=7e-4, **search) as ledger:
        ledger.study.set_user_attr("unigram_perplexity", UNIGRAM)
        for rate in runs:
            ledger.study.enqueue_trial({"learning_rate": rate})
        play(
            ledger,
            lambda rate: runs[nearest(rate, runs)],
            trials=len(runs),
            diverges=lambda rate: math.isinf(runs[nearest(rate, runs)]),
        )
        return build(ledger.study, "sweep.db", [ledger.study])


def nearest(rate: float, runs: dict[float, float]) -> float:
    return min(runs, key=lambda each: abs(math.log(each / rate)))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    folder = tmp_path_factory.mktemp("studies")
    made = {"main": MAIN, "lost": MAIN | LOST, "crowd": crowd()}
    return {name: report_of(folder / name, runs) for name, runs in made.items()}


def chart_of(report: Report, key: str) -> Chart:
    return next(chart for chart in charts(report) if chart.key == key)


def axes_of(chart: Chart) -> Axes:
    figure = draw(chart)
    figure.draw_without_rendering()
    return figure.axes[0]


def points_of(axes: Axes) -> list[tuple[float, float]]:
    """Every mark that the picture shows, from the left to the right."""
    groups = [each for each in axes.collections if isinstance(each, PathCollection)]
    return sorted((float(x), float(y)) for group in groups for x, y in group.get_offsets())


def graph_points(chart: Chart) -> list[tuple[float, float]]:
    """The same of plotly's figure."""
    traces = [each for each in graph(chart).data if each.mode == "markers"]
    return sorted(pair for each in traces for pair in zip(each.x, each.y, strict=True))


def numbers(chart: Chart, library: str, axis: str) -> list[tuple[float, float]]:
    """The numbers on an axis as a reader sees them, with where they stand."""
    if library == "plotly":
        shown = graph(chart).layout[f"{axis}axis"]
        pairs = zip(shown.tickvals, shown.ticktext, strict=True)
    else:
        drawn = getattr(axes_of(chart), f"{axis}axis")
        texts = [each.get_text() for each in drawn.get_ticklabels()]
        pairs = zip(drawn.get_ticklocs(), texts, strict=True)
    return sorted((place, float(text.replace(",", ""))) for place, text in pairs if text[0] != "d")


def between(place: float, ticks: list[tuple[float, float]]) -> tuple[float, float]:
    """What a reader knows of a value: the numbers on both sides of where it stands."""
    below = [value for where, value in ticks if where <= place + 1e-4]
    above = [value for where, value in ticks if where >= place - 1e-4]
    return max(below, default=0.0), min(above, default=math.inf)


@pytest.mark.parametrize("library", ["matplotlib", "plotly"])
@pytest.mark.parametrize("name", ["main", "crowd"])
def test_every_trial_stands_at_its_true_rate_and_perplexity(
    reports: dict[str, Report], name: str, library: str
) -> None:
    chart = chart_of(reports[name], "response")
    points = points_of(axes_of(chart)) if library == "matplotlib" else graph_points(chart)
    rows = sorted(reports[name].study.trials, key=lambda row: row.learning_rate)
    ticks = {axis: numbers(chart, library, axis) for axis in "xy"}
    assert len(ticks["y"]) >= 6
    assert len(points) == len(rows)
    for (x, y), row in zip(points, rows, strict=True):
        assert 0 < x < 1
        assert 0 < y < 1
        assert row.value is not None
        for place, value, axis in ((x, row.learning_rate, "x"), (y, row.value, "y")):
            low, high = between(place, ticks[axis])
            assert low / 1.001 <= value <= high * 1.001
    ranks = [sorted(rows, key=lambda row: row.value or 0.0).index(row) for row in rows]
    heights = [y for _, y in points]
    assert [sorted(heights).index(y) for y in heights] == ranks


def test_runs_near_the_best_have_the_most_of_the_height(reports: dict[str, Report]) -> None:
    y = chart_of(reports["main"], "response").y
    assert y.broken is not None
    assert 43.85 < y.broken[0] < 91.15
    # A tenth of the perplexity is told apart: the mark's radius is 4 points of 290.
    assert 290 * (y.place(43.07) - y.place(42.50)) > 8
    assert y.place(136.5) - y.place(130.3) > 0.01


@pytest.mark.parametrize("key", ["response", "steps"])
def test_diverged_runs_have_a_row_of_their_own(reports: dict[str, Report], key: str) -> None:
    chart = chart_of(reports["lost"], key)
    axes = axes_of(chart)
    texts = [each.get_text() for each in axes.get_yticklabels()]
    row = axes.get_yticks()[texts.index("diverged")]
    (crosses,) = [each for each in axes.collections if each.get_label() == "diverged"]
    heights = crosses.get_offsets()[:, 1]
    assert len(heights) == 2
    assert set(heights) == {row}
    others = [y for _, y in points_of(axes) if y not in heights]
    assert max(others) < 1 < row < axes.get_ylim()[1]
    assert "diverged" in graph(chart).layout.yaxis.ticktext


@pytest.mark.parametrize("key", ["response", "steps"])
def test_the_unigram_perplexity_is_a_line(reports: dict[str, Report], key: str) -> None:
    chart = chart_of(reports["main"], key)
    (line,) = [each for each in chart.layers if each.name == "unigram perplexity 135.7"]
    assert isinstance(line, Line)
    assert line.y == (UNIGRAM, UNIGRAM)
    assert 0 < chart.y.place(UNIGRAM) < 1
    assert "unigram perplexity 135.7" in axes_of(chart).get_legend_handles_labels()[1]


def test_no_axis_cuts_the_curve_and_its_band(reports: dict[str, Report]) -> None:
    for report in reports.values():
        chart, curve = chart_of(report, "response"), report.curve
        assert curve is not None
        (band,) = [each for each in chart.layers if each.name == "its 90 % band"]
        assert isinstance(band, Area)
        assert (band.x, band.low, band.high) == (curve.rates, curve.low, curve.high)
        places = [chart.y.place(y) for y in (*curve.low, *curve.middle, *curve.high)]
        assert min(places) > 0
        assert max(places) < 1


def boxes(axes: Axes) -> tuple[list[tuple[str, Bbox]], list[Bbox]]:
    """Labels as drawn, and the marks (a circle's square, made smaller), in pixels."""
    texts = [(each.get_text(), Text.get_window_extent(each)) for each in axes.texts]
    marks = []
    for group in (each for each in axes.collections if isinstance(each, PathCollection)):
        radius = 0.35 * math.sqrt(group.get_sizes()[0]) * axes.figure.dpi / 72
        for x, y in axes.transData.transform(group.get_offsets()):
            marks.append(Bbox([[x - radius, y - radius], [x + radius, y + radius]]))
    return texts, marks


def graph_boxes(chart: Chart) -> Iterator[tuple[str, Bbox]]:
    """Labels in plotly's figure, in points, on the area that they were placed for."""
    width, height = SIZE
    for note in graph(chart).layout.annotations:
        x = note.x * width / chart.x.top + note.ax / PIXELS
        y = note.y * height / chart.y.top - note.ay / PIXELS
        half = len(note.text) * 0.64 * FONT / 2, 0.9 * FONT / 2
        yield note.text, Bbox([[x - half[0], y - half[1]], [x + half[0], y + half[1]]])


@pytest.mark.parametrize("key", ["response", "steps"])
@pytest.mark.parametrize("name", ["main", "lost", "crowd"])
def test_numbers_cover_neither_each_other_nor_a_point(
    reports: dict[str, Report], name: str, key: str
) -> None:
    chart, trials = chart_of(reports[name], key), reports[name].study.trials
    axes = axes_of(chart)
    texts, marks = boxes(axes)
    numbered = [text for text, _ in texts]
    assert len(set(numbered)) == len(numbered)
    if name != "crowd":
        assert sorted(map(int, numbered)) == [row.number for row in trials]
    best = reports[name].study.best
    assert best is not None
    assert str(best.number) in numbered
    for (one, box), (other, another) in itertools.combinations(texts, 2):
        assert not box.overlaps(another), (one, other)
    for text, box in texts:
        assert not any(box.overlaps(mark) for mark in marks), text
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1
    labels = list(graph_boxes(chart))
    assert str(best.number) in [text for text, _ in labels]
    for (one, box), (other, another) in itertools.combinations(labels, 2):
        assert not box.overlaps(another), (one, other)


def test_most_of_a_crowd_is_numbered(reports: dict[str, Report]) -> None:
    assert len(axes_of(chart_of(reports["crowd"], "response")).texts) >= 25


def test_a_label_that_stands_off_has_a_line_to_its_point(reports: dict[str, Report]) -> None:
    axes = axes_of(chart_of(reports["crowd"], "response"))
    distances = {label: math.hypot(*label.get_position()) for label in axes.texts}
    assert min(distances.values()) < 10
    assert max(distances.values()) > 20
    for label, distance in distances.items():
        if not 10 < distance < 20:
            assert (label.arrow_patch is not None) == (distance > 20)


def test_axes_are_numbered_as_people_write(reports: dict[str, Report]) -> None:
    batches, response = (chart_of(reports["main"], key) for key in ("batches", "response"))
    for library in (axes_of(batches).get_xticklabels(), graph(batches).layout.xaxis.ticktext):
        assert [getattr(each, "_text", each) for each in library] == ["32", "2,048"]
    rates = [text for _, text in response.x.ticks]
    assert rates[:6] == ["1e-3", "3e-3", "1e-2", "3e-2", "1e-1", "3e-1"]
    assert {text for _, text in response.y.ticks} >= {"42", "44", "60", "80", "100"}


class TestAxes:
    @pytest.mark.parametrize(
        ("low", "high", "log", "expected"),
        [
            (1.5e-3, 0.3, True, [2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1, 2e-1]),
            (7e-6, 0.9, True, [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]),
            (1.4e-2, 3.2e-2, True, [1.5e-2, 2e-2, 2.5e-2, 3e-2]),
            (41.6, 46.1, True, [42, 43, 44, 45, 46]),
            (0.0, 0.43, False, [0, 0.1, 0.2, 0.3, 0.4]),
            (0.7, 53.3, False, [10, 20, 30, 40, 50]),
        ],
    )
    def test_numbers_are_few_and_round(
        self, low: float, high: float, log: bool, expected: list[float]
    ) -> None:
        assert round_numbers(low, high, log, most=8) == pytest.approx(expected)

    @pytest.mark.parametrize("seen", [[43.0, 43.02], [43.0], [42, 60], [30, 300, 3000, 3e5]])
    def test_every_perplexity_is_on_its_axis(self, seen: list[float]) -> None:
        axis = value_axis("", seen, objective=Objective())
        places = [axis.place(each) for each in seen]
        assert places == sorted(places)
        assert 0 < min(places) <= max(places) < 1
        assert (axis.broken is not None) == (max(seen) > 1.5 * min(seen))
        assert len(axis.ticks) >= 2
        assert np.diff(sorted(place for place, _ in axis.ticks)).min() > 0.05

    def test_without_a_finite_one_it_is_about_what_else_is_known(self) -> None:
        axis = value_axis("", [math.inf], [135.7], objective=Objective())
        assert 0 < axis.place(135.7) < 1 < axis.place(math.inf) < axis.top

    def test_one_rate_is_an_axis(self) -> None:
        axis = rate_axis([3e-3])
        assert axis.place(3e-3) == pytest.approx(0.5)
        assert "3e-3" in [text for _, text in axis.ticks]

    @pytest.mark.parametrize(("steps", "last"), [(1, "1"), (3, "3"), (10, "10"), (50, "50")])
    def test_steps_are_whole(self, steps: int, last: str) -> None:
        axis = linear_axis("step", 0.7, 1.06 * steps + 0.3, whole=True)
        texts = [text for _, text in axis.ticks]
        assert texts[-1] == last
        assert all(text.isdigit() for text in texts)


def heat_of(*, maximize: bool = False) -> Chart:
    rates, decays = (1e-4, 1e-3, 1e-2), (0.01, 0.1, 1.0)
    rows = tuple(
        tuple(3.0 + abs(math.log10(rate * decay / 1e-4)) for rate in rates) for decay in decays
    )
    ends = (4.0, 3.0) if maximize else (3.0, 4.0)
    best = Points("recommended", (1e-3,), (0.1,), "#009E73", "star", ("7",))
    return Chart(
        "decay",
        "a map",
        "",
        exact_axis("learning rate", rates, str),
        exact_axis("weight decay", decays, str),
        (Heat("loss", rates, decays, rows, *ends), best),
    )


@pytest.mark.parametrize("maximize", [False, True])
def test_a_map_is_lightest_where_it_is_best(maximize: bool) -> None:
    figure = draw(heat_of(maximize=maximize))
    axes, scale = figure.axes
    (cells,) = [each for each in axes.collections if isinstance(each, QuadMesh)]
    low, high = cells.to_rgba(np.array([3.0, 4.0]))[:, :3].sum(1)
    assert (low > high) != maximize
    assert (cells.norm.vmin, cells.norm.vmax) == (3.0, 4.0)
    assert scale.get_ylabel() == "loss"
    # The scale stands beside the axes, and the trial on its cell.
    assert scale.get_position().x0 > axes.get_position().x1
    (marks,) = [each for each in axes.collections if isinstance(each, PathCollection)]
    np.testing.assert_allclose(marks.get_offsets(), [[0.5, 0.5]], atol=1e-9)


def test_the_dashboards_map_is_the_same_and_small() -> None:
    figure = graph(heat_of())
    heat, marks = figure.data
    assert heat.z[1][1] == 3.0
    assert (heat.zmin, heat.zmax) == (3.0, 4.0)
    assert heat.colorscale[0][1] == HEAT_COLOURS[0]
    assert list(marks.x) == [0.5]
    assert len(figure.to_json()) < 4000
