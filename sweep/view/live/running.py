"""What is known of a trial while it runs."""

from dataclasses import dataclass, field, replace
from typing import Self

from studies.objective import Objective
from sweep.results.objective import reported
from sweep.results.types import TrialRow
from trainers.report import Progress, Report


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """A trial that runs. Never changed, only replaced: the screen's thread reads it too.

    Attributes:
        share: of the whole trial that is trained, 0 to 1.
        first: the time (s) and share of the first sign of life, None before it. The time left is
            measured from there, so that loading the data does not count as training.
        last: the time (s) of the last sign of life.
        value: of the last report.
        objective: what that is.
        place: "step 52/200".
        weight_decay: where that is searched too; None where it is not.
    """

    number: int
    learning_rate: float
    steps: int
    share: float
    place: str = "starting"
    first: tuple[float, float] | None = None
    last: float = 0.0
    value: float | None = None
    tokens_per_second: float = 0.0
    objective: Objective = field(default_factory=Objective)
    weight_decay: float | None = None

    @classmethod
    def of(cls, row: TrialRow) -> Self:
        """A trial that begins, or goes on after its last step."""
        return cls(
            row.number,
            row.learning_rate,
            row.steps,
            _share(row.step, row.steps),
            f"going on after {of_steps(row.step, row.steps, row.unit)}" if row.step else "starting",
            value=row.value,
            objective=row.objective,
            weight_decay=row.weight_decay,
        )

    def progressed(self, progress: Progress, now: float) -> Self:
        """The trial after a sign of life at `now` seconds."""
        steps = progress.steps or self.steps
        share = _share(progress.step, steps)
        return replace(
            self,
            share=share,
            place=of_steps(progress.step, steps) if progress.step else self.place,
            first=self.first or (now, share),
            last=now,
            tokens_per_second=progress.tokens_per_second,
        )

    def reported(self, report: Report, now: float) -> Self:
        """The trial after a report; one that a resumed trial repeats takes nothing back."""
        return replace(
            self,
            share=max(self.share, _share(report.step, report.steps or self.steps)),
            last=now,
            value=reported(self.objective, report),
            tokens_per_second=report.tokens_per_second,
        )

    def seconds_left(self, now: float) -> float | None:
        """Until the last step at the pace so far; None before that can be told."""
        if self.first is None or self.share <= self.first[1]:
            return None
        began, first_share = self.first
        pace = (self.last - began) / (self.share - first_share)
        return max(0.0, pace * (1 - self.share) - (now - self.last))


def of_steps(step: int, steps: int, unit: str = "step") -> str:
    """Where a run is: "step 52/200", "step 52" where its length is unknown."""
    return f"{unit} {step:,}/{steps:,}" if steps else f"{unit} {step:,}"


def _share(step: int, steps: int) -> float:
    return min(1.0, step / steps) if steps else 0.0
