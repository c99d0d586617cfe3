"""The response model's posterior: what a few trained rates say of the best one, on a grid.

    p(mu, r, a | results) ~ prior(mu)^(beta / (beta + n)) prior(r) prior(a) p(results | mu, r, a)

The last three factors are `studies.likelihood`'s. The prior of the optimum mu is a mixture of the
scaling rules' normals; for 1 in 10 none of them is right. It is tempered as the number of results n
grows, so that a wrong one is outlived (power priors, Ibrahim and Chen 2000, Statistical Science
15). Whatever is asked of the posterior is a sum over the grid; the curve's level m cancels where
two rates are compared.
"""

import math
from collections.abc import Mapping

import numpy as np

from studies.likelihood import (
    CURVATURES,
    SPAN,
    STEEPER,
    Observations,
    Reading,
    Rises,
    basin,
    log_likelihood,
    nearest,
    readings,
    rise,
    wall_below,
)
from studies.prior import Prior
from studies.table import Array

GRID_STEP = 0.1  # of mu, ln rate; the optimum is never known to better than twice that
OUTSIDE = 1.5  # how far out of the range the optimum may lie, ln rate
NO_RULE, NO_RULE_WEIGHT = "no rule", 0.1
BETA = 1.0  # the prior weighs as much as this many results
WORTH = 0.002  # nats that are worth a training; finer gains are noise
NOTHING_TRIED = 1.5  # before any, the next rate is compared with one this far from mu, ln rate
LEANS = 0.25  # probability beyond an end of the range; a flat prior alone has 0.1 there
NEGLIGIBLE = 1e-4  # probability


