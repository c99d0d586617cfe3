"""How a study's trials are chosen and judged. It reads trials; the ledger alone writes them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from studies.decay import DECAY, DecaySearch
from studies.definition import PARAMETER, edge, widen
from studies.failures import as_tried
from studies.objective import Objective
from studies.observed import Terms, look_of, posterior_of
from studies.prior import Centre, Prior, multiples, nearest_rule
from studies.pruner import make_pruner
from studies.sampler import LEARNING_RATE, make_sampler
from studies.stopping import Remaining, remaining
from studies.strategy import leans_out, next_training
from studies.table import Table
from studies.trials import failed, is_paused, number_of, rate_of, sound, value_of
from sweep.orchestration.endings import began_anew, from_outside
from sweep.orchestration.samplers import named_sampler
from sweep.results.record import read_trial

Range = tuple[float, float]  # the lowest and the highest rate that is searched


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How a study searches.

    Attributes:
        first: the rates tried first.
        rates: each rule's own rate.
        low, high: the working range.
        widen: whether the range may grow when the best rate leans on its edge.
        trials: the study's total.
        pruner, sampler: names; floor and startup: see the shipped sweep.toml.
        priors: how far each rule is trusted.
        script: the hash of the program's script.
        decay: how the weight decay is searched; None: it is not.
        until: ends the study when less than this share is left to gain (`Remaining`); None: never.
        trunks: what trials may begin with, by their rates, the longest first.
    """

    first: tuple[Centre, ...]
    rates: Mapping[str, float]
    low: float
    high: float
    widen: bool
    trials: int
    sampler: str
    pruner: str
    floor: float
    startup: int
    trainer: str
    priors: Mapping[str, Prior] = field(default_factory=dict)
    decay: DecaySearch | None = None
    until: float | None = None
    script: str = ""
    trunks: Mapping[float, tuple[Path, ...]] = field(default_factory=dict)


