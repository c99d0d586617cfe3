"""From a study's trials to what the response model takes in, and to what it makes of them."""

import dataclasses
import functools
import math
import threading
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from studies.decay import DecaySearch, Ridge, cost_of, ln_place
from studies.errors import StudyError
from studies.forms import with_forms
from studies.likelihood import Observations, Repeat
from studies.numbers import (
    DECAY_SHIFT,
    DECAY_SHIFT_SD,
    EARLY,
    LEARN_NOTHING,
    LEARNED,
    OTHERWISE,
    SHIFT,
    SHIFT_SD,
    THINNED,
)
from studies.objective import Objective
from studies.posterior import Posterior
from studies.prior import Prior
from studies.progress import ending_fall, side_of
from studies.ridge import mixture
from studies.table import Array, Mask, Table, places
from studies.trials import (
    best_until,
    diverged,
    failed,
    first_report,
    is_paused,
    last_step,
    learned_at,
    sound,
    value_of,
    whole_steps,
)

KEPT = 4  # posteriors, of one study after another

_last: dict[Hashable, Posterior] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Terms:
    """What a search is told beside its trials.

    Attributes:
        low: the lowest rate of the range.
        high: the highest.
        priors: what each rule says.
        objective: what the trials' numbers are.
        baseline: what a model comes to that knows no context; None where it is unknown.
        constant_rate: whether trials train at one rate, after a warm-up, to the end.
        steps: of a whole run; None takes what the trainers said, else the longest one's.
        floor: the share of its steps that a run gets before it is compared, such as its warm-up.
        unit: what reports are counted by: "step", or "epoch" in studies of earlier versions.
        repeats: runs of the same thing with other seeds; their `y` as it is stored.
        pauses: whether runs may be left as they are after a look and go on later.
        begun: rates of which another study has trained a beginning that this one can go on with.
        lenient: whether a complete trial whose value is impossible is left out as a failed one is,
            and not refused: where other programs write trials too, it is none of the search's.
        decay: what is known of the weight decay, where it is searched too.
        step_size: optimizer steps that a step of the reports stands for; infinite where unknown.
        ridge: the one way in which rate and decay are taken to belong together; None outside of
            such a search, and for all of them.
    """

    low: float
    high: float
    priors: Mapping[str, Prior] = field(default_factory=dict)
    baseline: float | None = None
    constant_rate: bool = False
    steps: int | None = None
    floor: float = 0.0
    unit: str = "step"
    repeats: tuple[Repeat, ...] = ()
    pauses: bool = True
    begun: tuple[float, ...] = ()
    lenient: bool = False
    objective: Objective = field(default_factory=Objective)
    decay: DecaySearch | None = None
    step_size: float = math.inf
    ridge: Ridge | None = None

    @property
    def thin(self) -> int:
        """How much thinner than usual the rate's grid is."""
        return THINNED if self.ridge else 1

    @property
    def nats_baseline(self) -> float:
        """Infinite where it is unknown."""
        return math.inf if self.baseline is None else self.objective.nats(self.baseline)

    def key(self) -> Hashable:
        """Equal for the same terms."""
        return tuple(self.priors.items()), *(
            getattr(self, name) for name in self.__slots__ if name != "priors"
        )


@dataclass(frozen=True, slots=True)
class Look:
    """When runs can be compared before they are whole.

    Attributes:
        step: the first one; None where nothing says how long a run is.
        steps: of a whole run.
        learned: whether a run had learned something by then.
        floor: the step before which no run is compared.
    """

    step: int | None
    steps: int
    learned: bool
    floor: int = 1


def scaled(table: Table, terms: Terms) -> Terms:
    """The same, knowing how much of a number of unknown unit is as much as a nat."""
    objective = terms.objective
    if objective.known_unit:
        return terms
    best = table.column(_lowest, objective)
    seen = best[np.isfinite(best)].tolist()
    if len(set(seen)) == 1:  # of one trial its course is all there is
        seen += [value for trial in table for value in _finite(trial)]
    return dataclasses.replace(terms, objective=objective.scaled_to(seen))


def _lowest(trial: FrozenTrial, objective: Objective) -> float:
    values = [best_until(trial, math.inf, objective), value_of(trial)]
    return math.nan if diverged(trial) else float(np.fmin.reduce(values))


def _finite(trial: FrozenTrial) -> list[float]:
    return [each for each in trial.intermediate_values.values() if math.isfinite(each)]


