"""One picture of the live screen, made to fit the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from studies.objective import BITS_PER_BYTE, PERPLEXITY, VALIDATION_LOSS, Objective
from sweep.formatting import format_decay, format_duration, format_rate, format_speed
from sweep.results.types import RatePosterior, StudySummary
from sweep.view.live.plot import live_plot
from sweep.view.live.running import RunningTrial
from sweep.view.sentences import place_of, trials_done
from sweep.view.tables import cut, trials_table

TABLE_LEAST, GAP = 76, 2  # columns that the table keeps; between it and the plot
PLOT_LEAST, PLOT_MOST = 36, 64  # columns of the plot
LINES_LEAST, LINES_MOST = 10, 18  # and its lines
HINT = "Ctrl-C pauses: everything so far is kept"


class Trials:
    """The table, and the plot beside it where there is room for both; drawn when it has changed.

    Most frames only move a bar, and a study may have thousands of trials.
    """

    def __init__(self) -> None:
        self._of: tuple[StudySummary, RatePosterior | None, int, int] | None = None
        self._drawn: RenderableType = ""

    def draw(
        self, summary: StudySummary, known: RatePosterior | None, limit: int, width: int
    ) -> RenderableType:
        """What was drawn before, where all is as it was."""
        of = summary, known, limit, width
        if self._of is None or any(a is not b for a, b in zip(of, self._of, strict=True)):
            self._drawn, self._of = _drawn(*of), of
        return self._drawn


SHORT = {PERPLEXITY: "ppl", VALIDATION_LOSS: "loss", BITS_PER_BYTE: "bits/byte"}


def frame(
    summary: StudySummary,
    running: Sequence[RunningTrial],
    now: float,
    height: int,
    width: int = 80,
    known: RatePosterior | None = None,
    trials: Trials | None = None,
) -> RenderableType:
    """The header, a line for each running trial, and as much of the trials' table as fits.

    Args:
        now: on the clock that `running` was timed with (s).
        height: the terminal's lines; the picture takes fewer, so that nothing scrolls.
        width: its columns; a plot stands beside the table where it leaves that enough.
        known: where the best rate lies.
        trials: of the frame before.
    """
    # Around the bars and rows: header, 2 blank lines, 2 of table heading, hint, 1 left free.
    room = max(2, height - 7)
    shown = running[: max(1, min(len(running), room // 2))]
    hidden = len(running) - len(shown)
    bars = [_bars(shown, now)] if shown else []
    more = [cut(f"... and {hidden} more running", "dim")] if hidden else []
    limit = max(1, room - len(shown) - len(more))
    # Ctrl-C writes "^C" at the cursor: behind a short last line it cannot wrap and shift the rest.
    return Group(
        _header(summary),
        *bars,
        *more,
        Text(),
        (trials or Trials()).draw(summary, known, limit, width),
        Text(),
        cut(HINT, "dim"),
    )


def _drawn(
    summary: StudySummary, known: RatePosterior | None, limit: int, width: int
) -> RenderableType:
    table = trials_table(summary, limit=limit)
    columns, lines = min(PLOT_MOST, width - TABLE_LEAST - GAP), min(limit + 2, LINES_MOST)
    if columns < PLOT_LEAST or lines < LINES_LEAST:
        return table
    grid = Table.grid(expand=True, padding=(0, GAP, 0, 0))
    grid.add_column(ratio=1)
    grid.add_column(width=columns)
    grid.add_row(table, live_plot(summary.trials, summary.best, known, columns, lines))
    return grid


def _header(summary: StudySummary) -> Table:
    done = f"{trials_done(summary)}/{summary.total} trials done"
    best = summary.best
    reached = Text("no trial complete yet", style="dim")
    if best is not None:
        place = place_of(best)
        reached = Text(f"best {best.shown} at {place} (trial {best.number})", style="green")
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column()
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_row(cut(summary.name, "bold"), reached, Text(done))
    return grid


def _bars(running: Sequence[RunningTrial], now: float) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1, min_width=4)
    grid.add_column()
    for _ in range(3):
        grid.add_column(justify="right", no_wrap=True)
    for trial in running:
        grid.add_row(*_bar_cells(trial, now))
    return grid


def _searched(trial: RunningTrial) -> str:
    decay = trial.weight_decay
    rate = format_rate(trial.learning_rate)
    return rate if decay is None else f"{rate} {format_decay(decay)}"


def _short(objective: Objective) -> str:
    return SHORT.get(objective.name, objective.name)


def _bar_cells(trial: RunningTrial, now: float) -> list[RenderableType]:
    return [
        Text(str(trial.number), style="bold"),
        Text(_searched(trial), style="cyan"),
        ProgressBar(total=1.0, completed=trial.share),
        cut(trial.place),
        Text(f"{_short(trial.objective)} {trial.objective.format(trial.value)}"),
        Text(format_speed(trial.tokens_per_second), style="dim"),
        Text(f"{format_duration(trial.seconds_left(now))} left"),
    ]
