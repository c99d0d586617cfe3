"""What is known of a trial while it runs."""

from dataclasses import dataclass, replace
from typing import Self

from sweep.results.types import TrialRow
from trainers.report import EpochReport, Progress


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """A trial that runs. Never changed, only replaced: the screen's thread reads it too.

    Attributes:
        share: of the whole trial that is trained, 0 to 1.
        first: the time (s) and share of the first sign of life, None before it. The time left is
            measured from there, so that loading the data does not count as training.
        last: the time (s) of the last sign of life.
        perplexity: of the last epoch.
        place: "epoch 3/10 step 4/6".
    """

    number: int
    learning_rate: float
    epochs: int
    share: float
    place: str = "starting"
    first: tuple[float, float] | None = None
    last: float = 0.0
    perplexity: float | None = None
    tokens_per_second: float = 0.0

    @classmethod
    def of(cls, row: TrialRow, epochs: int, epochs_done: int) -> Self:
        """A trial that begins, or goes on after `epochs_done` epochs."""
        return cls(
            row.number,
            row.learning_rate,
            epochs,
            epochs_done / epochs,
            f"going on after epoch {epochs_done}/{epochs}" if epochs_done else "starting",
            perplexity=row.perplexity,
        )

    def progressed(self, progress: Progress, now: float) -> Self:
        """The trial after a sign of life at `now` seconds."""
        inside = progress.step / max(1, progress.steps)
        share = min(1.0, (progress.epoch - 1 + inside) / self.epochs)
        return replace(
            self,
            share=share,
            place=f"epoch {progress.epoch}/{self.epochs} step {progress.step}/{progress.steps}",
            first=self.first or (now, share),
            last=now,
            tokens_per_second=progress.tokens_per_second,
        )

    def reported(self, report: EpochReport, now: float) -> Self:
        """The trial after an epoch; one that a resumed trial repeats takes nothing back."""
        return replace(
            self,
            share=max(self.share, report.epoch / self.epochs),
            last=now,
            perplexity=report.perplexity,
            tokens_per_second=report.tokens_per_second,
        )

    def seconds_left(self, now: float) -> float | None:
        """Until the last epoch's end at the pace so far; None before that can be told."""
        if self.first is None or self.share <= self.first[1]:
            return None
        began, first_share = self.first
        pace = (self.last - began) / (self.share - first_share)
        return max(0.0, pace * (1 - self.share) - (now - self.last))
