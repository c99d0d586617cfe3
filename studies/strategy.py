"""What to train next, and what to leave as it is: one rule for starting, pausing and resuming runs.

A run is looked at at the first report that teaches something: where another rate then promises
more for the steps that it takes, or where a few looks at further rates still tell much of where
the optimum lies, the run is left as it is, and goes on should its rate be asked for again. A run
that sits at what a model without context comes to while others have learned is left whenever
that is seen. What is never asked for again was pruned: pausing, scanning and pruning are one.
"""

import math
from collections.abc import Iterable

import numpy as np
from optuna.trial import FrozenTrial

from studies.likelihood import nearest
from studies.numbers import (
    APART,
    CANDIDATE_STEP,
    LEARNED,
    LOOK_APART,
    LOOKS,
    LOOKS_SURE,
    RESUMED_WITHIN,
    SCAN_UNSURE,
    TIE,
)
from studies.observed import (
    Look,
    Terms,
    cross_section,
    look_of,
    posterior_of,
    scaled,
    shift_to,
)
from studies.posterior import Posterior
from studies.prior import Prior
from studies.table import Array, Table
from studies.trials import (
    LOOKED,
    best_until,
    first_report,
    is_paused,
    last_step,
    ln_rate,
    number_of,
    sound,
    stuck,
    was_looked_at,
)


def next_rate(table: Table, terms: Terms, *, new: bool = True) -> tuple[float, int | None]:
    """The rate to train next, and the number of the paused trial that goes on with it, if any.

    Args:
        table: the study's trials, the one that asks excepted.
        terms: what is known beside them.
        new: whether another trial may be started; if not, and none is whole, the paused one that is
            nearest goes on however far it is.
    """
    terms = scaled(table, terms)
    x, paused = table.column(ln_rate), table.mask(is_paused)
    known = ~np.isnan(x)
    scan = _scan(table, terms) if new else None
    if scan is not None:
        wanted, _ = _best(scan, x[known], terms, LOOK_APART)
        return _as_begun(_rate(wanted, terms), x[known], terms), None
    wanted, _ = _best(posterior_of(table, terms), x[known & ~paused], terms, APART)
    near = np.where(paused & known, np.abs(x - wanted), math.inf)
    within = RESUMED_WITHIN if new or table.mask(sound, terms.objective).any() else math.inf
    if (paused & known).any() and near.min() <= within:
        place = int(near.argmin())
        return math.exp(x[place]), table[place].number
    return _as_begun(_rate(wanted, terms), x[known], terms), None


def as_begun(rate: float, begun: Iterable[float]) -> float:
    """A rate that is begun and as good as a given one, where there is one; else that itself."""
    near = {abs(math.log(each / rate)): each for each in begun}
    nearest_one = min(near, default=math.inf)
    return near[nearest_one] if nearest_one <= RESUMED_WITHIN else rate


def reason_to_leave(table: Table, trial: FrozenTrial, terms: Terms) -> str:
    """Why a run should be left as it is after its last report; "" where it should go on.

    Args:
        table: the study's trials, this one among them.
        trial: under way, and not diverged.
        terms: what is known beside them.
    """
    terms = scaled(table, terms)
    step, look = trial.last_step, look_of(table, terms)
    if step is None or not look.step or not look.step <= step < look.steps:
        return ""
    if step <= trial.user_attrs.get(LOOKED, 0):
        return ""
    # A rate that promises more is worth nothing to a sampler that does not ask for it.
    less = _promises_less(table, trial, terms, look) if terms.pauses else ""
    return _is_stuck(table, trial, terms) or less


