"""What trials say of the best rate and weight decay together: a sum over the ridges of both.

On one ridge (`studies.decay`) rate and decay are one coordinate, and all that is known of rates
holds in it: a ridge's posterior is a `Posterior` of the trials as it sees them, and counts by how
likely it makes them. Whatever is asked is a sum over the ridges.

A place is a row of ln rate and ln decay. Where ln rates alone are asked for, they are those at one
decay, that of `at`.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from studies.decay import DecaySearch, Ridge, ln_decay, ridges
from studies.likelihood import Observations
from studies.numbers import GRID_STEP, LIKELY_RIDGES
from studies.posterior import MOST_LIKELY, Posterior, quantiles
from studies.table import Array, Table

ENDS = 0.4  # probability in the last part of the range: a flat prior has 0.125 there
DRAWN = 8  # ridges that the curve's band is made of, at most


@dataclass(frozen=True, slots=True)
class Part:
    """A ridge, what is known of the rate on it, and the ridge's probability."""

    ridge: Ridge
    posterior: Posterior
    weight: float


def mixture(
    search: DecaySearch,
    seen: Observations,
    by_runs: Callable[[Ridge], Posterior],
    whole: Callable[[Ridge, Posterior], Posterior] = lambda _, posterior: posterior,
) -> "RidgePosterior":
    """The posterior over all ridges; the likely ones alone are worked out whole.

    Args:
        search: what is known of the decay before.
        seen: the observations as they are, by ln rate.
        by_runs: the posterior on a ridge; it says how likely that one is.
        whole: the same with all that is known.
    """
    found = [(ridge, by_runs(ridge), math.log(prior)) for ridge, prior in ridges(search)]
    likely = np.array([posterior.ln_evidence + prior for _, posterior, prior in found])
    weight = np.exp(likely - likely.max())
    order = np.argsort(-weight, kind="stable")
    reached = np.cumsum(weight[order]) / weight.sum()
    kept = np.sort(order[: 1 + int((reached < LIKELY_RIDGES).sum())])
    weight /= weight[kept].sum()
    parts = [Part(found[k][0], whole(*found[k][:2]), float(weight[k])) for k in kept]
    return RidgePosterior(parts, search, seen)


