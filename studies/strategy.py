"""What to train next, and what to leave as it is: one rule for starting, pausing and resuming runs.

A run is looked at once it has trained so long that a run teaches something; if another rate then
promises more for the epochs that it takes, the run is paused, and it goes on from there should its
rate be asked for again. A run that is never resumed was ended: pausing, scanning and pruning are one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from studies.likelihood import Observations, nearest
from studies.posterior import Posterior
from studies.table import Array, Table
from studies.trials import best_until, diverged, last_epoch, ln_rate, sound, value_of

LEARNT = float(__import__('os').environ.get('LEARNT', 0.1))
SHIFT, SHIFT_SD = 0.43, 0.25
DECAY_SHIFT, DECAY_SHIFT_SD = 0.2, 0.5
KEEP = 0.01


UNL = float(__import__('os').environ.get('UNL', 0.5))


def look_epoch(table: Table, baseline: float | None, epochs: int) -> int | None:
    """The first epoch at which a run that has learned had made a third of what it learned in all."""
    found = []
    for place in np.flatnonzero(~np.isnan(table.column(ln_rate))):
        values = table[int(place)].intermediate_values
        steps = sorted(e for e in values if 0 < values[e] < math.inf)
        if not steps:
            continue
        y = np.log(np.minimum.accumulate([values[e] for e in steps]))
        start = math.log(baseline) if baseline else y[0]
        learned = start - y >= LEARNT
        if learned.any():
            found.append(steps[int(np.argmax(learned))])
    least = min(found, default=-math.ceil(epochs * UNL))
    return least if least <= epochs / 2 else -math.ceil(epochs * UNL)


def section(table: Table, epoch: int, baseline: float | None) -> Observations:
    """All runs that got as far as an epoch, as they were then."""
    x = table.column(ln_rate)
    y = np.log(table.column(best_until, epoch))
    there = (table.column(last_epoch) >= epoch) & ~np.isnan(x)
    early = table.mask(diverged) & (table.column(last_epoch) <= epoch) & ~np.isnan(x)
    known = there & np.isfinite(y) & ~early
    return Observations(
        x=x[known],
        y=y[known],
        variance=np.zeros(int(known.sum())),
        lost=x[early],
        running=np.zeros(0),
        baseline=math.log(baseline) if baseline else math.inf,
    )


def hint(
    table: Table, low: float, high: float, baseline: float | None, epoch: int | None, constant: bool, last: int
) -> Array | None:
    """What the cross-section at an epoch says of the optimum at the end, over its grid."""
    epoch = 1 if epoch is None or epoch < 0 else epoch
    seen = section(table, epoch, baseline)
    if not len(seen.x):
        return None
    shift, sd = (SHIFT, SHIFT_SD) if constant else (DECAY_SHIFT, DECAY_SHIFT_SD)
    early = Posterior(seen, {}, low, high)
    mu, weight = early._mu, early._by_mu
    distance = mu[:, None] + shift * math.log(last / epoch) - mu
    factor = np.exp(-0.5 * (distance / sd) ** 2) @ weight
    return np.asarray(factor / factor.max() + KEEP)


RESUME = 0.15  # ln rate: so near a paused run is as good as a new one
APART = 0.08  # ln rate between two whole trials: finer differences are noise
CANDIDATE_STEP = 0.05  # ln rate
TIE = 0.02  # share of the largest gain; what lies closer is the grid's error
from studies.prior import Prior
_E = lambda k, d: float(__import__('os').environ.get(k, d))
MOST_LOOKS, SURE, SDSTOP, LOOK_APART, PAUSE_FIRST = _E('LOOKS', 5), _E('SURE', .5), _E('SDSTOP', .3), _E('LOOK_APART', .3), _E('PF', 1)
PATIENCE = float(__import__('os').environ.get('PATIENCE', 1))
_n = int(__import__('os').environ.get('NLOOKS', 1))
def LOOKS(e): return [e * 2**k for k in range(_n)]


def is_paused(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.RUNNING and bool(trial.user_attrs.get("paused"))


def gains(posterior: Posterior, low: float, high: float) -> tuple[Array, Array]:
    steps = max(1, math.ceil(math.log(high / low) / CANDIDATE_STEP))
    x = np.linspace(math.log(low), math.log(high), steps + 1)
    return x, posterior.improvement(x)


def best_gain(posterior: Posterior, taken: Array, low: float, high: float, least: float = APART) -> tuple[float, float]:
    x, gain = gains(posterior, low, high)
    shown = np.minimum(gain, (1 - TIE) * gain.max()) - 1e-9 * np.abs(x - math.log(posterior.best_rate))
    apart = np.minimum(*nearest(x, np.sort(taken))) >= least
    if not apart.any():
        points = np.clip(np.concatenate([x[:1], np.sort(taken), x[-1:]]), x[0], x[-1])
        widest = np.diff(points).argmax()
        return float(points[widest : widest + 2].mean()), 0.0
    place = int(np.where(apart, shown, -1.0).argmax())
    return float(x[place]), float(gain[place])


class Strategy:
    def __init__(self, priors, low, high, baseline, constant, epochs):
        self.priors, self.low, self.high, self.baseline, self.constant = priors, low, high, baseline, constant
        self.epochs = epochs

    def posterior(self, table: Table, epoch: int | None = None, looked: float = math.nan) -> Posterior:
        from studies.observed import observe
        import dataclasses
        epoch = look_epoch(table, self.baseline, self.epochs) if epoch is None else epoch
        seen = observe(table, self.baseline, constant_rate=self.constant)
        seen = dataclasses.replace(seen, running=seen.running[seen.running != looked])
        factor = hint(table, self.low, self.high, self.baseline, epoch, self.constant, self.epochs)
        return Posterior(seen, self.priors, self.low, self.high, factor)

    def scan(self, table: Table) -> Posterior | None:
        """The cross-section's own posterior, where looks at further rates would still tell much."""
        epoch = look_epoch(table, self.baseline, self.epochs)
        looks = int(table.mask(was_looked_at).sum())
        if epoch < 1 or looks >= MOST_LOOKS or self.posterior(table).spread < SURE:
            return None
        shift, sd = (SHIFT, SHIFT_SD) if self.constant else (DECAY_SHIFT, DECAY_SHIFT_SD)
        shift *= math.log(self.epochs / epoch)
        priors = {
            name: Prior(prior.rate * math.exp(shift), math.hypot(prior.width, sd), prior.weight)
            for name, prior in self.priors.items()
        }
        early = Posterior(section(table, epoch, self.baseline), priors, self.low, self.high)
        return None if looks >= 2 and early.spread < SDSTOP else early

    def choose(self, table: Table) -> float | int:
        paused = table.mask(is_paused)
        x = table.column(ln_rate)
        early = self.scan(table)
        if early is not None:
            rate, _ = best_gain(early, x[~np.isnan(x)], self.low, self.high, LOOK_APART)
            return min(max(math.exp(rate), self.low), self.high)
        taken = x[~paused & ~np.isnan(x)]
        rate, _ = best_gain(self.posterior(table), taken, self.low, self.high)
        near = [(abs(x[i] - rate), i) for i in np.flatnonzero(paused) if abs(x[i] - rate) <= RESUME]
        if near:
            return int(table[int(min(near)[1])].number)
        return min(max(math.exp(rate), self.low), self.high)

    def reason(self, table: Table, trial: FrozenTrial) -> str:
        epoch = look_epoch(table, self.baseline, self.epochs)
        now = trial.last_step
        if now is None or now != abs(epoch) or was_looked_at(trial):
            return ""
        x = table.column(ln_rate)
        this = table.column(_number) == trial.number
        mine = ln_rate(trial)
        if this.sum() == len(table) and PAUSE_FIRST == 0: return ""
        if epoch > 0 and self.scan(table) is not None:
            return f"after epoch {now} other rates are to be looked at"
        posterior = self.posterior(table, now, mine)
        paused = table.mask(is_paused)
        taken = x[~paused & ~this & ~np.isnan(x)]
        rate, most = best_gain(posterior, taken, self.low, self.high)
        gain = float(posterior.improvement(np.array([mine]))[0])
        if abs(rate - mine) <= RESUME: return ""
        if gain / (self.epochs - now) * PATIENCE >= most / self.epochs:
            return ""
        return f"after epoch {now} rate {math.exp(rate):.3g} promises more: {most:.3g} against {gain:.3g}"


def was_looked_at(trial): return "paused" in trial.user_attrs

def _number(trial): return trial.number