class Posterior:
    """What is known of the best rate.

    Args:
        seen: the observations.
        priors: what each rule says; empty where there is none.
        low: the lowest rate of the range.
        high: the highest.
    """

    def __init__(
        self, seen: Observations, priors: Mapping[str, Prior], low: float, high: float
    ) -> None:
        self._seen = seen
        self._low, self._high = math.log(low), math.log(high)
        self._mu = np.arange(self._low - OUTSIDE, self._high + OUTSIDE + GRID_STEP, GRID_STEP)
        self._parts = _prior_parts(priors, self._mu)
        every = list(readings(seen))
        rises = Rises(seen.x, self._mu)
        logs = np.array([log_likelihood(reading, seen, self._mu, rises) for reading in every])
        likelihood = np.exp(logs - logs.max())
        results = len(seen.x) + len(seen.lost)
        prior = sum(self._parts.values()) ** (BETA / (BETA + results))
        weights = likelihood * prior[:, None, None]
        weights /= weights.sum()
        self._by_mu, self._likelihood = weights.sum((0, 2, 3)), likelihood.sum((0, 2, 3))
        self._cases: list[tuple[Reading, Array]] = [
            case for case in zip(every, weights, strict=True) if case[1].sum() > NEGLIGIBLE
        ]

    @property
    def seen(self) -> Observations:
        """What it rests on."""
        return self._seen

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest rate that is searched."""
        return math.exp(self._low), math.exp(self._high)

    @property
    def cases(self) -> list[tuple[Reading, Array]]:
        """The likely readings of the results, each with the probabilities over (mu, r, a)."""
        return self._cases

    @property
    def density(self) -> tuple[Array, Array]:
        """The grid of ln rate and each point's probability to be the optimum."""
        return self._mu, self._by_mu

    @property
    def best_rate(self) -> float:
        """The median of the best rate."""
        return self._quantile(0.5)

    def interval(self, mass: float = 0.9) -> tuple[float, float]:
        """The central interval that holds the best rate with a probability of `mass`."""
        return self._quantile(0.5 - mass / 2), self._quantile(0.5 + mass / 2)

    @property
    def edge(self) -> str:
        """Where the best rate may well lie out of the range: "lower", "upper" or ""."""
        below = self._by_mu[self._mu < self._low].sum()
        above = self._by_mu[self._mu > self._high].sum()
        if max(below, above) < LEANS:
            return ""
        return "lower" if below > above else "upper"

    def rule_weights(self) -> dict[str, float]:
        """How much each rule is believed, `NO_RULE` included; together 1.

        Rule k's weight is w_k times the integral of its normal against the likelihood (Bayes
        factors; nothing is tempered here).
        """
        shares = {name: float(part @ self._likelihood) for name, part in self._parts.items()}
        return {name: share / sum(shares.values()) for name, share in shares.items()}

    def improvement(self, x: Array) -> Array:
        """What a training at each rate is expected to gain.

        The expected fall of ln(regret + `WORTH`), where the regret a phi is how far a rate lies
        above the optimum in nats: to halve a small regret counts as much as to halve a large one,
        down to what is worth a training. By expected improvement itself (Jones et al. 1998,
        Journal of Global Optimization 13) the large ones outweigh all others, which with a right
        prior costs most of a training more (measured). Running trials count as tried: what they
        will reach follows under each hypothesis, so the next rate complements them.

        Args:
            x: ln rates.

        Returns:
            The gain at each, at least 0.
        """
        likely = self._by_mu > NEGLIGIBLE / len(self._mu)
        mu = self._mu[likely]
        there = basin(mu, x)
        gains = np.zeros(len(x))
        for reading, weights in self._cases:
            weight = weights[likely].sum(2)
            curvature = weights[likely] @ CURVATURES / np.maximum(weight, 1e-300)
            before = rise(curvature * self._best_phi(reading, mu)) + WORTH
            ratio = before[..., None] / (rise(curvature[..., None] * there) + WORTH)
            expected = np.einsum("mr,mrx->mx", weight, np.log(np.maximum(ratio, 1.0)))
            gains += (expected * holds(reading, mu, x)).sum(0)
        return gains

    def excess(self, x: float, confidence: float | None = None) -> float:
        """How far the perplexity at a rate lies above the best one's, as a share (0.01: 1 %).

        Args:
            x: ln rate, of a run that was not lost.
            confidence: the share is at most this with that probability; None: its expectation.
        """
        phi = basin(self._mu, np.array([x]))
        regret = np.expm1(np.minimum(rise(CURVATURES * phi), SPAN)).ravel()
        weight = sum((weights for _, weights in self._cases), np.zeros(())).ravel()
        if confidence is None:
            return float(weight @ regret / weight.sum())
        order = np.argsort(regret)
        reached = np.cumsum(weight[order]) / weight.sum()
        place = min(int(np.searchsorted(reached, confidence)), len(order) - 1)
        return float(regret[order[place]])

    def _quantile(self, probability: float) -> float:
        ends = self._mu + GRID_STEP / 2
        return math.exp(np.interp(probability, np.cumsum(self._by_mu), ends))

    def _best_phi(self, reading: Reading, mu: Array) -> Array | float:
        """phi of the best rate tried, over (mu, r)."""
        tried = np.unique(np.concatenate([self._seen.x[reading.basin], self._seen.running]))
        if not len(tried):
            return NOTHING_TRIED**2
        below, above = nearest(mu, tried)
        return np.minimum(below[:, None] ** 2, STEEPER * above[:, None] ** 2)


def holds(reading: Reading, mu: Array, x: Array) -> Array:
    """The probability that a run at each ln rate x is not lost, over (mu, x).

    Args:
        reading: which runs were lost and which held.
        mu: the grid, ln rate.
        x: ln rates.
    """
    mu = mu[:, None]
    held, fell = wall_below(mu, reading.held), wall_below(mu, reading.fell)
    left = (fell - wall_below(mu, x) + 1e-6) / (np.maximum(fell - held, 0.0) + 1e-6)
    return np.where(x <= reading.held, 1.0, np.where(x < reading.fell, left.clip(0, 1), 0.0))


def _prior_parts(priors: Mapping[str, Prior], mu: Array) -> dict[str, Array]:
    """Each rule's share of the prior over the grid; a rule off the grid has none of it."""
    share = 1.0 - NO_RULE_WEIGHT if priors else 0.0
    parts = {NO_RULE: np.full(len(mu), (1.0 - share) / len(mu))}
    total = sum(prior.weight for prior in priors.values())
    for name, prior in priors.items():
        z = (mu - math.log(prior.rate)) / prior.width
        density = np.exp(-0.5 * z**2) / (math.sqrt(2 * math.pi) * prior.width)
        parts[name] = share * prior.weight / total * density * GRID_STEP
    return parts
