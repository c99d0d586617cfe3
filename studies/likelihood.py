"""How likely a study's results are under each curve that the response may have.

With x = ln rate, y what a run comes to in nats, such as ln perplexity, and B the y of a model that
knows no context,

    y(x) = B - D exp(-u - u^2 / 4),    u = a phi(x) / D,

with phi(x) = (x - mu)^2 left of mu, r (x - mu)^2 right of it:
what is gained over B is a bump around the optimum mu, D high; near mu the curve is the parabola
m + a phi with m = B - D, and far out on either side nothing is gained. Each run lies on the curve,
or off it with a probability that rises from a wall at w above mu on: a contaminated normal (Box and
Tiao 1968, Biometrika 55), one mixture a run, so that every run that is explained by an accident
costs one. mu, r, a, D, w and the noise s live on a grid: nothing is approximated but by the grid.

Where B is unknown it is a hypothesis too: that no run has learned anything, that the worst one
shows it, or that none does. All numbers stand in `studies.numbers`.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

import numpy as np

from studies.lost import (
    between_density,
    learns_chance,
    lost_density,
    off_chance,
    too_low_chance,
    wall_prior,
)
from studies.numbers import (
    ACCIDENT,
    ALIKE,
    ALL_ALIKE,
    BELOW_LOWEST,
    CLOSE,
    CLOSEST,
    CURVATURE_CLASSES,
    CURVATURES,
    DEPTH_MISFIT,
    FLATTENS,
    LEARNED,
    LEARNED_SD,
    MOST_RESULTS,
    NOISE_WEIGHTS,
    NOISES,
    SEED_LEVEL,
    SEED_SHIFT,
    SHIFT_WEIGHTS,
    SHIFTS,
    SLOPE_MISFIT,
    STEEPER,
    STEEPER_WEIGHTS,
    TOO_LOW_RISE,
    UNKNOWN_DEPTH,
)
from studies.objective import Objective
from studies.progress import log_fit, log_side
from studies.table import Array, Indices, Mask, Singles

NEVER_SURE = 1e-3  # that a run is off the curve
FORGOTTEN = 1e-9  # cells so much less likely than the likeliest are left out from then on
IN_A_SWEEP = 20  # results that are taken by their rank
HIGHEST = 2.0  # nats above B; what ends further up says no more


@dataclass(frozen=True, slots=True)
class Repeat:
    """A run at another seed than the study's.

    Attributes:
        seed: its own.
        x: ln rate.
        y: what it came to, in nats; infinite where it diverged.
        decay: its ln weight decay; None where that is not searched.
    """

    seed: int
    x: float
    y: float
    decay: float | None = None


@dataclass(frozen=True, slots=True)
class Observations:
    """What a study has seen; rates as ln rate.

    Attributes:
        x: rates with a result.
        y: what they came to, in nats.
        lost: rates that diverged.
        running: rates whose result is still to come.
        baseline: what a model comes to that knows no context; infinite where it is unknown.
        fall: how fast each result still fell at its end (`studies.progress`), nats for each unit of
            ln step, NaN where it says nothing; None where none does.
        side: -1 where a result's course shows that its rate is too low, 1 where it is too high,
            likewise.
        repeats: runs of the same thing with other seeds.
        objective: of whose values these are the nats.
        cost: what each result's weight decay is supposed to have cost, nats, which y is without;
            None where it is not searched.
        running_cost: the same of those whose result is still to come.
        steps: optimizer steps behind the results; infinite where they are unknown.
    """

    x: Array
    y: Array
    lost: Array
    running: Array
    baseline: float = math.inf
    fall: Array | None = None
    side: Array | None = None
    repeats: tuple[Repeat, ...] = ()
    objective: Objective = field(default_factory=Objective)
    cost: Array | None = None
    running_cost: Array | None = None
    steps: float = math.inf

    @property
    def courses(self) -> bool:
        """Whether the course of any result says something of its rate."""
        return _says(self.fall) or _says(self.side)


@dataclass(slots=True)
class Cells:
    """The likely hypotheses: one (mu, r, a, B, D) each, by every noise and wall.

    Attributes:
        mu: indices into the grid of mu, (cells,); likewise steeper and curvature.
        baseline: B, (cells,).
        depth: D, (cells,).
        known_baseline: whether B is known.
        steps: optimizer steps behind the results.
        prior: of r, a, B and D.
        likelihood: (cells, noises, walls), the priors of noise and wall among it.
        ln_scale: ln of the factor that was taken out of it.
    """

    mu: Indices
    steeper: Array
    curvature: Array
    baseline: Array
    depth: Array
    known_baseline: bool
    steps: float
    prior: Array
    likelihood: Singles
    ln_scale: float = 0.0

    def kept(self, which: Mask) -> None:
        """Forgets the others."""
        for name in ("mu", "steeper", "curvature", "baseline", "depth", "prior", "likelihood"):
            setattr(self, name, getattr(self, name)[which])


def cells_of(seen: Observations, mu: Array, prior: Array, thin: int = 1) -> Cells:
    """The likely cells with their likelihoods.

    Args:
        seen: the observations.
        mu: the grid, ln rate.
        prior: of each mu; it only decides which cells are too unlikely to be kept.
        thin: takes one of so many points of each axis of the grid.
    """
    cells = _every_cell(seen, len(mu), thin)
    place = np.searchsorted(CURVATURES, cells.curvature)
    cells.likelihood = _single(noise_prior()[:, :, None] * wall_prior())[place]
    for x in merged(seen.lost, np.zeros(len(seen.lost)))[0]:
        _take(cells, mu, prior, _lost_chance(cells, mu, float(x)))
    for x, y in zip(*in_turn(*merged(seen.x, seen.y)), strict=True):
        _take(cells, mu, prior, _density(cells, mu, float(x), float(y)))
    _take_falls(cells, seen, mu)
    _take_sides(cells, seen, mu)
    for seed in sorted({repeat.seed for repeat in seen.repeats}):
        runs = [repeat for repeat in seen.repeats if repeat.seed == seed]
        _take(cells, mu, prior, _seed_density(cells, mu, runs))
    return cells


def merged(x: Array, y: Array) -> tuple[Array, Array]:
    """The same results; of more than `MOST_RESULTS`, those of almost one rate and value are one.

    So many at one rate say no more of the curve than a few do: they share its misfit there.

    Args:
        x: ln rates.
        y: what they came to, in nats.

    Returns:
        Rates and values, the means of what was merged.
    """
    rates, values, size = x, y, 1.0
    while len(rates) > MOST_RESULTS:
        bins = np.stack([np.round(x / (size * ALIKE[0])), np.round(y / (size * ALIKE[1]))])
        _, place, count = np.unique(bins, axis=1, return_inverse=True, return_counts=True)
        rates, values = (np.bincount(place.ravel(), each) / count for each in (x, y))
        size *= 2.0
    return rates, values


def in_turn(x: Array, y: Array) -> tuple[Array, Array]:
    """Results from the lowest on, as that leaves the fewest cells; of many every so-manieth first.

    Of many, the lowest are the luckiest: the cells that explain those best explain no others.
    """
    order = np.argsort(y, kind="stable")
    sweeps = math.ceil(len(y) / IN_A_SWEEP)
    order = np.concatenate([order[:0], *(order[first::sweeps] for first in range(sweeps))])
    return x[order], y[order]


def _seed_density(cells: Cells, mu: Array, runs: Sequence[Repeat]) -> Singles:
    """Of another seed's results, over (cells, noises, walls): its shifts are summed over."""
    total = np.zeros(cells.likelihood.shape, np.float32)
    shifts = zip(SHIFTS * math.sqrt(2), SHIFT_WEIGHTS, strict=True)
    for (x_shift, x_share), (y_shift, y_share) in itertools.product(shifts, repeat=2):
        shift, level = x_shift * SEED_SHIFT, y_shift * SEED_LEVEL
        product = np.full(cells.likelihood.shape, x_share * y_share, np.float32)
        for run in runs:
            if math.isfinite(run.y):
                product *= _density(cells, mu, run.x - shift, run.y - level)
            else:
                product *= _lost_chance(cells, mu, run.x - shift)
        total += product
    return total