def observe(trials: Iterable[FrozenTrial], terms: Terms) -> Observations:
    """Reads trials: nothing but what the study stores.

    A complete trial counts with its value, a diverged one as lost, one under way as tried. What was
    paused or pruned has no result: it speaks through `cross_section`. Failed ones are left out:
    running out of memory says nothing about a rate.

    Args:
        trials: of one study, the one that asks excepted.
        terms: what is known beside them.

    Returns:
        The observations, in the order of the trials.

    Raises:
        StudyError: a trial's value is impossible, such as a perplexity below 1, and the terms are
            not lenient.
    """
    table, objective = Table.of(trials), terms.objective
    x, y = table.column(ln_place, terms.ridge), table.column(_nats, objective)
    tried = ~np.isnan(x) & ~table.mask(failed)
    if not terms.lenient:
        for place in places(tried & np.isneginf(y)):
            _refuse(table[place], objective)
    tried &= ~np.isneginf(y)
    lost = tried & table.mask(diverged)
    known = tried & ~lost & ~np.isnan(y)
    running = tried & ~lost & np.isnan(y) & table.mask(_under_way)
    cost = _costs(table, terms)
    return Observations(
        x=x[known],
        y=y[known] if cost is None else (y - cost)[known],
        lost=x[lost],
        running=x[running],
        baseline=terms.nats_baseline,
        fall=_falls(table, known, objective)[known] if terms.constant_rate else None,
        side=_sides(table, terms)[known] if terms.constant_rate else None,
        repeats=tuple(
            _repeated(dataclasses.replace(repeat, y=objective.nats(repeat.y)), terms.ridge)
            for repeat in terms.repeats
        ),
        objective=objective,
        cost=None if cost is None else cost[known],
        running_cost=None if cost is None else cost[running],
        steps=terms.step_size * (whole_length(table, terms) or 1),
    )


def _costs(table: Table, terms: Terms) -> Array | None:
    """What each trial's decay costs along the ridge, nats."""
    return None if terms.ridge is None else table.column(cost_of, terms.ridge)


def _repeated(repeat: Repeat, ridge: Ridge | None) -> Repeat:
    """The same where it counts on the ridge."""
    if ridge is None or repeat.decay is None:
        return repeat
    point = np.array([repeat.x, repeat.decay])
    y = repeat.y - float(ridge.cost(point))
    return dataclasses.replace(repeat, x=float(ridge.x(point)), y=y)


def look_of(table: Table, terms: Terms) -> Look:
    """The first step at which a run had learned something, at most half of a whole run.

    Where none has learned so early, half a run.
    """
    steps = whole_length(table, terms)
    if not steps:
        return Look(None, 0, False)
    first = _earliest(table.column(learned_at, terms.nats_baseline, terms.objective))
    learned = first <= steps / 2
    floor = math.ceil(round(terms.floor * steps, 6))
    least = max(first if learned else steps / 2, floor)
    # Runs are compared where they have reported.
    reported = _earliest(table.column(first_report, least))
    return Look(math.ceil(least if math.isinf(reported) else reported), steps, learned, floor)


def whole_length(table: Table, terms: Terms) -> int:
    """Steps of a whole run; 0 where nothing says it."""
    steps = terms.steps or int(table.column(whole_steps).max(initial=0))
    return steps or int(table.column(last_step)[table.mask(sound, terms.objective)].max(initial=0))


def _earliest(steps: Array) -> float:
    return float(np.fmin.reduce(steps, initial=math.inf))


def cross_section(table: Table, step: int, terms: Terms) -> Observations:
    """All runs that got as far as a step, as they were then."""
    x, last = table.column(ln_place, terms.ridge), table.column(last_step)
    lost = table.mask(diverged) & (last <= step) & ~np.isnan(x)
    y = terms.objective.nats(table.column(best_until, step, terms.objective))
    known = (last >= step) & ~np.isnan(x) & np.isfinite(y) & ~lost
    cost = _costs(table, terms)
    y = y if cost is None else y - cost
    return Observations(
        x[known],
        y[known],
        x[lost],
        np.zeros(0),
        terms.nats_baseline,
        objective=terms.objective,
        steps=terms.step_size * step,
    )


def shift_to(step: int, look: Look, terms: Terms) -> tuple[float, float]:
    """How far the best ln rate after some steps lies above that of a whole run, and its sd.

    At a constant rate what is left to learn depends on rate times time, what the steps' noise
    costs on the rate alone, so that short runs like higher rates; a decay hides most of that.
    """
    shift, sd = (SHIFT, SHIFT_SD) if terms.constant_rate else (DECAY_SHIFT, DECAY_SHIFT_SD)
    return shift * math.log(look.steps / step), sd


