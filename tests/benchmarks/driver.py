"""Runs one searcher on one recorded curve, epoch by epoch, and says what it came to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from columns import generator, task
from epoch_searchers import SEARCHERS
from recorded import Curve
from searching import Job, Task
from smoothing import Array

TOLERANCES = {"1 %": math.log(1.01), "0.5 %": math.log(1.005)}
NEAR_BEST = math.log(1.005)
SURELY = 1.28  # standard errors: 90 %, on one side
MARKS = (2, 3, 5, 8, 10)  # whole runs' worth of epochs after which the reported rate is judged
MOST = 40  # whole runs' worth of epochs after which a search is given up
COVERED_AFTER = (4, 8)  # runs that ended


@dataclass(slots=True)
class Spent:
    """What a search has spent so far; `seconds` by the measured speed of such cohorts."""

    epochs: int = 0
    trainings: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Stop:
    """The searcher said that under 1 % is left to gain.

    Attributes:
        epochs: spent until then.
        excess: of the rate it named, a share of the best perplexity.
        surely: what that excess is at least with 90 %, as few seeds of the truth were recorded.
        covered: whether its 90 % interval held the best rate; None where it has none.
    """

    epochs: int
    excess: float
    surely: float
    covered: bool | None


@dataclass(slots=True)
class Search:
    """What one search came to.

    Attributes:
        setting: of the curve.
        curve_seed: the recorded seed.
        seed: of the search.
        epochs: of a whole run.
        found: by tolerance, what was spent until a run at a rate so close to the best was trained
            to its end; missing where none was.
        end: what was spent in all.
        excess: of the rate it would name after so many epochs, a share of the best perplexity;
            where it has none, that of a model without context.
        stop: None where it never said that it had found it.
        covered: whether the 90 % interval held the best rate, by runs that had ended.
        early: runs that were ended or left before their last epoch.
        wrong: of those, the ones that would have ended within 0.5 % of the best run.
    """

    searcher: str
    column: str
    setting: str
    curve_seed: int
    seed: int
    epochs: int
    found: dict[str, Spent] = field(default_factory=dict)
    end: Spent = field(default_factory=Spent)
    excess: dict[int, float] = field(default_factory=dict)
    stop: Stop | None = None
    covered: dict[int, bool] = field(default_factory=dict)
    early: int = 0
    wrong: int = 0


def search(
    curve: Curve,
    name: str,
    column: str,
    seed: int,
    curves: Sequence[Curve],
    costs: Sequence[float],
) -> Search | None:
    """Runs one search.

    Args:
        curve: what is searched.
        name: the searcher's.
        column: what is believed (`columns`).
        seed: of the searcher, of what it believes and of its runs' noise.
        curves: the whole recorded set.
        costs: seconds of an epoch of 1, 2, ... runs side by side; as many run.

    Returns:
        None where the column says nothing of this curve.
    """
    told = task(curve, column, seed, curves)
    if told is None:
        return None
    kept = Search(name, column, curve.part.name, curve.part.seed, seed, curve.epochs)
    return Driver(curve, told, kept, costs).run()


class Driver:
    """One search under way: a cohort of runs side by side.

    Args:
        curve: what is searched.
        told: what the searcher is told.
        kept: takes down what it comes to.
        costs: as for `search`.
    """

    def __init__(self, curve: Curve, told: Task, kept: Search, costs: Sequence[float]) -> None:
        self._curve, self._costs, self._search = curve, costs, kept
        self._searcher = SEARCHERS[kept.searcher](told)
        self._active: list[Job] = []
        self._runs: dict[int, Array] = {}  # the losses that a run shows if it is trained whole
        self._left: dict[int, float] = {}  # runs ended early, and what they are compared with
        self._ended: set[int] = set()
        self._best = math.inf
        self._says_enough = True

    def run(self) -> Search:
        """Until all is found, judged and stopped, or `MOST` runs' worth of epochs is spent."""
        most, spent = MOST * self._curve.epochs, self._search.end
        while spent.epochs < most and not self._done():
            while len(self._active) < len(self._costs):
                self._start(self._searcher.ask())
            self._epoch()
        self._judge_early_ends()
        return self._search

    def _done(self) -> bool:
        found = len(self._search.found) == len(TOLERANCES)
        judged = len(self._search.excess) == len(MARKS)
        stopped = self._search.stop is not None or not self._says_enough
        return found and judged and stopped

    def _start(self, job: Job) -> None:
        if job.run not in self._runs:
            noise = generator(self._curve, self._search.seed, job.run, 1)
            self._runs[job.run] = self._curve.run(job.x, noise)
        assert job.done == len(job.losses), "a run goes on where it was"
        self._left.pop(job.run, None)
        self._active.append(job)

    def _epoch(self) -> None:
        """One epoch of all active runs: all are reported first, then judged."""
        trained = [job for job in self._active if not self._is_over(job)]
        spent = self._search.end
        spent.epochs += len(trained)
        spent.seconds += self._costs[len(trained) - 1] if trained else 0.0
        spent.trainings = len(self._runs)
        for job in trained:
            job.losses.append(float(self._runs[job.run][len(job.losses)]))
            self._searcher.report(job)
        for job in list(self._active):
            if self._is_over(job):
                self._end(job, pruned=False)
            elif self._searcher.stops(job):
                self._end(job, pruned=True)
        for mark in MARKS:
            if spent.epochs >= mark * self._curve.epochs and mark not in self._search.excess:
                self._search.excess[mark] = self._excess_of_reported()

    def _is_over(self, job: Job) -> bool:
        diverged = bool(job.losses) and not math.isfinite(job.losses[-1])
        return diverged or len(job.losses) >= job.until

    def _end(self, job: Job, *, pruned: bool) -> None:
        self._active.remove(job)
        self._searcher.end(job, pruned=pruned)
        held = math.isfinite(job.losses[-1])
        whole = held and len(job.losses) == self._curve.epochs
        if held and not whole:  # what is paused is judged by the whole search, if it stays so
            final = pruned and not self._searcher.resumes
            self._left[job.run] = self._best if final else math.inf
        if whole:
            self._best = min(self._best, *job.losses)
            self._note_found(job.x)
        if whole or pruned or not held:
            self._ended.add(job.run)
        self._note_claims()

    def _note_found(self, x: float) -> None:
        spent = self._search.end
        for tolerance, nats in TOLERANCES.items():
            if tolerance not in self._search.found and self._curve.excess(x) <= nats:
                found = Spent(spent.epochs, spent.trainings, spent.seconds)
                self._search.found[tolerance] = found

    def _note_claims(self) -> None:
        ended = len(self._ended)
        if ended in COVERED_AFTER and ended not in self._search.covered:
            covered = self._covered()
            if covered is not None:
                self._search.covered[ended] = covered
        if self._search.stop is None:
            enough = self._searcher.enough()
            self._says_enough = enough is not None
            if enough:
                spent = self._search.end.epochs
                excess, surely = self._excess_of_reported(), self._excess_of_reported(SURELY)
                self._search.stop = Stop(spent, excess, surely, self._covered())

    def _covered(self) -> bool | None:
        between = self._searcher.interval()
        if between is None:
            return None
        return between[0] <= math.exp(self._curve.optimum) <= between[1]

    def _excess_of_reported(self, sure: float = 0.0) -> float:
        x, worst = self._searcher.recommended(), self._curve.worst
        if x is None:
            return math.expm1(worst)
        excess = self._curve.excess(x) - sure * self._curve.doubt(x)
        return math.expm1(min(max(excess, 0.0), worst))

    def _judge_early_ends(self) -> None:
        """A run that would have ended near the best should not have been left.

        One that the searcher ended is compared with the best whole run by then, one that it paused
        and never took up again with the best of the search; where there was none, with the best
        that any of its runs would have been.
        """
        finals = {run: _final(losses) for run, losses in self._runs.items()}
        best = self._best if math.isfinite(self._best) else min(finals.values())
        for run, by_then in self._left.items():
            self._search.early += 1
            there = by_then if math.isfinite(by_then) else best
            self._search.wrong += finals[run] <= there + NEAR_BEST


def _final(losses: Array) -> float:
    """A whole run's lowest loss; infinite where it diverged."""
    return float(losses.min()) if np.isfinite(losses).all() else math.inf
