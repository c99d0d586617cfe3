"""How a study is to be searched."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from studies.prior import Centre, Prior


@dataclass(frozen=True, slots=True)
class Search:
    """How a study searches.

    Attributes:
        first: the rates tried first.
        rates: each rule's own rate.
        low, high: the working range.
        widen: whether the range may grow when the best rate leans on its edge.
        trials: the study's total.
        pruner, sampler: names; floor and startup: see the shipped sweep.toml.
        priors: how far each rule is trusted.
        until: ends the study when less than this share of perplexity is left to gain; None: never.
    """

    first: tuple[Centre, ...]
    rates: Mapping[str, float]
    low: float
    high: float
    widen: bool
    trials: int
    sampler: str
    pruner: str
    floor: int
    startup: int
    trainer: str
    priors: Mapping[str, Prior] = field(default_factory=dict)
    until: float | None = None