def _lost_chance(cells: Cells, mu: Array, x: float) -> Singles:
    """That a run diverges, over (cells, 1, walls)."""
    return _single(off_chance((x - mu)[:, None]))[cells.mu][:, None, :]


def _take_falls(cells: Cells, seen: Observations, mu: Array) -> None:
    """Multiplies in how fast the runs near the lowest still fell."""
    if not _says(seen.fall):
        return
    known = np.flatnonzero(~np.isnan(seen.fall))
    highest = min(seen.y[known].min() + CLOSE, seen.baseline - LEARNED)
    close = known[seen.y[known] < highest]
    used = close[np.argsort(seen.y[close], kind="stable")[:CLOSEST]]
    fit = log_fit(seen.x[used], seen.fall[used], mu, CURVATURES)
    place = np.searchsorted(CURVATURES, cells.curvature)
    _take_log(cells, fit[cells.mu, place])


def _take_sides(cells: Cells, seen: Observations, mu: Array) -> None:
    """Multiplies in on which side the runs lie that learned next to nothing."""
    if _says(seen.side):
        known = ~np.isnan(seen.side)
        _take_log(cells, log_side(seen.x[known], seen.side[known], mu)[cells.mu])


def _says(course: Array | None) -> TypeGuard[Array]:
    """Whether it is known of any result."""
    return course is not None and not np.isnan(course).all()


