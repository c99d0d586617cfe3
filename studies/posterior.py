"""The response model's posterior: what a few trained rates say of the best one, on a grid.

    p(mu, r, a, D, w | results) ~ prior(mu) prior(r, a, D, w) p(results | mu, r, a, D, w)

The last two factors are `studies.likelihood`'s. The prior of the optimum mu is a mixture: the
scaling rules' normals, a wide normal round each of them, and a uniform share over the range, so
that a wrong rule is outlived. Whatever is asked of the posterior is a sum over the grid.

A seed's own optimum lies around the mean's (sd `SEED_SHIFT`), so what is claimed of the best rate,
and of what a rate costs at a new seed, is spread by that; the search itself looks for the optimum
of the seed that it trains.
"""

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Self

import numpy as np

from studies.likelihood import (
    Cells,
    Observations,
    Repeat,
    cells_of,
    gone,
    misfit,
    nearest,
    phi_of,
)
from studies.lost import off_chance
from studies.numbers import (
    ACCIDENT,
    GRID_STEP,
    LEARNED,
    LOST_BETWEEN,
    NO_RULE_WEIGHT,
    NOISES,
    NOTHING_TRIED,
    OUTSIDE,
    RULES_WEIGHT,
    SEED_SHIFT,
    SHIFT_WEIGHTS,
    SHIFTS,
    STEEPER,
    WALLS,
    WORTH,
)
from studies.prior import NO_RULE, Prior, parts_of
from studies.table import Array, Mask, Table
from studies.trials import ln_rate

FAR = 0.7  # nats above the lowest: what lies there was lost, or tells no more than that
LEANS = 0.25  # probability beyond an end of the range; a flat prior alone has 0.1 there
NEGLIGIBLE = 1e-4  # probability
INTERVALS = 31  # among which the shortest is looked for
MOST_LIKELY = 4000  # hypotheses: enough for what is asked of all of them at many rates
SAFER = np.arange(-1.5, 0.35, 0.1)  # places above mu at which the best rate is looked for
BAND_Z = np.array([-1.6, -0.8, 0.0, 0.8, 1.6])  # of a run around the curve, sd
BAND_SHARES = np.array([0.09, 0.235, 0.35, 0.235, 0.09])


