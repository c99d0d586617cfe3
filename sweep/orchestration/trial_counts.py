"""What the trials of a study come to, for the ledger: columns, as they may be thousands."""

import math
from collections.abc import Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from studies.table import Table
from studies.trials import failed, rate_of


class Tried:
    """A study's trials at a glance.

    Args:
        trials: all of them.
    """

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        self._table = Table.of(trials)
        self._begun = ~self._table.mask(_waits)
        self._rates = self._table.column(_rate)

    @property
    def count(self) -> int:
        """How many were started by this tool."""
        return int((self._begun & ~self._table.mask(_by_hand)).sum())

    @property
    def started(self) -> int:
        """How many do not wait to be started, whoever made them."""
        return int(self._begun.sum())

    @property
    def waits(self) -> bool:
        """Whether one waits to be started."""
        return not self._begun.all()

    @property
    def ends(self) -> tuple[float, ...]:
        """The lowest and the highest rate of those that were started and have not failed; or ()."""
        found = self._rates[self._begun & ~self._table.mask(failed)]
        if np.isnan(found).all():
            return ()
        return float(np.nanmin(found)), float(np.nanmax(found))

    @property
    def best(self) -> float | None:
        """The rate of the complete trial with the lowest value."""
        values = self._table.column(_complete_value)
        return None if np.isnan(values).all() else float(self._rates[np.nanargmin(values)])

    def at(self, rate: float) -> tuple[int, int]:
        """How many trials have a rate: those that did not fail, and those that did."""
        there = np.isclose(self._rates, rate, rtol=1e-9, atol=0.0)
        lost = self._table.mask(failed)
        return int((there & ~lost).sum()), int((there & lost).sum())


def _waits(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.WAITING


def _by_hand(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get("by_hand"))


def _rate(trial: FrozenTrial) -> float:
    rate = rate_of(trial)
    return math.nan if rate is None else rate


def _complete_value(trial: FrozenTrial) -> float:
    return (trial.value or math.inf) if trial.state == TrialState.COMPLETE else math.nan
