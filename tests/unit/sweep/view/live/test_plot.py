"""The plot beside the live table: points where they belong, and never more than fits."""

import dataclasses
import io
import math

import pytest
from rich.console import Console

from sweep.results.types import RatePosterior, StudySummary, TrialRow
from sweep.view.live.frame import frame
from sweep.view.live.plot import LABELS, live_plot
from sweep.view.live.screen import RichView


def trial(number: int, rate: float, perplexity: float | None, state: str = "complete") -> TrialRow:
    return TrialRow(number, state, rate, "sqrt", 1.0, perplexity, 10, "")


ROWS = [
    trial(0, 1e-3, 90.0),
    trial(1, 1e-2, 60.0),
    trial(2, 1e-1, 80.0, "pruned"),
    trial(3, 0.3, math.inf, "pruned"),
    trial(4, 3e-3, None, "running"),
]
RATES = tuple(math.exp(-8 + 0.1 * i) for i in range(80))
KNOWN = RatePosterior(
    RATES, tuple(math.exp(-0.5 * (math.log(r / 1e-2) / 0.3) ** 2) for r in RATES), 1e-2, 6e-3, 2e-2
)


def lines(
    rows: list[TrialRow], known: RatePosterior | None, width: int = 60, height: int = 14
) -> list[str]:
    best = min(
        (row for row in rows if row.state == "complete"),
        key=lambda row: row.value or 0.0,
        default=None,
    )
    return live_plot(rows, best, known, width, height).plain.split("\n")


def place(shown: list[str], sign: str) -> tuple[int, int]:
    ((line, column),) = [
        (i, line.index(sign, LABELS)) for i, line in enumerate(shown) if sign in line[LABELS:]
    ]
    return line, column


def test_points_stand_by_rate_and_perplexity() -> None:
    shown = lines(ROWS, KNOWN)
    best, complete, pruned, diverged = (place(shown, sign) for sign in "★●▾x")
    assert best[0] == max(best[0], complete[0], pruned[0], diverged[0])  # lowest perplexity
    assert diverged[0] == 0
    assert complete[0] < pruned[0] < best[0]
    assert complete[1] < best[1] < pruned[1] < diverged[1]
    # 1e-3 to 1e-2 is as far as 1e-2 to 1e-1.
    assert abs((best[1] - complete[1]) - (pruned[1] - best[1])) <= 1


def test_the_axis_names_the_lowest_perplexity() -> None:
    shown = lines(ROWS, KNOWN)
    assert shown[place(shown, "★")[0]].startswith("   60.00│")


def test_runs_far_above_the_best_stand_apart_and_the_axis_says_where() -> None:
    perplexities = [41.93, 42.79, 43.85, 91.15, 130.3, math.inf]
    states = ["complete"] * 5 + ["pruned"]
    pairs = zip(perplexities, states, strict=True)
    rows = [trial(i, 1e-3 * 2**i, value, state) for i, (value, state) in enumerate(pairs)]
    shown = lines(rows, None)
    column = {
        line.index(sign, LABELS): i
        for i, line in enumerate(shown)
        for sign in "★●x"
        if sign in line[LABELS:]
    }
    places = [column[each] for each in sorted(column)]
    assert places == sorted(places, reverse=True)
    assert len(set(places)) == 6
    assert shown[0].startswith("diverged┊")
    assert shown[places[4]].startswith("   130.3┊")
    assert shown[places[0]].startswith("   41.93│")
    # Up to a tenth above the best the scale is even; beyond, another kind of line says that.
    (even,) = [i for i, line in enumerate(shown) if line.startswith("   46.12│")]
    assert places[2] >= even > places[3]
    assert all(line[LABELS] == "┊" for line in shown[:even])


def test_the_belief_peaks_under_the_best_rate() -> None:
    shown = lines(ROWS, KNOWN)
    row = next(line for line in shown if "█" in line)
    assert abs(row.index("█") - place(shown, "★")[1]) <= 1
    assert "90 %: 6.0e-3 to 2.0e-2" in shown[-1]


def test_it_fits_the_room_it_is_given() -> None:
    for width, height in ((36, 10), (64, 18)):
        shown = lines(ROWS, KNOWN, width, height)
        assert len(shown) == height
        assert max(map(len, shown)) <= width


@pytest.mark.parametrize("rows", [[], [trial(0, 1e-2, None, "running")], [ROWS[3]]])
def test_without_a_perplexity_there_is_none(rows: list[TrialRow]) -> None:
    assert lines(rows, None) == [""]


def test_one_trial_is_a_plot_already() -> None:
    assert any("★" in line for line in lines([ROWS[1]], None))


def summary(rows: list[TrialRow]) -> StudySummary:
    known = {"reference_text": "", "reference_perplexity": None, "unigram_perplexity": 135.0}
    return StudySummary(
        name="study",
        storage="sqlite:///sweep.db",
        batch_size=64,
        precision="fp32",
        model="context_vector",
        parameters=100,
        data="docstrings",
        epochs=10,
        device="cpu",
        working_range=(1e-4, 1.0),
        edge="",
        trials=tuple(rows),
        rules=(),
        best=rows[1],
        total=12,
        **known,
    )


@pytest.mark.parametrize(
    ("width", "height", "has_plot"),
    [(80, 24, False), (120, 40, True), (160, 50, True), (160, 12, False)],
)
def test_it_stands_beside_the_table_where_there_is_room(
    width: int, height: int, has_plot: bool
) -> None:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True)
    many = ROWS + [trial(n, 1e-2 * 1.1**n, 70.0 + n) for n in range(5, 40)]
    shown = console.render_lines(frame(summary(many), [], 0.0, height, width, KNOWN))
    text = ["".join(segment.text for segment in line) for line in shown]
    assert any("★" in line for line in text) == has_plot
    assert len(text) < height
    assert max(map(len, text)) <= width
    assert any("running" in line or "complete" in line for line in text)


def test_the_live_screen_takes_what_was_learned() -> None:
    console = Console(width=120, height=40, file=io.StringIO(), force_terminal=True, _environ={})
    with RichView(console) as view:
        view.started(summary(ROWS))
        view.posterior_updated(KNOWN)
        view._live.refresh()
    assert isinstance(console.file, io.StringIO)
    assert "90 %: 6.0e-3 to 2.0e-2" in console.file.getvalue()


def test_where_the_decay_is_searched_too_its_interval_stands_below() -> None:
    known = dataclasses.replace(KNOWN, weight_decay=(0.2, 0.05, 0.8))
    shown = lines(ROWS, known)
    assert len(shown) == len(lines(ROWS, KNOWN))
    assert "weight decay 0.05 to 0.8" in shown[-1]