def _take_log(cells: Cells, likely: Array) -> None:
    """Multiplies in what is the same at every noise and wall, ln over (cells,)."""
    cells.likelihood *= np.exp(likely - likely.max()).astype(np.float32)[:, None, None]
    cells.ln_scale += float(likely.max())


def gone(depth: Array, curvature: Array, phi: Array) -> Array:
    """How far a rate lies above the optimum, nats."""
    u = curvature * phi / depth
    return np.asarray(depth * -np.expm1(-u - FLATTENS * u * u))


def misfit(depth: Array, rise: Array) -> Array:
    """The sd of the curve's own error where it has risen so far, nats."""
    left = np.maximum(1.0 - rise / depth, 1e-9)
    u = (np.sqrt(1.0 - 4.0 * FLATTENS * np.log(left)) - 1.0) / (2.0 * FLATTENS)
    return np.asarray(depth * np.hypot(SLOPE_MISFIT * u * left, DEPTH_MISFIT * (1.0 - left)))


def phi_of(distance: Array, steeper: Array) -> Array:
    """phi of a rate so far above mu."""
    return np.asarray(distance**2 * np.where(distance > 0, steeper, 1.0))


def nearest(x: Array, points: Array) -> tuple[Array, Array]:
    """How far below and above each x the next point lies; infinite where there is none.

    Args:
        x: anywhere.
        points: increasing.
    """
    ends = np.concatenate([[-math.inf], points, [math.inf]])
    place = np.searchsorted(ends, x, side="right")
    return x - ends[place - 1], ends[np.minimum(place, len(ends) - 1)] - x


def _take(cells: Cells, mu: Array, prior: Array, density: Singles) -> None:
    """Multiplies one run in, and forgets what has become too unlikely."""
    cells.likelihood *= density
    likely = cells.likelihood.sum((1, 2)) * cells.prior * prior[cells.mu]
    highest = float(likely.max())
    kept = likely > FORGOTTEN * highest
    if kept.mean() < 0.8:
        cells.kept(kept)
    top = cells.likelihood.max()
    cells.likelihood /= top
    cells.ln_scale += math.log(top)


