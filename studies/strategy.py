"""What to train next, and what to leave as it is: one rule for starting, pausing and resuming runs.

A run is looked at at the first report that teaches something: where another rate then promises
more for the steps that it takes, or where a few looks at further rates still tell much of where
the optimum lies, the run is left as it is, and goes on should its rate be asked for again. A run
that sits at what a model without context comes to while others have learned is left whenever
that is seen. What is never asked for again was pruned: pausing, scanning and pruning are one.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from studies.decay import ln_decay
from studies.definition import searched
from studies.likelihood import nearest
from studies.numbers import (
    APART,
    CANDIDATE_STEP,
    DECAY_STEP,
    DECAY_WEIGHS,
    LEARNED,
    LOOK_APART,
    LOOKS,
    LOOKS_SURE,
    RATE_STEP,
    RESUMED_WITHIN,
    SCAN_UNSURE,
    TIE,
)
from studies.observed import (
    Look,
    Terms,
    look_of,
    posterior_at,
    posterior_of,
    scaled,
    shift_to,
)
from studies.posterior import Posterior
from studies.prior import Prior
from studies.ridge import RidgePosterior
from studies.table import Array, Mask, Table
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


@dataclass(frozen=True, slots=True)
class Next:
    """What to train next.

    Attributes:
        rate: the learning rate.
        decay: the weight decay; None where it is not searched.
        number: of the paused trial that goes on with them; None for a new one.
    """

    rate: float
    decay: float | None = None
    number: int | None = None


def next_training(table: Table, terms: Terms, *, new: bool = True) -> Next:
    """The rate to train next, and the paused trial that goes on with it, if any.

    Args:
        table: the study's trials, the one that asks excepted.
        terms: what is known beside them.
        new: whether another trial may be started; if not, and none is whole, the paused one that is
            nearest goes on however far it is.
    """
    terms = scaled(table, terms)
    x, paused = _places(table, terms), table.mask(is_paused)
    known = ~np.isnan(x).any(1)
    scan = _scan(table, terms) if new else None
    if scan is not None:
        return _next(_best(scan, x[known], terms, LOOK_APART)[0], x[known], terms)
    wanted, _ = _best(posterior_of(table, terms), x[known & ~paused], terms, APART)
    near = np.where(paused & known, _apart(x, wanted), math.inf)
    within = RESUMED_WITHIN if new or table.mask(sound, terms.objective).any() else math.inf
    if (paused & known).any() and near.min() <= within:
        place = int(near.argmin())
        return dataclasses.replace(_exact(x[place]), number=table[place].number)
    return _next(wanted, x[known], terms)


def leans_out(table: Table, terms: Terms, tried: Iterable[float]) -> str:
    """The end beyond which the best rate may well lie, once the range was searched up to it.

    Args:
        table: the study's trials.
        terms: what is known beside them; its range is the one that is searched.
        tried: every rate with a result, diverged ones included.

    Returns:
        "lower", "upper" or "".
    """
    side = posterior_of(table, terms).edge
    return side if side and searched(side, terms.low, terms.high, tried) else ""


def as_begun(rate: float, begun: Iterable[float]) -> float:
    """A rate that is begun and as good as a given one, where there is one; else that itself."""
    near = {abs(math.log(each / rate)): each for each in begun}
    nearest_one = min(near, default=math.inf)
    return near[nearest_one] if nearest_one <= RESUMED_WITHIN else rate


def rest_of(
    table: Table, terms: Terms, *, rate: float | None = None, decay: float | None = None
) -> Next:
    """What goes best with a rate, or with a weight decay, that is chosen already.

    Args:
        table: the study's trials, the one that asks excepted.
        terms: what is known beside them; the decay is searched.
        rate: the trial's; None where that is what is asked for.
        decay: likewise.
    """
    terms = scaled(table, terms)
    candidates = _candidates(terms)
    for axis, given in enumerate((rate, decay)):
        if given is not None:
            candidates[:, axis] = math.log(given)
    posterior = _scan(table, terms) or posterior_of(table, terms)
    place = _most_gain(posterior, candidates, np.ones(len(candidates), bool))[0]
    return _exact(candidates[place])


def reason_to_leave(table: Table, trial: FrozenTrial, terms: Terms, *, behind: bool = True) -> str:
    """Why a run should be left as it is after its last report; "" where it should go on.

    Args:
        table: the study's trials, this one among them.
        trial: under way, and not diverged.
        terms: what is known beside them.
        behind: whether it is left where it is behind, too, or for a look at others alone.
    """
    terms = scaled(table, terms)
    step, look = trial.last_step, look_of(table, terms)
    if step is None or not look.step or not look.step <= step < look.steps:
        return ""
    if step <= trial.user_attrs.get(LOOKED, 0):
        return ""
    if stuck_there := _is_stuck(table, trial, terms):
        return stuck_there if behind else ""
    # A rate that promises more is worth nothing to a sampler that does not ask for it.
    first = terms.pauses and LOOKED not in trial.user_attrs
    if not first or step != first_report(trial, look.step):
        return ""
    # The rate that is believed is trained whole before others are looked at.
    compared = not terms.priors or (table.column(last_step) >= 1).sum() > 1
    if compared and _scan(table, terms) is not None:
        return f"a look up to {terms.unit} {step}: others tell more of where the best rate lies"
    return _promises_less(table, trial, terms, look) if behind else ""


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
    x, this = _places(table, terms), table.column(number_of) == trial.number
    others = x[~np.isnan(x).any(1) & ~this & ~table.mask(is_paused)]
    posterior = posterior_of(table, terms, trial)
    mine = _places(Table.of([trial]), terms)
    wanted, gain = _best(posterior, others, terms, APART)
    left = float(posterior.improvement(_asked(mine))[0])
    near = float(_apart(mine, wanted)[0]) <= RESUMED_WITHIN
    if near or left * look.steps >= gain * (look.steps - step):
        return ""
    best = terms.objective.signed(best_until(trial, step, terms.objective))
    better = _exact(wanted)
    decay = "" if better.decay is None else f" with weight decay {better.decay:.3g}"
    return (
        f"after {terms.unit} {step}, {terms.objective.words} {best:.4g}, rate "
        f"{better.rate:.3g}{decay} promises more"
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
    scan = posterior_at(table, dataclasses.replace(terms, priors=priors), look.step)
    return None if looks >= 2 and scan.spread < LOOKS_SURE else scan


def _best(posterior: Posterior, taken: Array, terms: Terms, apart: float) -> tuple[Array, float]:
    """The place that is expected to gain most, some way from those taken, and its gain."""
    candidates = _candidates(terms)
    free = _least_apart(candidates, taken) >= apart
    if not free.any():
        return _widest_gap(candidates, taken, terms), 0.0
    place, gain = _most_gain(posterior, candidates, free)
    return candidates[place], gain


def _most_gain(posterior: Posterior, candidates: Array, free: Mask) -> tuple[int, float]:
    """Which of the free candidates is expected to gain most, and its gain."""
    gain = posterior.improvement(_asked(candidates))
    # Of rates that gain the same, the middle of the interval is the safest.
    shown = np.minimum(gain, (1 - TIE) * gain.max())
    shown -= 1e-9 * _apart(candidates, _safest(posterior))
    place = int(np.where(free, shown, -1.0).argmax())
    return place, float(gain[place])


def _as_begun(rate: float, taken: Array, terms: Terms) -> float:
    """The same within the range, and not where this study has a run already."""
    free = [
        each
        for each in terms.begun
        if terms.low <= each <= terms.high and (np.abs(taken - math.log(each)) >= APART).all()
    ]
    return as_begun(rate, free)


def _widest_gap(candidates: Array, taken: Array, terms: Terms) -> Array:
    """The range is full: the middle of its widest gap."""
    if terms.decay is not None:
        return np.asarray(candidates[int(_least_apart(candidates, taken).argmax())])
    low, high = math.log(terms.low), math.log(terms.high)
    x = candidates[:, 0]
    points = np.clip(np.concatenate([x[:1], np.sort(taken[:, 0]), x[-1:]]), low, high)
    widest = np.diff(points).argmax()
    return np.array([float(points[widest : widest + 2].mean())])


def _candidates(terms: Terms) -> Array:
    """Where the next training may be, (n, 1) of ln rate, or (n, 2) of ln rate and ln decay."""
    low, high = math.log(terms.low), math.log(terms.high)
    step = CANDIDATE_STEP if terms.decay is None else RATE_STEP
    x = np.linspace(low, high, max(1, math.ceil((high - low) / step)) + 1)
    if terms.decay is None:
        return x[:, None]
    both = np.meshgrid(x, _decays(terms), indexing="ij")
    return np.stack(both, axis=-1).reshape(-1, 2)


def _decays(terms: Terms) -> Array:
    """ln decays to choose from, the middle among them."""
    assert terms.decay is not None
    low, high = terms.decay.ends
    steps = np.arange(math.ceil(low / DECAY_STEP), math.floor(high / DECAY_STEP) + 1)
    return np.asarray(_middle(terms) + steps * DECAY_STEP)


def _middle(terms: Terms) -> float:
    assert terms.decay is not None
    return math.log(terms.decay.middle)


def _safest(posterior: Posterior) -> Array:
    decay = [posterior.best_decay] if isinstance(posterior, RidgePosterior) else []
    return np.array([math.log(each) for each in (posterior.best_rate, *decay)])


def _places(table: Table, terms: Terms) -> Array:
    """Where trials lie, (trials, 1) or (trials, 2); NaN where that is not known."""
    columns = [ln_rate] if terms.decay is None else [ln_rate, ln_decay]
    return np.stack([table.column(read) for read in columns], axis=-1)


def _asked(places: Array) -> Array:
    """Places as a posterior takes them."""
    return places[:, 0] if places.shape[1] == 1 else places


def _apart(places: Array, other: Array) -> Array:
    """How far places lie from another, in ln rate: a decay moves the curve less."""
    if places.shape[1] == 1:
        return np.asarray(np.abs(places[:, 0] - other[0]))
    away = places - other
    return np.asarray(np.hypot(away[..., 0], DECAY_WEIGHS * away[..., 1]))


def _least_apart(places: Array, taken: Array) -> Array:
    """How far each lies from the nearest one taken; infinite where there is none."""
    if places.shape[1] == 1:
        return np.minimum(*nearest(places[:, 0], np.sort(taken[:, 0])))
    away = [_apart(places, each) for each in taken]
    return np.asarray(np.min(away, axis=0)) if away else np.full(len(places), math.inf)


def _next(place: Array, taken: Array, terms: Terms) -> Next:
    exact = _exact(place)
    rate = min(max(exact.rate, terms.low), terms.high)
    if terms.decay is None:  # of another decay nothing is begun
        rate = _as_begun(rate, taken[:, 0], terms)
    return dataclasses.replace(exact, rate=rate)


def _exact(place: Array) -> Next:
    rate, decay = math.exp(place[0]), math.exp(place[1]) if len(place) == 2 else None
    return Next(rate, decay)
