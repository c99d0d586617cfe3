"""Precisions compared: the same rates and seeds, paired."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from studies.objective import Objective
from studies.student import Mean, mean_of
from sweep.results.runs import TrainedRun

LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Pair:
    """One rate and seed in two precisions.

    Attributes:
        gap: how far the other's value lies above the baseline's, in nats: ln of the ratio of
            perplexities, the difference of losses; None where either has none.
    """

    baseline: TrainedRun
    other: TrainedRun
    objective: Objective

    @property
    def gap(self) -> float | None:
        """See above."""
        if self.baseline.state != "complete" or self.other.state != "complete":
            return None
        assert self.baseline.value is not None
        assert self.other.value is not None
        return self.objective.nats_between(self.other.value, self.baseline.value)


@dataclass(frozen=True, slots=True)
class Contrast:
    """A precision against the first one.

    Attributes:
        gap: of all pairs, in nats, with its interval of level `LEVEL`; None where no pair has one.
    """

    baseline: str
    precision: str
    pairs: tuple[Pair, ...]
    gap: Mean | None

    def speed_ratio(self) -> Mean | None:
        """ln of the ratio of tokens a second over all pairs; other programs' load counts in it."""
        ratios = [
            math.log(pair.other.tokens_per_second / pair.baseline.tokens_per_second)
            for pair in self.pairs
            if pair.other.tokens_per_second and pair.baseline.tokens_per_second
        ]
        return mean_of(ratios, LEVEL) if ratios else None

    def diverged_only(self, *, other: bool) -> list[TrainedRun]:
        """The runs that diverged in one precision, and not in the other at their rate and seed."""
        turned = [(p.other, p.baseline) if other else (p.baseline, p.other) for p in self.pairs]
        return [one for one, two in turned if (one.state, two.state) == ("diverged", "complete")]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that was compared.

    Attributes:
        device: where the runs that were missing ran.
        objective: what their values are.
    """

    precisions: tuple[str, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    device: str
    runs: tuple[TrainedRun, ...]
    contrasts: tuple[Contrast, ...]
    objective: Objective


def contrast(
    runs: Sequence[TrainedRun], baseline: str, precision: str, objective: Objective
) -> Contrast:
    """Pairs the runs of two precisions by rate and seed."""
    pairs = [
        Pair(mine, theirs, objective)
        for mine in runs
        for theirs in runs
        if (mine.precision, theirs.precision, mine.seed) == (baseline, precision, theirs.seed)
        and theirs.has(mine.learning_rate)
    ]
    gaps = [pair.gap for pair in pairs if pair.gap is not None]
    return Contrast(baseline, precision, tuple(pairs), mean_of(gaps, LEVEL) if gaps else None)
