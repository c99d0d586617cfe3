"""The live screen: a bar for each running trial above a table of all, gone when it ends."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from sweep.formatting import one_line
from sweep.results.types import RatePosterior, StudySummary, TrialRow
from sweep.view.live.frame import Trials, frame
from sweep.view.live.running import RunningTrial
from sweep.view.sentences import kept, why
from sweep.view.tables import PRINTED, print_header, print_summary, trials_table
from trainers.report import Progress, Report


def on_terminal(stream: TextIO) -> "RichView":
    """The live screen of a terminal."""
    # Said once: of a terminal that goes Rich would write nothing more, and nobody would know why.
    return RichView(Console(file=stream, force_terminal=stream.isatty() or None))


class RichView:
    """A `View` for a terminal.

    Rich redraws from a thread of its own. The study and the running trials are therefore never
    changed but replaced, each in one assignment, and need no lock.

    Args:
        console: writes to the terminal.
        clock: seconds; for tests.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._summary: StudySummary | None = None
        self._known: RatePosterior | None = None
        self._running: dict[int, RunningTrial] = {}
        self._trials = Trials()
        self._live = Live(
            console=console, get_renderable=self._frame, refresh_per_second=4, transient=True
        )

    def note(self, text: str) -> None:
        """Prints above the live screen."""
        self._console.print(Text(one_line(text), style="dim"))

    def warn(self, text: str) -> None:
        """Prints above the live screen."""
        self._console.print(Text(f"Warning: {one_line(text)}", style="yellow"))

    def started(self, summary: StudySummary) -> None:
        """Prints the header, which stays, and starts the live screen below it."""
        print_header(summary, self._console)
        self._summary = summary
        self._live.start(refresh=True)

    def trial_started(self, row: TrialRow) -> None:
        """Gives the trial a bar."""
        self._show(row)
        self._run(RunningTrial.of(row))

    def progressed(self, number: int, progress: Progress) -> None:
        """Moves the trial's bar."""
        if number in self._running:
            self._run(self._running[number].progressed(progress, self._clock()))

    def reported(self, number: int, report: Report, row: TrialRow) -> None:
        """Moves the trial's bar and its row."""
        self._show(row)
        if number in self._running:
            self._run(self._running[number].reported(report, self._clock()))

    def trial_ended(self, row: TrialRow) -> None:
        """Takes the bar away. A failure's reason, cut off in the table, is printed whole."""
        self._show(row)
        self._running = {n: trial for n, trial in self._running.items() if n != row.number}
        if row.state == "failed":
            self.warn(f"trial {row.number} failed: {why(row)}")

    def posterior_updated(self, known: RatePosterior | None) -> None:
        """Moves the plot's curve."""
        self._known = known

    def finished(self, summary: StudySummary, commands: Sequence[str]) -> None:
        """Replaces the live screen by the end report."""
        self._stop()
        print_summary(summary, self._console)
        if commands:
            self._console.print(Text("\nNext:", style="bold"))
        for command in commands:
            self._command(command)

    def paused(self, summary: StudySummary, command: str) -> None:
        """Replaces the live screen by the trials so far and the way on."""
        self._stop()
        if summary.trials:
            self._console.print(trials_table(summary, limit=PRINTED))
        self._console.print(Text("\nPaused: ", style="bold yellow") + Text(kept(summary)))
        self._console.print("Go on with:")
        self._command(command)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        cut_short = self._live.is_started and error is not None
        self._stop()
        if cut_short and self._summary is not None and self._summary.trials:
            self._console.print(trials_table(self._summary, limit=PRINTED))

    def _frame(self) -> RenderableType:
        if self._summary is None:
            return ""
        running = list(self._running.values())
        width, height = self._console.size
        return frame(
            self._summary, running, self._clock(), height, width, self._known, self._trials
        )

    def _show(self, row: TrialRow) -> None:
        if self._summary is not None:
            self._summary = _with_trial(self._summary, row)

    def _run(self, trial: RunningTrial) -> None:
        self._running = {**self._running, trial.number: trial}

    def _stop(self) -> None:
        self._running = {}
        self._live.stop()

    def _command(self, command: str) -> None:
        # The terminal wraps it, not rich: a line break of rich's would be copied with the command.
        self._console.print(Text(f"  {command}", style="cyan"), soft_wrap=True)


def _with_trial(summary: StudySummary, row: TrialRow) -> StudySummary:
    """The study with a new or changed trial, and with the best as it is then."""
    trials = {known.number: known for known in summary.trials} | {row.number: row}
    rows = tuple(trials[number] for number in sorted(trials))
    complete = [each for each in rows if each.state == "complete" and math.isfinite(each.stored)]
    return replace(
        summary, trials=rows, best=min(complete, key=lambda each: each.stored, default=None)
    )
