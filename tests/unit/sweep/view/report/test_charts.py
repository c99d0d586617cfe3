"""The report's pictures: what they show, and the files and figures made of them."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.image import imread
from support import open_ledger, play
from support import report as epoch_report

from sweep.errors import SweepError
from sweep.orchestration.ledger import Ledger
from sweep.results.report import Report, build
from sweep.view.report.charts import charts
from sweep.view.report.charts_matplotlib import save_png, svg
from sweep.view.report.charts_plotly import graph
from sweep.view.report.layers import Chart, Line, Points
from sweep.view.report.to_html import html
from trainers.config import TrainConfig
from trainers.report import Outcome

BEST = 1.5e-2


def basin(rate: float) -> float:
    return 60 * math.exp(0.05 * math.log(rate / BEST) ** 2)


def at(ledger: Ledger, *rates: float) -> None:
    """Trials at these rates; above 0.5 training is lost."""
    for rate in rates:
        ledger.study.enqueue_trial({"learning_rate": rate})
    play(ledger, basin, trials=len(rates), diverges=lambda rate: rate > 0.5)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Trials 0 to 6: five complete, one diverged, one pruned."""
    folder = tmp_path_factory.mktemp("studies")
    train = TrainConfig(learning_rate=1.0, epochs=8, batch_size=64)
    with open_ledger(folder, train=train, trials=9) as ledger:
        at(ledger, 0.1, 4e-3, 1e-2, 1.7e-2, 2.5e-2, 2.0, 1e-4)
        return build(ledger.study, "sweep.db", [ledger.study])


@pytest.fixture
def by_key(report: Report) -> dict[str, Chart]:
    return {chart.key: chart for chart in charts(report)}


def marks(chart: Chart, name: str) -> Points:
    (found,) = [each for each in chart.layers if isinstance(each, Points) and each.name == name]
    return found


class TestWhatTheyShow:
    def test_every_trial_is_a_numbered_point(self, by_key: dict[str, Chart]) -> None:
        groups = [each for each in by_key["response"].layers if isinstance(each, Points)]
        numbers = sorted(int(label) for group in groups for label in group.labels)
        assert numbers == list(range(7))

    def test_diverged_and_pruned_trials_are_marked(self, by_key: dict[str, Chart]) -> None:
        chart = by_key["response"]
        diverged, pruned = marks(chart, "diverged"), marks(chart, "pruned")
        assert (diverged.labels, diverged.x) == (("5",), (2.0,))
        assert diverged.y == (math.inf,)
        assert chart.y.ticks[0] == (chart.y.place(math.inf), "diverged")
        assert pruned.labels == ("6",)
        assert diverged.symbol != pruned.symbol != marks(chart, "complete").symbol

    def test_the_recommended_trial_stands_out(self, by_key: dict[str, Chart]) -> None:
        best = marks(by_key["response"], "recommended")
        assert best.x == (1.7e-2,)
        assert best.y == (pytest.approx(basin(1.7e-2)),)

    def test_the_fitted_curve_goes_through_the_trials(self, by_key: dict[str, Chart]) -> None:
        (curve,) = [each for each in by_key["response"].layers if each.name == "fitted curve"]
        assert isinstance(curve, Line)
        for rate in (4e-3, 1e-2, 1.7e-2, 2.5e-2, 0.1):
            near = min(range(len(curve.x)), key=lambda i: abs(math.log(curve.x[i] / rate)))
            assert curve.y[near] == pytest.approx(basin(curve.x[near]), rel=0.05)

    def test_the_rules_and_the_interval_are_drawn(
        self, report: Report, by_key: dict[str, Chart]
    ) -> None:
        layers = by_key["response"].layers
        dotted = [each for each in layers if isinstance(each, Line) and each.style == "dotted"]
        assert {each.x for each in dotted} == {(1e-2, 1e-2), (1e-3, 1e-3), (1e-1, 1e-1)}
        (span,) = [each for each in layers if each.name == "90 % interval of the best rate"]
        assert report.optimum is not None
        assert span.x == (report.optimum.low, report.optimum.high)

    def test_a_diverged_trials_curve_ends_in_a_cross(self, by_key: dict[str, Chart]) -> None:
        chart = by_key["steps"]
        cross = marks(chart, "diverged")
        assert (cross.x, cross.y, cross.labels) == ((2.0,), (math.inf,), ("5",))
        lines = [each for each in chart.layers if isinstance(each, Line) and ":" in each.name]
        assert len(lines) == 7
        assert [line.name.split(":")[0] for line in lines if line.y[-1] == math.inf] == ["5"]
        assert [line.name.split(":")[0] for line in lines if line.style == "dashed"] == ["6"]

    def test_rules_are_lines_through_the_reference_and_their_rate(
        self, by_key: dict[str, Chart]
    ) -> None:
        lines = {each.name: each for each in by_key["batches"].layers if isinstance(each, Line)}
        sqrt = lines["sqrt"]
        power = math.log(sqrt.y[1] / sqrt.y[0]) / math.log(sqrt.x[1] / sqrt.x[0])
        through = sqrt.y[0] * (64 / sqrt.x[0]) ** power
        assert through == pytest.approx(1e-2, rel=0.01)

    def test_belief_moves_to_the_true_optimum(self, report: Report) -> None:
        def peak(density: tuple[tuple[float, ...], tuple[float, ...]]) -> float:
            return math.exp(density[0][max(range(len(density[1])), key=density[1].__getitem__)])

        assert peak(report.density) == pytest.approx(BEST, rel=0.3)


