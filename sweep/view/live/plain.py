"""One line an event, for log files and pipes: no colours, no control characters."""

import math
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console

from sweep.formatting import format_decay, format_multiple, format_rate, one_line
from sweep.results.objective import reported
from sweep.results.types import RatePosterior, StudySummary, TrialRow, counted
from sweep.view.live.running import RunningTrial, of_steps
from sweep.view.sentences import kept, why
from sweep.view.tables import print_header, print_summary
from trainers.report import Progress, Report

PROGRESS_EVERY_S = 10.0


class PlainView:
    """A `View` that only ever appends lines.

    Args:
        stream: where to write; flushed after each line, so that `tail -f` follows.
        clock: seconds; for tests.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._running: dict[int, RunningTrial] = {}
        self._spoke: dict[int, float] = {}
        self._console = Console(
            file=stream,
            width=100,
            no_color=True,
            color_system=None,
            force_terminal=False,
            highlight=False,
            markup=False,
            emoji=False,
        )

    def note(self, text: str) -> None:
        """Writes the text as one line."""
        self._line(one_line(text))

    def warn(self, text: str) -> None:
        """Writes the text as one line."""
        self._line(f"Warning: {one_line(text)}")

    def started(self, summary: StudySummary) -> None:
        """Writes the header."""
        print_header(summary, self._console)
        self._stream.flush()

    def trial_started(self, row: TrialRow) -> None:
        """Writes the trial's rate, its rule and where it begins."""
        trial = RunningTrial.of(row)
        self._running[row.number] = trial
        rule = f"{format_multiple(row.multiple)} of {one_line(row.rule)}'s rate" if row.rule else ""
        length = f"{row.steps:,} {row.unit}s" if row.steps and not row.step else ""
        self._trial_line(trial, rule, trial.place, length)

    def progressed(self, number: int, progress: Progress) -> None:
        """Writes how far the trial is, where it has been silent for ten seconds."""
        if number not in self._running:
            return
        trial = self._running[number].progressed(progress, self._clock())
        self._running[number] = trial
        if self._clock() - self._spoke[number] >= PROGRESS_EVERY_S:
            self._trial_line(trial, trial.place, _speed(progress.tokens_per_second))

    def reported(self, number: int, report: Report, row: TrialRow) -> None:
        """Writes the value at the step."""
        value = row.objective.described(reported(row.objective, report))
        speed = _speed(report.tokens_per_second)
        place = of_steps(counted(report, row.unit), row.steps, row.unit)
        self._trial_line(row, place, value, speed)

    def trial_ended(self, row: TrialRow) -> None:
        """Writes how the trial ended and the best it reached."""
        self._running.pop(row.number, None)
        sound = row.value is not None and math.isfinite(row.value)
        best = f"best {row.objective.described(row.value)}" if sound else ""
        state = "paused" if row.state == "running" else row.state
        self._trial_line(row, state, why(row), best)

    def posterior_updated(self, known: RatePosterior | None) -> None:
        """Writes nothing: `sweep report` says it."""

    def finished(self, summary: StudySummary, commands: Sequence[str]) -> None:
        """Writes the end report."""
        self._line("")
        print_summary(summary, self._console)
        if commands:
            self._line("\nNext:")
        for command in commands:
            self._line(f"  {command}")
        self._stream.flush()

    def paused(self, summary: StudySummary, command: str) -> None:
        """Writes what is kept and the way on."""
        self._line(f"Paused: {kept(summary)}")
        self._line(f"Go on with:\n  {command}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.flush()

    def _trial_line(self, trial: TrialRow | RunningTrial, *parts: str) -> None:
        self._spoke[trial.number] = self._clock()
        decay = trial.weight_decay
        head = f"trial {trial.number}  lr {format_rate(trial.learning_rate)}"
        more = [] if decay is None else [f"decay {format_decay(decay)}"]
        self._line("  ".join([head, *more, *(part for part in parts if part)]))

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


def _speed(tokens_per_second: float) -> str:
    return f"{tokens_per_second:,.0f} tokens/s" if tokens_per_second > 0 else ""
