"""A response of any smooth form, beside the bump: what it says where results show another shape.

A curve may have a shoulder, or a flat floor with a dip at one side, and no bump passes through such
points. So with a small prior probability the response is a Gaussian process (Rasmussen and Williams
2006, chapter 2; Matern 5/2), whose scales are summed over. Both are weighed by how likely they make
the results in the basin (Bayes factor). A bump says more beforehand, so of few results it is
believed, and of many that lie on one both say the same. What the process says is asked of curves
drawn from it, always the same ones.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from studies.likelihood import Repeat, merged
from studies.numbers import (
    ACCIDENT,
    FORM_LEVEL,
    FORM_SCALES,
    FORM_WEIGHT,
    LEARNED,
    LEAST_FOR_FORM,
    LOST_BETWEEN,
    NOISES,
    NOT_REFUTED,
    SEED_LEVEL,
    SHIFT_WEIGHTS,
    SHIFTS,
    WORTH,
)
from studies.posterior import BAND_Z, FAR, MOST_LIKELY, Posterior, at_most
from studies.table import Array

DRAWN = 256  # curves
REACH = 1.0  # ln rate beyond the basin's results, where no other run bounds it
LEAST_SHARE = 0.01  # of the process, with which it is heard
JITTER = 1e-8
ROOT5 = math.sqrt(5)


@dataclass(frozen=True, slots=True)
class SmoothCurves:
    """Curves that the results leave possible.

    Attributes:
        ln_evidence: ln of how likely the results are.
        x: ln rates, rising.
        values: nats, (curves, x).
        noise: the sd between runs at one rate of each, (curves,).
    """

    ln_evidence: float
    x: Array
    values: Array
    noise: Array


def smooth_curves(x: Array, y: Array, at: Array, repeats: Sequence[Repeat] = ()) -> SmoothCurves:
    """Draws curves from the process's posterior.

    Args:
        x: ln rates of the results.
        y: what they came to, nats.
        at: ln rates at which curves are asked for.
        repeats: results of other seeds, whose curves lie a little higher or lower.
    """
    x = np.concatenate([x, [repeat.x for repeat in repeats]])
    y = np.concatenate([y, [repeat.y for repeat in repeats]])
    seeds = np.array([math.nan] * (len(x) - len(repeats)) + [each.seed for each in repeats])
    between = SEED_LEVEL**2 * (seeds[:, None] == seeds)  # nan: the study's own level is the curve's
    middle, fits = y.min() + FORM_LEVEL, []
    for length, scale, noise in itertools.product(*FORM_SCALES, NOISES):
        cov = _covariance(x, x, length, scale)
        root = np.linalg.cholesky(cov + between + noise**2 * np.eye(len(x)))
        rest = np.linalg.solve(root, y - middle)
        likely = -0.5 * rest @ rest - np.log(np.diag(root)).sum()
        fits.append((float(likely), length, scale, noise, root, rest))
    ln_likely = np.array([fit[0] for fit in fits]) - 0.5 * len(x) * math.log(2 * math.pi)
    top = ln_likely.max()
    weight = np.exp(ln_likely - top)
    ln_evidence = float(top + math.log(weight.mean()))
    rng = np.random.default_rng(0)
    counts = np.diff(np.round(DRAWN * np.cumsum(weight / weight.sum())), prepend=0).astype(int)
    values, noises = [], []
    for count, (_, length, scale, noise, root, rest) in zip(counts, fits, strict=True):
        if count:
            across = np.linalg.solve(root, _covariance(x, at, length, scale))
            cov = _covariance(at, at, length, scale) - across.T @ across
            lower = np.linalg.cholesky(cov + JITTER * np.eye(len(at)))
            drawn = rng.standard_normal((count, len(at)))
            values.append(middle + across.T @ rest + drawn @ lower.T)
            noises.append(np.full(count, noise))
    return SmoothCurves(ln_evidence, at, np.concatenate(values), np.concatenate(noises))


def _covariance(x: Array, other: Array, length: float, scale: float) -> Array:
    """Matern 5/2 around a level that is itself known to a nat."""
    d = ROOT5 * np.abs(x[:, None] - other) / length
    return np.asarray(scale**2 * (1.0 + d + d * d / 3.0) * np.exp(-d) + 1.0)


def with_forms(bump: Posterior) -> Posterior:
    """The same where the response may be no bump; itself where results do not tell."""
    seen = bump.seen
    highest = min(seen.y.min(initial=math.inf) + FAR, seen.baseline - LEARNED)
    near = seen.y < highest
    if near.sum() < LEAST_FOR_FORM:
        return bump
    x, y = merged(seen.x[near], seen.y[near])
    repeats = [repeat for repeat in seen.repeats if repeat.y < highest]
    others = np.concatenate([seen.x[~near], seen.lost])
    low = others[others < x.min()].max(initial=x.min() - REACH)
    high = others[others > x.max()].min(initial=x.max() + REACH)
    grid = bump.density[0]
    at = grid[(low <= grid) & (grid <= high)]
    if not len(at):  # all results lie far out of the range
        return bump
    curves = smooth_curves(x, y, at, repeats)
    ln_factor = curves.ln_evidence - bump.ln_evidence_of(x, y, repeats)
    mixed = FormPosterior(bump, curves, ln_factor)
    return mixed if mixed.share > LEAST_SHARE else bump


class FormPosterior(Posterior):
    """A posterior of both: the bump's, and that of curves of any form.

    Attributes:
        share: the probability that the response is no bump.

    Args:
        bump: the one.
        curves: the other.
        ln_factor: ln of how much likelier the curves make the results in the basin.
    """

    def __init__(self, bump: Posterior, curves: SmoothCurves, ln_factor: float) -> None:
        for name in ("_seen", "_low", "_high", "_mu", "_prior", "_rules"):
            setattr(self, name, getattr(bump, name))
        self._bump, self._curves = bump, curves
        self._above = curves.values - curves.values.min(1, keepdims=True)
        place = np.searchsorted(self._mu, curves.x[0]) + curves.values.argmin(1)
        # A process has no opinion of where its lowest point lies: the rules' prior is put in.
        prior = self._prior[place] * len(self._mu) / self._prior.sum()
        ln_odds = math.log(FORM_WEIGHT / (1 - FORM_WEIGHT)) + ln_factor + math.log(prior.mean())
        self.share = 0.5 * (1.0 + math.tanh(0.5 * ln_odds))
        self._weight = prior / prior.sum()
        self._lowest = self._outward(np.bincount(place, self._weight, len(self._mu)).astype(float))
        self._by_mu = self._mix(bump.own_density[1], self._lowest)
        self._likelihood = self._by_mu / self._prior

    def _outward(self, lowest: Array) -> Array:
        """Where a curve still falls at its end and no run lies beyond, its lowest point may."""
        seen, ends = self._seen, np.searchsorted(self._mu, self._curves.x[[0, -1]])
        tried = np.concatenate([seen.x, seen.lost])
        for end, beyond, bounded in (
            (ends[0], slice(0, ends[0] + 1), tried.min() < self._mu[ends[0]]),
            (ends[1], slice(ends[1], None), tried.max() > self._mu[ends[1]]),
        ):
            if not bounded:
                mass, share = lowest[end], self._prior[beyond] / self._prior[beyond].sum()
                lowest[end] = 0.0
                lowest[beyond] += mass * share
        return lowest

    def _mix(self, bump: Array, curves: Array) -> Array:
        return np.asarray((1.0 - self.share) * bump + self.share * curves)

    @cached_property
    def _by_wall(self) -> Array:
        bump = self._bump._by_wall
        return self._mix(bump, np.outer(self._lowest, bump.sum(0)))

    @property
    def noise(self) -> float:
        """The sd between runs at one rate, nats."""
        curves = self._weight @ self._curves.noise**2
        return math.sqrt(float(self._mix(np.array(self._bump.noise**2), curves)))

    def improvement(self, x: Array, cost: Array | float = 0.0) -> Array:
        """What a training at each rate is expected to gain."""
        tried = np.concatenate([self._seen.x[self.on_curve], self._seen.running])
        before = self._height(tried).min(1, keepdims=True) + WORTH
        ratio = before / (self._height(x) + WORTH + cost)
        gain = self._weight @ np.log(np.maximum(ratio, 1.0))
        return self._mix(self._bump.improvement(x, cost), gain * (1.0 - self._bump.lost(x)))

    def regret(self, x: Array, cost: Array | float = 0.0) -> Array:
        """What is left to gain over each rate at a new seed, in nats, as expected."""
        left = np.maximum(self._costs(x) + cost - self._least_cost[:, None], 0.0)
        return self._mix(self._bump.regret(x, cost), self._weight @ left)

    def left(self, x: float | Array, cost: float = 0.0) -> tuple[Array, Array]:
        """What is left to gain over ln rate x by hypothesis: nats, weights."""
        bump, weight = self._bump.left(x, cost)
        curves = self._left_by_curve(x, cost)
        weights = [(1.0 - self.share) * weight, self.share * self._weight]
        return np.concatenate([bump, curves]), np.concatenate(weights)

    def most_left(self, x: float | Array, confidence: float = 0.9) -> float:
        """As of any posterior; where curves of any form alone leave more, that.

        A few results that a bump fits do not tell what lies beyond them: that the process is
        outvoted then says only that a bump was the likelier beforehand.
        """
        both = super().most_left(x, confidence)
        if self.share < NOT_REFUTED:
            return both
        return max(both, at_most(self._left_by_curve(x), self._weight, confidence))

    def _left_by_curve(self, x: float | Array, cost: float = 0.0) -> Array:
        return np.asarray(self._costs(np.atleast_1d(x))[:, 0] + cost - self._least_cost)

    def lost(self, x: Array) -> Array:
        """The probability that training at each ln rate is lost at a new seed."""
        return self._bump.lost(x)

    def outcomes(self, x: Array, most: int = MOST_LIKELY) -> tuple[Array, Array]:
        """What a run of the study's seed may reach at each ln rate: nats and weights."""
        values, weights = self._bump.outcomes(x, most)
        noise = np.resize(BAND_Z, len(self._weight)) * self._curves.noise
        lowest = self._curves.values.min(1)
        reached = (lowest + noise)[:, None] + self._height(x)
        inside = (self._curves.x[0] <= x) & (x <= self._curves.x[-1])
        share = self.share * inside * (1.0 - self._bump.lost(x))
        parts = [weights * (1.0 - share)[:, None], share[:, None] * self._weight]
        return np.concatenate([values, reached.T], 1), np.concatenate(parts, 1)

    def _height(self, x: Array) -> Array:
        """How far each curve lies above its lowest point at ln rates, (curves, x)."""
        grid = self._curves.x
        return np.array([np.interp(x, grid, each, FAR, FAR) for each in self._above])

    def _costs(self, x: Array) -> Array:
        """What rates cost over the seeds under each curve, nats, (curves, x)."""
        shifts = zip(SHIFTS * self._new_seed_sd, SHIFT_WEIGHTS, strict=True)
        on = np.sum([share * self._height(x - shift) for shift, share in shifts], axis=0)
        between = (1.0 - LOST_BETWEEN / 2) * self._bump.depth
        off = self._bump.lost(x) - ACCIDENT
        return np.asarray(on + off * np.maximum(between - on, 0.0))

    @cached_property
    def _least_cost(self) -> Array:
        return np.asarray(self._costs(self._curves.x).min(1))