class RidgePosterior(Posterior):
    """What is known of the best rate and the best weight decay.

    Args:
        parts: ridges, their weights together 1.
        search: what was known of the decay before.
        seen: the observations as they are, by ln rate.
    """

    def __init__(self, parts: Sequence[Part], search: DecaySearch, seen: Observations) -> None:
        self._parts_of, self._search, self._seen = parts, search, seen
        low, high = parts[0].posterior.range
        self._low, self._high = math.log(low), math.log(high)
        self._mu = parts[0].posterior.density[0]
        self._at = math.log(search.middle)

    def at(self, decay: float) -> Self:
        """The same, where ln rates alone are asked for at this decay; at first it is the middle."""
        there = copy.copy(self)
        there._at = math.log(decay)
        for name in ("belief", "density"):
            there.__dict__.pop(name, None)
        return there

    @property
    def search(self) -> DecaySearch:
        """What was known of the decay before."""
        return self._search

    @property
    def decay_range(self) -> tuple[float, float]:
        """The lowest and the highest decay that is searched."""
        return self._search.low, self._search.high

    @cached_property
    def decay_density(self) -> tuple[Array, Array]:
        """The places of the best decay, ln, and the probability of each."""
        places = self._search.places
        weight = np.zeros(len(places))
        for part in self._parts_of:
            weight[np.abs(places - part.ridge.place).argmin()] += part.weight
        return places + math.log(self._search.middle), weight

    @property
    def best_decay(self) -> float:
        """The median of the best decay."""
        return self._decay_quantile(0.5)

    def decay_interval(self, mass: float = 0.9) -> tuple[float, float]:
        """The central interval that holds the best decay with a probability of `mass`."""
        return self._decay_quantile(0.5 - mass / 2), self._decay_quantile(0.5 + mass / 2)

    @property
    def decay_edge(self) -> str:
        """Where the best decay may well lie out of the range: "lower", "upper" or ""."""
        weight = self.decay_density[1]
        if max(weight[0], weight[-1]) < ENDS:
            return ""
        return "lower" if weight[0] > weight[-1] else "upper"

    @property
    def tilt(self) -> float:
        """How far the best ln rate falls for each ln of the decay, as expected."""
        return sum(part.weight * part.ridge.tilt for part in self._parts_of)

    @cached_property
    def density(self) -> tuple[Array, Array]:
        """The grid of ln rate, and each point's probability to be the optimum, at any decay."""
        shares = [
            part.weight * self._moved(part.posterior.density[1], part, part.ridge.place)
            for part in self._parts_of
        ]
        return self._mu, np.asarray(sum(shares))

    @cached_property
    def belief(self) -> tuple[Array, Array]:
        """The probability of each optimum and wall at one decay, over (grid, walls)."""
        z = self._at - math.log(self._search.middle)
        shares = [
            part.weight * self._moved(part.posterior.belief[1], part, z) for part in self._parts_of
        ]
        return self._mu, np.asarray(sum(shares))

    @property
    def own_density(self) -> tuple[Array, Array]:
        """The same of each optimum."""
        mu, joint = self.belief
        return mu, joint.sum(1)

    @property
    def spread(self) -> float:
        """How far the best ln rate at one decay is known."""
        low, high = self.interval_here(0.5)
        return math.log(high / low) / 1.349

    @property
    def rate_here(self) -> float:
        """The median of the best rate at one decay."""
        return self.interval_here(0.0)[0]

    def interval_here(self, mass: float = 0.9) -> tuple[float, float]:
        """The central interval of the best rate at one decay."""
        low, high = quantiles(*self.own_density, np.array([0.5 - mass / 2, 0.5 + mass / 2]))
        return math.exp(low), math.exp(high)

    @property
    def noise(self) -> float:
        """The sd between runs at one rate and decay, nats."""
        return math.sqrt(sum(part.weight * part.posterior.noise**2 for part in self._parts_of))

    def rule_weights(self) -> dict[str, float]:
        """How much each rule is believed at the middle decay, `NO_RULE` included; together 1."""
        shares: dict[str, float] = {}
        for part in self._parts_of:
            for name, share in part.posterior.rule_weights().items():
                shares[name] = shares.get(name, 0.0) + part.weight * share
        return shares

    def where(self, trials: Table) -> Array:
        """Where trials lie, (trials, 2); NaN of those without a place."""
        return np.stack([super().where(trials), trials.column(ln_decay)], axis=-1)

    def improvement(self, x: Array, cost: Array | float = 0.0) -> Array:
        """What a training at each place is expected to gain."""
        return self._sum(lambda part, at, costs: part.improvement(at, costs + cost), x)

    def regret(self, x: Array, cost: Array | float = 0.0) -> Array:
        """What is left to gain over each place at a new seed, in nats, as expected."""
        return self._sum(lambda part, at, costs: part.regret(at, costs + cost), x)

    def lost(self, x: Array) -> Array:
        """The probability that training at each place is lost at a new seed."""
        return self._sum(lambda part, at, costs: part.lost(at), x)

    def left(self, x: float | Array, cost: float = 0.0) -> tuple[Array, Array]:
        """What is left to gain over a place under each of the likeliest hypotheses, and weights."""
        place = self._places(np.asarray(x)[None])[0]
        found = [
            part.posterior.left(float(part.ridge.x(place)), cost + float(part.ridge.cost(place)))
            for part in self._parts_of
        ]
        weights = [
            part.weight * each for part, (_, each) in zip(self._parts_of, found, strict=True)
        ]
        return np.concatenate([left for left, _ in found]), np.concatenate(weights)

    def outcomes(self, x: Array, most: int = MOST_LIKELY) -> tuple[Array, Array]:
        """What a run of the study's seed may reach at each place: nats and weights."""
        places = self._places(x)
        parts = sorted(self._parts_of, key=lambda part: -part.weight)[:DRAWN]
        total = sum(part.weight for part in parts)
        values, weights = [], []
        for part in parts:
            reached, share = part.posterior.outcomes(part.ridge.x(places), most // len(parts))
            values.append(reached + part.ridge.cost(places)[:, None])
            weights.append(share * part.weight / total)
        return np.concatenate(values, 1), np.concatenate(weights, 1)

    def _places(self, x: Array) -> Array:
        return x if x.ndim == 2 else np.stack([x, np.full(len(x), self._at)], axis=-1)

    def _sum(self, asked: Callable[[Posterior, Array, Array], Array], x: Array) -> Array:
        places = self._places(x)
        found = [
            part.weight * asked(part.posterior, part.ridge.x(places), part.ridge.cost(places))
            for part in self._parts_of
        ]
        return np.asarray(sum(found))

    def _moved(self, weight: Array, part: Part, z: float) -> Array:
        """What is known of the optimum at the middle decay, of the one at another; ends take all
        that lies beyond them."""
        at = (self._mu - part.ridge.tilt * z - self._mu[0]) / GRID_STEP
        below = np.floor(at).astype(int)
        share = (at - below).reshape(-1, *[1] * (weight.ndim - 1))
        moved = np.zeros_like(weight)
        for place, each in ((below, 1.0 - share), (below + 1, share)):
            np.add.at(moved, np.clip(place, 0, len(moved) - 1), each * weight)
        return moved

    def _decay_quantile(self, probability: float) -> float:
        low, high = self.decay_range
        ends = np.linspace(math.log(low), math.log(high), len(self._search.places) + 1)
        reached = np.concatenate([[0.0], np.cumsum(self.decay_density[1])])
        return math.exp(np.interp(probability, reached, ends))
