"""A `View` that also writes TensorBoard event files, by torch's own writer (extra `tensorboard`).

One folder a trial, DIRECTORY/STUDY/0003-lr-3.19e-2: its curves by step, and at its end its rate
and best value for TensorBoard's table of hyperparameters. A resumed sweep adds a second file
to the folder; reports that are stored already are not written again.
"""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from sweep.errors import SweepError
from sweep.formatting import format_rate
from sweep.orchestration.listener import Forwarding, View
from sweep.orchestration.log import say
from sweep.results.types import StudySummary, TrialRow, counted
from trainers.report import Progress, Report

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def with_tensorboard(view: View, directory: str) -> View:
    """A view that writes event files too.

    Args:
        view: what all else is passed on to; it is entered and left with this one.
        directory: where the event files go.

    Raises:
        SweepError: TensorBoard is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401  # it fails where TensorBoard is missing
    except ImportError:
        raise SweepError(
            "study.tensorboard: TensorBoard is not installed: pip install 'lr-sweep[tensorboard]'"
        ) from None
    return TensorBoardView(view, Path(directory))


class TensorBoardView(Forwarding):
    """Passes everything on to another view, and writes what TensorBoard can show.

    Args:
        view: entered and left with this one.
        directory: of all studies' folders.
    """

    def __init__(self, view: View, directory: Path) -> None:
        super().__init__(view)
        self._directory = self._folder = directory
        self._writers: dict[int, SummaryWriter] = {}

    def started(self, summary: StudySummary) -> None:
        """Makes the study's folder.

        Raises:
            SweepError: it cannot be made.
        """
        self._folder = self._directory / summary.name
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SweepError(
                f"study.tensorboard: {self._folder} cannot be made a folder: {error.strerror}"
            ) from error
        super().started(summary)

    def trial_started(self, row: TrialRow) -> None:
        """Opens the trial's event file."""
        from torch.utils.tensorboard import SummaryWriter

        self._close(row.number)  # of a worker that was lost
        name = f"{row.number:04d}-lr-{format_rate(row.learning_rate)}"
        with self._as_long_as_it_can(row.number):
            self._writers[row.number] = SummaryWriter(str(self._folder / name))
        super().trial_started(row)

    def reported(self, number: int, report: Report, row: TrialRow) -> None:
        """Writes a report."""
        if writer := self._writers.get(number):
            with self._as_long_as_it_can(number):
                for tag, value in _scalars(report).items():
                    writer.add_scalar(tag, value, counted(report, row.unit))
                writer.flush()
        super().reported(number, report, row)

    def progressed(self, number: int, progress: Progress) -> None:
        """Writes what the last step said of itself."""
        said = {
            "loss/step": progress.train_loss,
            "optimizer/gradient_norm": progress.gradient_norm,
        }
        if writer := self._writers.get(number):
            with self._as_long_as_it_can(number):
                for tag, value in said.items():
                    if not math.isnan(value):
                        writer.add_scalar(tag, value, progress.step)
        super().progressed(number, progress)

    def trial_ended(self, row: TrialRow) -> None:
        """Writes what the trial came to, unless it goes on later."""
        writer = self._writers.get(row.number)
        if writer and row.state not in ("running", "paused"):
            best = math.inf if row.value is None else row.value
            tried = {"learning_rate": row.learning_rate, "rule": row.rule, "state": row.state}
            if row.weight_decay is not None:
                tried["weight_decay"] = row.weight_decay
            with self._as_long_as_it_can(row.number):
                writer.add_hparams(tried, {f"best_{row.objective.name}": best}, run_name=".")
        self._close(row.number)
        super().trial_ended(row)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in list(self._writers):
            self._close(number)
        super().__exit__(kind, error, trace)

    def _close(self, number: int) -> None:
        if writer := self._writers.pop(number, None):
            with self._as_long_as_it_can(number):
                writer.close()

    @contextlib.contextmanager
    def _as_long_as_it_can(self, number: int) -> Iterator[None]:
        """Leaves a trial's file where it cannot be written: the trial needs none."""
        try:
            yield
        except OSError as error:
            self._writers.pop(number, None)
            reason = error.strerror or error
            say(f"trial {number} is shown in TensorBoard no more ({reason}), and the work goes on")


def _scalars(report: Report) -> dict[str, float]:
    every = {
        "perplexity/validation": report.perplexity,
        "loss/training": report.train_loss,
        "loss/validation": report.validation_loss,
        "accuracy/validation": report.accuracy,
        "optimizer/learning_rate": report.learning_rate,
        "optimizer/skipped_steps": report.skipped_steps,
        "speed/tokens_per_second": report.tokens_per_second,
        **{f"metrics/{name}": value for name, value in report.metrics.items()},
    }
    # NaN is what a trainer has not measured; infinity is a result.
    return {tag: value for tag, value in every.items() if not math.isnan(value)}