def _is_stuck(table: Table, trial: FrozenTrial, terms: Terms) -> str:
    """It has learned nothing although another run had by this step."""
    step, objective, top = trial.last_step, terms.objective, terms.nats_baseline
    if step is None or terms.baseline is None or not stuck(trial, top, objective):
        return ""
    others = table.without(trial.number)
    there = others.column(last_step) >= step
    best = float(others.column(best_until, step, objective)[there].min(initial=math.inf))
    if not best < objective.stored(top - 3 * LEARNED):
        return ""
    return (
        f"{objective.words} {trial.intermediate_values[step]:.4g} after {terms.unit} {step} is no "
        f"better than a model without context ({terms.baseline:.4g}), where another rate had "
        f"{best:.4g}"
    )


def _promises_less(table: Table, trial: FrozenTrial, terms: Terms, look: Look) -> str:
    step = trial.last_step or 0
    if LOOKED in trial.user_attrs or step != first_report(trial, look.step or 0):
        return ""
    compared = table.column(last_step) >= 1
    if compared.sum() > 1 and _scan(table, terms) is not None:
        return f"a look up to {terms.unit} {step}: others tell more of where the best rate lies"
    x, this = table.column(ln_rate), table.column(number_of) == trial.number
    others = x[~np.isnan(x) & ~this & ~table.mask(is_paused)]
    posterior = posterior_of(table, terms, trial)
    mine = ln_rate(trial)
    wanted, gain = _best(posterior, others, terms, APART)
    left = float(posterior.improvement(np.array([mine]))[0])
    if abs(wanted - mine) <= RESUMED_WITHIN or left * look.steps >= gain * (look.steps - step):
        return ""
    best = terms.objective.signed(best_until(trial, step, terms.objective))
    return (
        f"after {terms.unit} {step}, {terms.objective.words} {best:.4g}, rate "
        f"{_rate(wanted, terms):.3g} promises more"
    )


def _scan(table: Table, terms: Terms) -> Posterior | None:
    """Where the optimum of short runs lies; None where further looks would tell little."""
    looks = int(table.mask(was_looked_at).sum())
    look = look_of(table, terms)
    if not (terms.pauses and look.learned and look.step and look.step < look.steps):
        return None
    if looks >= LOOKS or posterior_of(table, terms).spread < SCAN_UNSURE:
        return None
    shift, sd = shift_to(look.step, look, terms)
    priors = {
        name: Prior(prior.rate * math.exp(shift), math.hypot(prior.width, sd), prior.weight)
        for name, prior in terms.priors.items()
    }
    section = cross_section(table, look.step, terms)
    scan = Posterior(section, priors, terms.low, terms.high)
    return None if looks >= 2 and scan.spread < LOOKS_SURE else scan


def _best(posterior: Posterior, taken: Array, terms: Terms, apart: float) -> tuple[float, float]:
    """The ln rate that is expected to gain most, some way from those taken, and its gain."""
    low, high = math.log(terms.low), math.log(terms.high)
    x = np.linspace(low, high, max(1, math.ceil((high - low) / CANDIDATE_STEP)) + 1)
    gain = posterior.improvement(x)
    # Of rates that gain the same, the middle of the interval is the safest.
    shown = np.minimum(gain, (1 - TIE) * gain.max())
    shown -= 1e-9 * np.abs(x - math.log(posterior.best_rate))
    taken = np.sort(taken)
    free = np.minimum(*nearest(x, taken)) >= apart
    if not free.any():  # the range is full: the middle of its widest gap
        points = np.clip(np.concatenate([x[:1], taken, x[-1:]]), low, high)
        widest = np.diff(points).argmax()
        return float(points[widest : widest + 2].mean()), 0.0
    place = int(np.where(free, shown, -1.0).argmax())
    return float(x[place]), float(gain[place])


def _as_begun(rate: float, taken: Array, terms: Terms) -> float:
    """The same within the range, and not where this study has a run already."""
    free = [
        each
        for each in terms.begun
        if terms.low <= each <= terms.high and (np.abs(taken - math.log(each)) >= APART).all()
    ]
    return as_begun(rate, free)


def _rate(x: float, terms: Terms) -> float:
    return min(max(math.exp(x), terms.low), terms.high)