class Posterior:
    """What is known of the best rate.

    Attributes:
        ln_evidence: ln of how likely the observations are under the priors, but for a constant.

    Args:
        seen: the observations.
        priors: what each rule says; empty where there is none.
        low: the lowest rate of the range.
        high: the highest.
        further: what else speaks for each optimum on the grid, a factor.
        thin: takes one of so many points of each axis of the grid.
    """

    def __init__(
        self,
        seen: Observations,
        priors: Mapping[str, Prior],
        low: float,
        high: float,
        further: Array | None = None,
        thin: int = 1,
    ) -> None:
        self._seen = seen
        self._low, self._high = math.log(low), math.log(high)
        self._mu = np.arange(self._low - OUTSIDE, self._high + OUTSIDE + GRID_STEP, GRID_STEP)
        self._told = RULES_WEIGHT / (1.0 - NO_RULE_WEIGHT) if priors else 1.0
        self._most = MOST_LIKELY // thin**2
        self._parts = parts_of(priors, self._mu)
        self._weigh_rules(further)
        self._cells: Cells = cells_of(seen, self._mu, self._prior, thin)
        self._weigh_cells()

    def told(self, further: Array) -> Self:
        """The same where something else speaks for each optimum on the grid.

        Args:
            further: a factor.
        """
        other = copy.copy(self)
        for name in [name for name in vars(self) if isinstance(_kind(name), cached_property)]:
            del other.__dict__[name]
        other._weigh_rules(further)
        other._weigh_cells()
        return other

    def _weigh_rules(self, further: Array | None) -> None:
        if further is not None:
            self._parts = {name: part * further for name, part in self._parts.items()}
        self._rules = {name: part for name, part in self._parts.items() if name != NO_RULE}
        anywhere = np.ones(len(self._mu)) if further is None else further
        self._rules[NO_RULE] = self._told * NO_RULE_WEIGHT * anywhere / len(self._mu)
        self._prior = np.asarray(sum(self._parts.values()))

    def _weigh_cells(self) -> None:
        cells = self._cells
        likely = cells.likelihood.astype(np.float64) * cells.prior[:, None, None]
        weights = likely * self._prior[cells.mu][:, None, None]
        self._weights = weights / weights.sum()
        self.ln_evidence = float(np.log(weights.sum())) + cells.ln_scale
        self._likelihood = np.bincount(cells.mu, likely.sum((1, 2)), len(self._mu))
        self._by_cell = self._weights.sum((1, 2))
        self._by_mu = np.bincount(cells.mu, self._by_cell, len(self._mu)).astype(np.float64)

    @property
    def seen(self) -> Observations:
        """What it rests on."""
        return self._seen

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest rate that is searched."""
        return math.exp(self._low), math.exp(self._high)

    @cached_property
    def density(self) -> tuple[Array, Array]:
        """The grid of ln rate, and each point's probability to be the optimum over the seeds."""
        mu, joint = self.belief
        return mu, joint.sum(1)

    @cached_property
    def belief(self) -> tuple[Array, Array]:
        """The same of each optimum and wall, over (grid, walls)."""
        distance = (self._mu[:, None] - self._mu) / SEED_SHIFT
        kernel = np.exp(-0.5 * distance**2)
        return self._mu, (kernel / kernel.sum(0)) @ self._by_wall

    @property
    def own_density(self) -> tuple[Array, Array]:
        """The same of the optimum of the seed that was trained."""
        return self._mu, self._by_mu

    @property
    def best_rate(self) -> float:
        """The median of the best rate."""
        return self._quantile(0.5)

    @property
    def learned(self) -> bool:
        """Whether any run has learned more than a model without context knows."""
        seen = self._seen
        return bool(len(seen.y)) and bool(seen.y.min() < seen.baseline - LEARNED)

    @property
    def noise(self) -> float:
        """The sd between runs at one rate, nats."""
        return math.sqrt(float(self._weights.sum((0, 2)) @ NOISES**2))

    @property
    def depth(self) -> float:
        """How far the best rate lies below a model without context, nats."""
        return float(self._by_cell @ self._cells.depth)

    def ln_evidence_of(self, x: Array, y: Array, repeats: Sequence[Repeat] = ()) -> float:
        """ln of how likely results alone are, under the same priors.

        Args:
            x: ln rates.
            y: what they came to, nats.
            repeats: results of other seeds.
        """
        seen, none = self._seen, np.zeros(0)
        others = len(seen.lost) or seen.courses or len(repeats) < len(seen.repeats)
        if not others and len(x) == len(seen.x):
            return self.ln_evidence - math.log(self._prior.sum())
        alone = dataclasses.replace(
            seen, x=x, y=y, lost=none, running=none, fall=None, side=None, repeats=tuple(repeats)
        )
        cells = cells_of(alone, self._mu, self._prior)
        likely = cells.likelihood.sum((1, 2)) * cells.prior * self._prior[cells.mu]
        return float(np.log(likely.sum() / self._prior.sum())) + cells.ln_scale

    def interval(self, mass: float = 0.9) -> tuple[float, float]:
        """The shortest interval, in ln rate, that holds the best one with a probability of `mass`.

        A thin tail on one side, such as of hypotheses that explain a run by an accident, is left
        out as a person would leave it out; but a fifth of what is left out lies on either side, and
        the rate of the lowest result within, where that can be.
        """
        rest = 1.0 - mass
        begins = np.linspace(0.2 * rest, 0.8 * rest, INTERVALS)
        low, high = quantiles(*self.density, np.stack([begins, begins + mass]))
        length = np.round((high - low) / GRID_STEP)
        if len(self._seen.y):
            lowest = self._seen.x[self._seen.y.argmin()]
            holds = (low <= lowest) & (lowest <= high)
            length = np.where(holds | ~holds.any(), length, math.inf)
        # Of equally short ones the middle: where nothing is known, all are.
        shortest = np.flatnonzero(length == length.min())
        place = int(shortest[len(shortest) // 2])
        return math.exp(low[place]), math.exp(high[place])

    @property
    def spread(self) -> float:
        """How far the best ln rate is known: the sd of a normal with the same middle half."""
        return math.log(self._quantile(0.75) / self._quantile(0.25)) / 1.349

    @property
    def edge(self) -> str:
        """Where the best rate may well lie out of the range: "lower", "upper" or ""."""
        mu, weight = self.density
        below, above = weight[mu < self._low].sum(), weight[mu > self._high].sum()
        if max(below, above) < LEANS:
            return ""
        return "lower" if below > above else "upper"

    def rule_weights(self) -> dict[str, float]:
        """How much each rule is believed, `NO_RULE` included; together 1.

        Rule k's weight is w_k times the integral of its normal against the likelihood (Bayes
        factors); for 1 in 10 none of them is right, and the best rate may be anywhere.
        """
        shares = {name: float(part @ self._likelihood) for name, part in self._rules.items()}
        return {name: share / sum(shares.values()) for name, share in shares.items()}

    def where(self, trials: Table) -> Array:
        """Where trials lie, as `improvement` and `regret` take it; NaN of those without a place."""
        return trials.column(ln_rate)

    def improvement(self, x: Array, cost: Array | float = 0.0) -> Array:
        """What a training at each rate is expected to gain.

        The expected fall of ln(regret + `WORTH`), where the regret is how far a rate lies above
        the optimum in nats: to halve a small regret counts as much as to halve a large one, down
        to what is worth a training. By expected improvement itself (Jones et al. 1998, Journal of
        Global Optimization 13) the large ones outweigh all others, which with a right prior costs
        most of a training more (measured). Running trials count as tried: what they will reach
        follows under each hypothesis, so the next rate complements them.

        Args:
            x: ln rates.
            cost: what else a training there costs, nats, each or all.

        Returns:
            The gain at each, at least 0.
        """
        likely = self._by_mu > NEGLIGIBLE / len(self._mu)
        weight, curvature, depth = (each[likely] for each in self._by_shape)
        mu = self._mu[likely]
        distance = x - mu[:, None]
        there = phi_of(distance[:, None, :], STEEPER[:, None])
        before = self._least_gone(mu, curvature, depth) + WORTH
        after = gone(depth[..., None], curvature[..., None], there) + WORTH + cost
        ratio = before[..., None] / after
        expected = np.einsum("mr,mrx->mx", weight, np.log(np.maximum(ratio, 1.0)))
        return np.asarray((expected * (1.0 - self._off(distance, likely))).sum(0))

    def regret(self, x: Array, cost: Array | float = 0.0) -> Array:
        """What is left to gain over each rate at a new seed, in nats, as expected.

        Under each hypothesis a rate costs its height above the optimum, and where it may be lost
        what is lost then, both over the seeds; what is left to gain is that less the cost of the
        rate that is best under the hypothesis, which next to a wall is not mu.

        Args:
            x: ln rates.
            cost: as of `improvement`.
        """
        mu, weight, hypothesis = self._hypotheses
        place = np.array([self._cost(each - mu, hypothesis) for each in x]).reshape(len(x), -1)
        left = place + np.reshape(cost, (-1, 1)) - self._least[None, :]
        return np.asarray(np.maximum(left, 0.0) @ weight)

    def most_left(self, x: float | Array, confidence: float = 0.9) -> float:
        """What is left to gain over ln rate x, as a share (0.01: 1 %), is at most this.

        Args:
            x: ln rate, as `where` has it of one trial.
            confidence: the probability with which it is.
        """
        return at_most(*self.left(x), confidence)

    def left(self, x: float | Array, cost: float = 0.0) -> tuple[Array, Array]:
        """What is left to gain over ln rate x by hypothesis, the likeliest ones: nats, weights.

        Args:
            x: ln rate.
            cost: as of `improvement`.
        """
        mu, weight, hypothesis = self._hypotheses
        return self._cost(x - mu, hypothesis) + cost - self._least, weight

    @cached_property
    def _least(self) -> Array:
        """What the best rate costs, by hypothesis."""
        _, _, hypothesis = self._hypotheses
        return np.asarray(np.min([self._cost(place, hypothesis) for place in SAFER], axis=0))

    @cached_property
    def _hypotheses(self) -> tuple[Array, Array, tuple[Array, ...]]:
        """The likeliest (mu, r, a, D, w): mu, weights that make 1, and r, a, D and w."""
        by_wall = self._weights.sum(1)
        likely = np.argsort(by_wall, axis=None)[-self._most :]
        cell, wall = np.unravel_index(likely, by_wall.shape)
        weight = by_wall[cell, wall]
        cells = self._cells
        rest = cells.steeper[cell], cells.curvature[cell], cells.depth[cell], WALLS[wall]
        return self._mu[cells.mu[cell]], weight / weight.sum(), rest

    def _cost(self, distance: Array | float, hypothesis: tuple[Array, ...]) -> Array:
        """What a rate so far above mu costs over the seeds, nats, by hypothesis."""
        steeper, curvature, depth, wall = hypothesis
        cost = np.zeros(len(depth))
        for shift, share in zip(SHIFTS * self._new_seed_sd, SHIFT_WEIGHTS, strict=True):
            seen = np.broadcast_to(distance - shift, depth.shape)
            on = gone(depth, curvature, phi_of(seen, steeper))
            off = off_chance(seen, wall) - ACCIDENT
            between = (1.0 - LOST_BETWEEN / 2) * depth
            cost += share * (on + off * np.maximum(between - on, 0.0))
        return cost

    def lost(self, x: Array) -> Array:
        """The probability that training at each ln rate is lost at a new seed."""
        found = np.zeros(len(x))
        wall = self._by_wall
        for shift, share in zip(SHIFTS * self._new_seed_sd, SHIFT_WEIGHTS, strict=True):
            off = off_chance((x[:, None] - shift - self._mu)[..., None])
            found += share * np.einsum("xmw,mw->x", off, wall)
        return found

    def outcomes(self, x: Array, most: int = MOST_LIKELY) -> tuple[Array, Array]:
        """What a run of the study's seed may reach at each ln rate: nats and weights.

        Of the likeliest hypotheses, each on the curve, noise and misfit included, or lost.

        Args:
            x: ln rates.
            most: hypotheses at the most.

        Returns:
            Both over (x, outcomes); the weights of a rate make 1.
        """
        cells = self._cells
        likely = np.argsort(self._by_cell)[-most:]
        weight = self._by_cell[likely] / self._by_cell[likely].sum()
        walls = self._weights.sum(1)[likely]
        walls /= walls.sum(1, keepdims=True)
        baseline, depth = cells.baseline[likely], cells.depth[likely]
        distance = x[:, None] - self._mu[cells.mu[likely]]
        rise = gone(depth, cells.curvature[likely], phi_of(distance, cells.steeper[likely]))
        spread = np.hypot(misfit(depth, rise), self.noise)
        off = np.einsum("xcw,cw->xc", off_chance(distance[..., None]), walls)
        on = [baseline - depth + rise + z * spread for z in BAND_Z]
        lost = [baseline - depth / 2, np.broadcast_to(baseline, off.shape)]
        values = [*on, np.broadcast_to(lost[0], off.shape), lost[1]]
        shares = [share * (1 - off) for share in BAND_SHARES]
        shares += [LOST_BETWEEN * off, (1 - LOST_BETWEEN) * off]
        return np.concatenate(values, 1), np.concatenate([weight * each for each in shares], 1)

    @property
    def _new_seed_sd(self) -> float:
        """Of a new seed's optimum around the one that the runs show: both have their shift."""
        return SEED_SHIFT * math.sqrt(2)

    @cached_property
    def _by_shape(self) -> tuple[Array, Array, Array]:
        """Weight, mean curvature and mean depth, each over (mu, r)."""
        cells = self._cells
        steeper = np.searchsorted(STEEPER, cells.steeper)
        place, size = cells.mu * len(STEEPER) + steeper, len(self._mu) * len(STEEPER)
        sums = [
            np.bincount(place, self._by_cell * each, size).astype(float).reshape(-1, len(STEEPER))
            for each in (np.ones(len(place)), cells.curvature, cells.depth)
        ]
        weight = np.maximum(sums[0], 1e-300)
        return sums[0], np.maximum(sums[1] / weight, 1e-6), np.maximum(sums[2] / weight, 0.05)

    @cached_property
    def _by_wall(self) -> Array:
        """The probability of each optimum and wall, over (mu, wall)."""
        wall = np.zeros((len(self._mu), len(WALLS)))
        np.add.at(wall, self._cells.mu, self._weights.sum(1))
        return wall

    def _off(self, distance: Array, likely: Mask) -> Array:
        """The probability that a run so far from mu is off the curve, over (mu, x)."""
        wall = self._by_wall[likely]
        share = wall / np.maximum(wall.sum(1, keepdims=True), 1e-300)
        return np.asarray(np.einsum("mxw,mw->mx", off_chance(distance[..., None]), share))

    def _least_gone(self, mu: Array, curvature: Array, depth: Array) -> Array:
        """How far the best rate tried lies above the optimum, nats, over (mu, r)."""
        seen = self._seen
        tried = np.concatenate([seen.x[self.on_curve], seen.running])
        if not len(tried):
            return gone(depth, curvature, np.full((len(mu), 1), NOTHING_TRIED**2))
        if seen.cost is None or seen.running_cost is None:
            below, above = nearest(mu, np.unique(tried))
            phi = np.minimum(below[:, None] ** 2, STEEPER * above[:, None] ** 2)
            return gone(depth, curvature, phi)
        there = phi_of((tried - mu[:, None])[:, None, :], STEEPER[:, None])
        cost = np.concatenate([seen.cost[self.on_curve], seen.running_cost])
        return np.asarray((gone(depth[..., None], curvature[..., None], there) + cost).min(-1))

    @cached_property
    def on_curve(self) -> Mask:
        """Which results are likely on the curve, not lost: (results,)."""
        seen = self._seen
        if not len(seen.y):
            return np.zeros(0, bool)
        return np.asarray(seen.y < seen.y.min() + FAR)

    def _quantile(self, probability: float) -> float:
        return math.exp(quantiles(*self.density, np.array(probability)))


def quantiles(mu: Array, weight: Array, probabilities: Array) -> Array:
    """The ln rates below which the optimum lies with these probabilities.

    Args:
        mu: the grid of ln rate.
        weight: the probability of each of its points to be the optimum.
        probabilities: of any shape.
    """
    return np.asarray(np.interp(probabilities, np.cumsum(weight), mu + GRID_STEP / 2))


def at_most(left: Array, weight: Array, confidence: float) -> float:
    """What is left to gain, as a share, is at most this.

    Args:
        left: what it is by hypothesis, nats.
        weight: of each hypothesis; together 1.
        confidence: the probability with which it is.
    """
    order = np.argsort(left)
    place = int(np.searchsorted(np.cumsum(weight[order]), confidence))
    return math.expm1(min(max(float(left[order[min(place, len(order) - 1)]]), 0.0), 10.0))


def _kind(name: str) -> object:
    return getattr(Posterior, name, None)