def test_a_trial_of_any_state_is_a_point(report: Report) -> None:
    first, *others = report.study.trials
    study = replace(report.study, trials=(replace(first, state="paused"), *others))
    chart = charts(replace(report, study=study))[0]
    assert marks(chart, "paused").labels == (str(first.number),)


def test_pictures_are_files_with_something_in_them(report: Report, tmp_path: Path) -> None:
    files = save_png(charts(report), tmp_path / "new" / "folder")
    assert [file.stem for file in files] == ["response", "belief", "steps", "batches"]
    for file in files:
        picture = imread(file)
        assert picture.shape[0] >= 600
        assert picture.shape[1] >= 1000
        assert len({tuple(pixel) for pixel in picture[::7, ::7].reshape(-1, 4).tolist()}) > 20


def test_a_folder_that_cannot_be_written_is_one_line(report: Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SweepError, match="cannot be written to"):
        save_png(charts(report), tmp_path / "file" / "pictures")


def test_the_same_chart_is_the_same_svg(report: Report) -> None:
    chart = charts(report)[0]
    assert svg(chart) == svg(chart)


class Page(HTMLParser):
    """What a page holds, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            inside = (value or "").startswith("#")
            if name in ("src", "href", "xlink:href", "data") and not inside:
                self.fetched.append(str(value))


def test_the_page_holds_all_and_fetches_nothing(report: Report) -> None:
    text = html(report)
    page = Page(text)
    assert page.fetched == []
    assert "script" not in page.tags
    assert "@import" not in text
    assert page.tags.count("svg") == 4
    for words in ("The best learning rate for batch 64", "sqrt", "pruned", "2.00e0", "diverged"):
        assert words in text


def test_the_page_shows_foreign_text_as_text(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        spec = ledger.ask()
        assert spec is not None
        ledger.report({spec.number: epoch_report(1, 80.0)})
        ledger.tell(spec.number, Outcome.FAILED, "failed: <script>alert(1)</script>")
        page = html(build(ledger.study, "sweep.db"))
    assert "script" not in Page(page).tags
    assert "&lt;script&gt;" in page


def test_plotly_figures_are_small_and_complete(report: Report) -> None:
    for chart in charts(report):
        text = graph(chart).to_json()
        assert len(text) < 20_000
        figure = json.loads(text)
        assert len(figure["data"]) == len(chart.layers)
        named = [trace["name"] for trace in figure["data"] if trace["showlegend"]]
        assert sorted(set(named)) == sorted(named)
        assert "NaN" not in text
        assert "Infinity" not in text


def one_runs(ledger: Ledger) -> None:
    assert ledger.ask() is not None


def one_complete(ledger: Ledger) -> None:
    at(ledger, 1e-2)


def all_diverge(ledger: Ledger) -> None:
    at(ledger, 1.0, 2.0)


@pytest.mark.parametrize(
    ("happens", "keys"),
    [
        (one_runs, ["belief"]),
        (one_complete, ["response", "belief", "steps"]),
        (all_diverge, ["response", "belief", "steps"]),
    ],
)
def test_studies_with_little_in_them_have_pictures_too(
    tmp_path: Path, happens: Callable[[Ledger], None], keys: list[str]
) -> None:
    with open_ledger(tmp_path) as ledger:
        happens(ledger)
        found = charts(build(ledger.study, "sweep.db"))
    assert [chart.key for chart in found] == keys
    for chart in found:
        assert svg(chart).startswith("<svg")
        graph(chart)