def posterior_of(
    trials: Iterable[FrozenTrial], terms: Terms, judged: FrozenTrial | None = None
) -> Posterior:
    """What trials say of the best rate.

    Where the trials say what they said before, it is the same answer, not worked out again.

    Args:
        trials: of one study, one that asks for a rate excepted.
        terms: what is known beside them.
        judged: one of them that is compared with the others at its last report, and does not count
            as under way.

    Raises:
        StudyError: as of `observe`.
    """
    table = Table.of(trials)
    terms = scaled(table, terms)
    at = judged and (judged.number, judged.last_step)
    asked = (table.contents(), terms.key(), at)
    with _lock:
        if asked not in _last:
            if len(_last) >= KEPT:
                del _last[next(iter(_last))]
            _last[asked] = _posterior(table, terms, judged)
        return _last[asked]


def _posterior(table: Table, terms: Terms, judged: FrozenTrial | None) -> Posterior:
    others = table if judged is None else table.without(judged.number)
    if terms.decay is None:
        return with_forms(_believed(observe(others, terms), terms, _early(table, terms, judged)))
    search = terms.decay

    def by_runs(ridge: Ridge) -> Posterior:
        told = dataclasses.replace(terms, ridge=ridge)
        return _believed(observe(others, told), told)

    @functools.cache
    def early(tilt: float) -> Array | None:
        # What a decay costs shows late: of short runs the rate alone is read.
        ridge = Ridge(search.middle, tilt, 0.0, 0.0)
        return _early(table, dataclasses.replace(terms, ridge=ridge), judged)

    def with_looks(ridge: Ridge, posterior: Posterior) -> Posterior:
        further = early(ridge.tilt)
        return posterior if further is None else posterior.told(further)

    return mixture(search, observe(others, terms), by_runs, with_looks)


def posterior_at(table: Table, terms: Terms, step: int) -> Posterior:
    """What all runs that got as far as a step say of the best rate then, as they were."""
    if terms.decay is None:
        return _believed(cross_section(table, step, terms), terms)

    def on_ridge(ridge: Ridge) -> Posterior:
        told = dataclasses.replace(terms, ridge=ridge)
        return _believed(cross_section(table, step, told), told)

    return mixture(terms.decay, cross_section(table, step, terms), on_ridge)


def _believed(seen: Observations, terms: Terms, further: Array | None = None) -> Posterior:
    return Posterior(seen, terms.priors, terms.low, terms.high, further, terms.thin)


def _early(table: Table, terms: Terms, judged: FrozenTrial | None) -> Array | None:
    """What runs that are not whole say of the optimum: a factor over its grid; None for nothing."""
    look = look_of(table, terms)
    step = judged.last_step if judged else look.step
    if not judged and not look.learned:  # the first report still shows which rates are far too low
        first = _earliest(table.column(first_report, 1))
        step = int(first) if math.isfinite(first) else 1
    return _further(table, terms, look, step) if step and look.step else None


def _further(table: Table, terms: Terms, look: Look, step: int) -> Array | None:
    """What the cross-section at a step says of the optimum at the end: a factor over its grid."""
    section = cross_section(table, step, terms)
    if step >= look.steps or not len(section.x):
        return None
    too_early = section.steps < LEARN_NOTHING or step < look.floor
    if too_early and section.y.min(initial=math.inf) > section.baseline + LEARNED:
        return None  # not even word frequencies may be learned by then, at any rate
    mu, weight = Posterior(section, {}, terms.low, terms.high, thin=terms.thin).own_density
    shift, sd = shift_to(step, look, terms)
    factor = np.exp(-0.5 * ((mu[:, None] + shift - mu) / sd) ** 2) @ weight
    return np.asarray(factor / factor.max() + OTHERWISE)


def _falls(table: Table, whole: Mask, objective: Objective) -> Array:
    """How fast each trial still fell at its end; NaN of those that ended before the longest."""
    last = table.column(last_step)
    longest = whole & (last == last[whole].max(initial=0.0))
    return np.where(longest, table.column(ending_fall, objective), np.nan)


def _sides(table: Table, terms: Terms) -> Array:
    """On which side of the best rate each trial lies; NaN where its course does not show it."""
    early = max(EARLY, terms.floor) * whole_length(table, terms)
    return table.column(side_of, terms.objective, terms.nats_baseline, early)


def _nats(trial: FrozenTrial, objective: Objective) -> float:
    """Its value at the end, in nats; NaN where it has not got there, -inf of an impossible one."""
    value = trial.value if trial.state == TrialState.COMPLETE else None
    if value is None or diverged(trial):
        return math.nan
    return objective.nats(value) if objective.valid(value) else -math.inf


def _under_way(trial: FrozenTrial) -> bool:
    return not trial.state.is_finished() and not is_paused(trial)


def _refuse(trial: FrozenTrial, objective: Objective) -> None:
    raise StudyError(
        f"trial {trial.number}: value must be a {objective.words}, {objective.bounds}, got "
        f"{trial.value:g}"
    )