class TrialCounts:
    """A study's trials at a glance.

    Those that failed for a reason outside them do not count from the next run on, and those that
    could not be repeated never: their rates are owed another trial.

    Args:
        trials: all of them.
        earlier: numbers of those that ended in earlier runs; None for all.
        objective: what their numbers are; None for perplexity.
    """

    def __init__(
        self,
        trials: Sequence[FrozenTrial],
        earlier: frozenset[int] | None = None,
        objective: Objective | None = None,
    ) -> None:
        self._objective = objective or Objective()
        self._table = Table.of(trials)
        ended = self._table.mask(from_outside)
        if earlier is not None:
            ended &= np.isin(self._table.column(number_of), list(earlier))
        self._excused = ended | self._table.mask(began_anew)
        self._begun = ~self._table.mask(_waits)
        self._rates = self._table.column(_rate)

    @property
    def count(self) -> int:
        """How many were started by this tool, and count."""
        return int((self._begun & ~self._table.mask(_by_hand) & ~self._excused).sum())

    @property
    def excused(self) -> int:
        """How many do not count."""
        return int(self._excused.sum())

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
        """The rate of the complete trial with the best value."""
        values = self._table.column(_sound_value, self._objective)
        return None if np.isnan(values).all() else float(self._rates[np.nanargmin(values)])

    def at(self, rate: float) -> tuple[int, int]:
        """How many trials have a rate, and count: those that did not fail, and those that did."""
        there = np.isclose(self._rates, rate, rtol=1e-9, atol=0.0) & ~self._excused
        lost = self._table.mask(failed)
        return int((there & ~lost).sum()), int((there & lost).sum())

    @property
    def owed(self) -> float | None:
        """The first rate whose trial does not count, and that no other one has; None for none."""
        rates = self._rates[self._excused & ~np.isnan(self._rates)].tolist()
        return next((rate for rate in rates if self.at(rate) == (0, 0)), None)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of a trial after a report.

    Attributes:
        reason: why it ends here, in words; "" where it goes on.
        pauses: whether it may come back.
        audit: why it would have ended, had it not been chosen to run on; "" for others.
    """

    reason: str = ""
    pauses: bool = False
    audit: str = ""


class Strategy:
    """Chooses a study's rates, ends its trials, and says when enough is known.

    Args:
        settings: of the search.
        seed: of the sampler and of the pruner's draws.
        terms: what is known beside the trials; its range is the one at the beginning.
    """

    def __init__(self, settings: SearchSettings, seed: int, terms: Terms) -> None:
        self.settings = settings
        self._seed, self._told = seed, dataclasses.replace(terms, begun=tuple(settings.trunks))
        self._named = named_sampler(settings.sampler)

    def terms(self, working_range: Range) -> Terms:
        """What the search is told beside the trials, in a range."""
        low, high = working_range
        return dataclasses.replace(self._told, low=low, high=high)

    def sampler(self, working_range: Range, trials: Table | None = None) -> BaseSampler:
        """A sampler of a range; of the trials too, where it is for one ask."""
        return make_sampler(
            self._named,
            self.terms(working_range),
            seed=self._seed % 2**32,
            startup=len(self.settings.first),
            known=trials,
        )

    def of_rate(self, rate: float) -> dict[str, Any]:
        """What a trial's record says of its rate: the nearest rule, and the multiples of each."""
        name, multiple = nearest_rule(rate, self.settings.rates)
        every = multiples(rate, self.settings.rates)
        return {"nearest_rule": name, "multiple": multiple, "multiples": every}

    def trunks(self, rate: float) -> tuple[Path, ...]:
        """What a trial of a rate may begin with."""
        found = (at for begun, at in self.settings.trunks.items() if math.isclose(begun, rate))
        return next(found, ())

    def missing(self, counts: TrialCounts) -> list[float]:
        """The rules' rates that no good trial has, failed ones once more; then one that is owed."""
        tried = {centre.learning_rate: counts.at(centre.learning_rate) for centre in self._first}
        first = [rate for rate, (kept, lost) in tried.items() if kept == 0 and lost < 2]
        return first or ([] if counts.waits or counts.owed is None else [counts.owed])

    def enqueued(self, rate: float) -> dict[str, float]:
        """The parameters to try a rate with: a rule's is meant at the decay that is known."""
        decay, rules = self.settings.decay, [centre.learning_rate for centre in self._first]
        known = {} if decay is None or rate not in rules else {DECAY: decay.middle}
        return {PARAMETER: rate, **known}

    def left_to_gain(self, trials: Table, counts: TrialCounts, within: Range) -> Remaining | None:
        """What another trial could gain, once every rule's rate was tried; None where not asked."""
        if self.settings.until is None or counts.waits:
            return None
        return remaining(posterior_of(trials, self.terms(within)), trials, self.settings.until)

    def resumed(self, trials: Table, within: Range, *, full: bool) -> int | None:
        """The number of the trial left after a look that is to go on now; None where none is.

        Args:
            trials: all of them.
            within: the range.
            full: whether no other trial may be started.
        """
        terms = self.terms(within)
        if not terms.pauses or not trials.mask(is_paused).any():
            return None
        return next_training(as_tried(trials), terms, new=not full).number

    def widened(self, trials: Table, counts: TrialCounts, within: Range) -> Range:
        """The range to search, wider than before where the best rate leans on its edge."""
        best = counts.best
        if not self.settings.widen or best is None or counts.started < len(self._first):
            return within
        terms = self.terms(within)
        side = edge(best, terms.low, terms.high, counts.ends)
        if not side and self.settings.sampler == LEARNING_RATE and not counts.waits:
            side = leans_out(trials, terms, counts.ends)
        return widen(terms.low, terms.high, side) if side else within

    def judge(self, peers: Table, trial: FrozenTrial, within: Range) -> Judgement:
        """Whether a trial goes on after its last report.

        Args:
            peers: all trials, this one among them.
            trial: it has not ended.
            within: the range.
        """
        terms = self.terms(within)
        pruner = make_pruner(
            self.settings.pruner,
            floor=max(1, look_of(peers, terms).floor),
            startup=self.settings.startup,
            seed=self._seed,
            terms=terms,
        )
        reason = pruner.reason(peers, trial)
        if reason:
            last = trial.last_step
            held = last is not None and math.isfinite(trial.intermediate_values[last])
            return Judgement(reason, pauses=held and terms.pauses and pruner.looks)
        return Judgement(audit=pruner.audit(peers, trial) or "")

    @property
    def _first(self) -> Sequence[Centre]:
        return self.settings.first


def _waits(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.WAITING


def _by_hand(trial: FrozenTrial) -> bool:
    return read_trial(trial).by_hand


def _rate(trial: FrozenTrial) -> float:
    rate = rate_of(trial)
    return math.nan if rate is None else rate


def _sound_value(trial: FrozenTrial, objective: Objective) -> float:
    return value_of(trial) if sound(trial, objective) else math.nan