def _density(cells: Cells, mu: Array, x: float, y: float) -> Singles:
    """Of one run's result, over (cells, noises, walls)."""
    distance = x - mu
    capped = np.minimum(y, cells.baseline + HIGHEST)
    above, depth = _single(capped - cells.baseline), _single(cells.depth)
    phi = phi_of(distance[cells.mu], cells.steeper)
    u = _single(cells.curvature * phi / cells.depth)
    left = np.exp(-u - FLATTENS * u * u)
    residual = above + depth * left
    error = (SLOPE_MISFIT * depth * u * left) ** 2 + (DEPTH_MISFIT * depth * (1 - left)) ** 2
    spread = error[:, None] + _single(NOISES**2)
    on = np.exp(-0.5 * residual[:, None] ** 2 / spread) / np.sqrt(2 * np.pi * spread)
    off = _single(off_chance(distance[:, None]))[cells.mu]
    low = _single(too_low_chance(distance, cells.steps) * cells.known_baseline)[cells.mu, None]
    held = np.maximum(1.0 - off - low, np.float32(NEVER_SURE))
    learns = _single(learns_chance(distance[:, None]))[cells.mu]
    elsewhere = off * lost_density(above)[:, None] + learns * between_density(above, depth)[:, None]
    elsewhere += low * np.where(above > -0.02, 1.0 / TOO_LOW_RISE, 1e-6)[:, None]
    density: Singles = on[:, :, None] * held[:, None, :]
    density += _single(elsewhere)[:, None, :]
    return density


def _single(values: Array) -> Singles:
    return values.astype(np.float32)


def _every_cell(seen: Observations, grid: int, thin: int) -> Cells:
    baseline, depth, weight = (each[::thin] for each in _levels(seen))
    axes = np.arange(grid)[::thin], STEEPER[::thin], CURVATURES[::thin], np.arange(len(depth))
    mu, steeper, curvature, level = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    shape = STEEPER_WEIGHTS[::thin, None, None] * _curvature_classes().sum(0)[::thin, None]
    prior = shape * weight
    return Cells(
        mu,
        steeper,
        curvature,
        baseline[level],
        depth[level],
        math.isfinite(seen.baseline) or _all_alike(seen),
        seen.steps,
        np.tile(prior.ravel(), len(axes[0])),
        np.empty(0, np.float32),
    )


def _levels(seen: Observations) -> tuple[Array, Array, Array]:
    """Pairs of B and D with their weights."""
    known = math.isfinite(seen.baseline)
    if not len(seen.y):
        top = seen.baseline if known else UNKNOWN_DEPTH
        return np.array([top]), np.array([min(UNKNOWN_DEPTH, max(top, 0.1))]), np.ones(1)
    # Of many results the lowest is the luckiest, far below the curve.
    lowest = float(np.sort(seen.y)[len(seen.y) // 20])
    highest = float(seen.y.max())
    if known:
        tops = [(seen.baseline, 1.0)]
    else:
        plateau = highest if _all_alike(seen) else lowest + 0.05
        tops = [(plateau, 0.25), (lowest + UNKNOWN_DEPTH, 0.4)]
        tops += [(highest, 0.35)] if highest > lowest + 0.3 else []
    widths = np.gradient(BELOW_LOWEST)
    parts = []
    for top, share in tops:
        depth = top - min(lowest, top) + BELOW_LOWEST
        sound = depth > 0.02
        learned = 0.5 * (1.0 + np.tanh(0.85 * (depth - LEARNED) / LEARNED_SD)) + ACCIDENT
        weight = share * widths * learned
        parts.append((np.full(int(sound.sum()), top), depth[sound], weight[sound]))
    baseline, depth, weight = (np.concatenate(each) for each in zip(*parts, strict=True))
    return baseline, depth, weight


def _all_alike(seen: Observations) -> bool:
    """Whether several results may be the plateau itself, on which nothing is learned."""
    return len(seen.y) >= 3 and bool(np.ptp(seen.y) < ALL_ALIKE)


def _curvature_classes() -> Array:
    """The probability of each class and curvature: (classes, curvatures)."""
    middle, sd, weight = np.array(CURVATURE_CLASSES).T[..., None]
    z = np.log(CURVATURES / middle) / sd
    density = weight * np.exp(-0.5 * z**2) / sd
    return np.asarray(density / density.sum())


def noise_prior() -> Array:
    """The probability of each noise, (curvatures, noises): long trainings have less of it."""
    classes = _curvature_classes()
    return np.asarray((classes / classes.sum(0)).T @ NOISE_WEIGHTS)
