"""What a searcher is told and asked, whatever package it comes from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from studies.prior import Prior


@dataclass(slots=True)
class Job:
    """A run at one rate, from one epoch to another.

    Attributes:
        x: ln rate.
        key: the searcher's own handle.
        run: the same for jobs that carry one run on.
        done: epochs that are behind it.
        until: epochs after which the job is done; fewer than a whole run's: it is paused there.
        losses: nats, of the run's epochs so far, those behind it included.
    """

    x: float
    key: Any
    run: int
    done: int
    until: int
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Task:
    """What every searcher is told.

    Attributes:
        centres: rates, the one to be tried first in front; none where nothing is believed.
        priors: what is believed of the best rate, which the peers cannot be told.
        low: the lowest rate.
        high: the highest.
        lowest, highest: of what was recorded: so far the range may be widened.
        epochs: of a whole run.
        seed: of the searcher.
        nothing: nats of a model that knows nothing; peers are told no higher loss, since those of
            diverging runs would swamp what they model.
        baseline: perplexity of a model without context, which the peers cannot be told.
        constant_rate: whether the runs' rate does not decay; nor can they be told that.
        steps: optimizer steps of a whole run.
    """

    centres: Sequence[float]
    priors: Mapping[str, Prior]
    low: float
    high: float
    lowest: float
    highest: float
    epochs: int
    seed: int
    nothing: float
    baseline: float | None = None
    constant_rate: bool = False
    steps: float = math.inf

    def within(self, rate: float) -> float:
        """The rate, or the end of the range that it lies beyond."""
        return min(max(rate, self.low), self.high)


class Searcher(Protocol):
    """One search under way; `driver.Driver` runs it.

    Attributes:
        resumes: whether a job that it stopped may go on later.
    """

    resumes: bool

    def ask(self) -> Job:
        """The next job; one that resumes a run has its `run` and the losses of its epochs."""
        ...

    def report(self, job: Job) -> None:
        """Tells a job's last loss (`job.losses[-1]`; infinite: it diverged)."""
        ...

    def stops(self, job: Job) -> bool:
        """Whether the searcher ends the job after its last report."""
        ...

    def end(self, job: Job, *, pruned: bool) -> None:
        """The job is over: at `until`, ended by the searcher, or diverged."""
        ...

    def recommended(self) -> float | None:
        """ln of the rate that it would name as the best now; None where it has none yet."""
        ...

    def enough(self) -> bool | None:
        """Whether less than 1 % of the perplexity is left to gain; None where it never says."""
        ...

    def interval(self) -> tuple[float, float] | None:
        """The rates between which it says the best lies with 90 %; None where it never says."""
        ...


class ClaimsNothing:
    """A searcher that never says how sure it is, and names the best rate it trained longest."""

    resumes = False

    def __init__(self) -> None:
        self._best = (0, math.inf, math.nan)

    def recommended(self) -> float | None:
        return None if math.isnan(self._best[2]) else self._best[2]

    def enough(self) -> None:
        return None

    def interval(self) -> None:
        return None

    def _trained(self, job: Job) -> None:
        if math.isfinite(job.losses[-1]):
            self._best = min(self._best, (-len(job.losses), min(job.losses), job.x))
