"""What is believed of the best rate before a search: a column of the benchmark's tables.

- `product`: what the product believes: the scaling rules' own priors and rates, from the best rate
  of the same recorded set at batch 32 (of the same slice, or of the first one that has it), in the
  product's range. A curve at batch 32 is the reference itself, and is left out.
- `right`: one rate, off by a normal of sd 0.4 in ln rate; `3x high` and so on: that rate times what
  it is wrong by.
- `rules`: three rates of which one is right.
- `none`: nothing.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from recorded import Curve
from searching import Task

from studies import RULES, Reference, Setting, centres, rule_priors, working_range
from studies.prior import Prior

PRODUCT, RULE_LIKE, NO_PRIOR = "product", "rules", "none"
WRONG_BY = {"right": 1.0, "3x high": 3.0, "3x low": 1 / 3, "10x high": 10.0, "10x low": 0.1}
COLUMNS = (PRODUCT, *WRONG_BY, RULE_LIKE, NO_PRIOR)
CENTRE_SD, WIDTH = 0.4, 0.5  # of the right centre's ln rate; what searchers are told of it
SPACING = 6.0  # between two rules' rates, a factor: sqrt for a batch 36 times larger
REFERENCE_BATCH = 32
MARGIN = 3.0  # of the product's range around the rules' rates, where the reference was swept


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed, and where it is searched.

    Attributes:
        centres: rates, the one to be tried first in front.
        priors: how far each rule's rate is trusted.
        low: the lowest rate.
        high: the highest.
    """

    centres: list[float]
    priors: dict[str, Prior]
    low: float
    high: float


def task(curve: Curve, column: str, seed: int, curves: Sequence[Curve]) -> Task | None:
    """What a searcher is told on a curve; None where the column says nothing of it.

    Args:
        seed: of the centre's error and of the searcher.
        curves: the whole recorded set.
    """
    rng = generator(curve, seed)
    right = math.exp(curve.optimum + rng.normal(0.0, CENTRE_SD))
    place, drawn = int(rng.integers(3)), int(rng.integers(2**31))
    belief = _product(curve, curves) if column == PRODUCT else _made_up(curve, column, right, place)
    if belief is None:
        return None
    return Task(
        centres=belief.centres,
        priors=belief.priors,
        low=belief.low,
        high=belief.high,
        lowest=math.exp(curve.low),
        highest=math.exp(curve.high),
        epochs=curve.epochs,
        seed=drawn,
        nothing=curve.part.nothing,
        baseline=curve.part.baseline,
        constant_rate=curve.part.constant_rate,
        steps=curve.part.steps,
    )


def generator(curve: Curve, seed: int, *more: int) -> np.random.Generator:
    """Chance that depends on the curve, the search's seed and any more numbers alone."""
    name = zlib.crc32(curve.part.name.encode())
    return np.random.default_rng([seed, curve.part.seed, name, *more])


def _made_up(curve: Curve, column: str, right: float, place: int) -> Belief:
    """`place` is the right rule's among the three."""
    if column == NO_PRIOR:
        rates = []
    elif column == RULE_LIKE:
        first, middle, last = (right * SPACING ** (number - place) for number in range(3))
        rates = [middle, first, last]
    else:
        rates = [right * WRONG_BY[column]]
    priors = {str(number): Prior(rate, WIDTH) for number, rate in enumerate(rates)}
    return Belief(rates, priors, math.exp(curve.low), math.exp(curve.high))


def _product(curve: Curve, curves: Sequence[Curve]) -> Belief | None:
    """As `sweep.orchestration.plan` has it for a swept reference."""
    known = {each.part.kind: each for each in curves if each.part.batch == REFERENCE_BATCH}
    if not known or curve.part.batch == REFERENCE_BATCH:
        return None
    there = known.get(curve.part.kind) or next(iter(known.values()))
    known_setting = Setting(there.part.batch, there.part.parameters)
    reference = Reference(known_setting, math.exp(there.optimum), None, swept=True)
    setting = Setting(curve.part.batch, curve.part.parameters)
    rates = [rule.learning_rate(reference, setting) for rule in RULES]
    low, high = working_range(rates, margin=MARGIN)
    low, high = max(low, math.exp(curve.low)), min(high, math.exp(curve.high))
    first = centres(RULES, reference, setting, low=low, high=high)
    priors = rule_priors(RULES, reference, setting)
    return Belief([centre.learning_rate for centre in first], priors, low, high)
