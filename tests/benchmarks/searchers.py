"""The searchers that the replay compares, each at the best settings known for one learning rate.

All are Optuna samplers asked one rate at a time. A peer gets what our sampler is given as its
prior: the same centre is enqueued as its first trial. Peers are told the loss instead of the
perplexity: to TPE, CMA-ES and random ranks are all there is, and a Gaussian process that has to
model 800 beside 12 does far worse.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import Study

from studies import PARAMETER, LearningRateSampler
from studies.prior import Prior

NAMES = ("own", "tpe", "gp", "gp-2", "cma-es", "random")


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed before the first training: a rate and the sd of its ln; None for nothing."""

    rate: float
    width: float


class Searcher:
    """One search under way.

    Args:
        name: one of `NAMES`.
        belief: about the best rate; None where there is none.
        low: the lowest rate.
        high: the highest.
        seed: of the sampler.
    """

    def __init__(
        self, name: str, belief: Belief | None, low: float, high: float, seed: int
    ) -> None:
        self._space = {PARAMETER: FloatDistribution(low, high, log=True)}
        self._sees_loss = name != "own"
        self.sampler = _sampler(name, belief, low, high, seed)
        self.study: Study = optuna.create_study(sampler=self.sampler)
        if belief is not None:  # every searcher begins there, as the product does
            self.study.enqueue_trial({PARAMETER: min(max(belief.rate, low), high)})

    def train(self, loss_of: Callable[[float], float]) -> float:
        """Asks for a rate, trains there and tells the outcome.

        Args:
            loss_of: the loss that a training at ln rate x shows, in nats a token.

        Returns:
            ln of the rate.
        """
        trial = self.study.ask(self._space)
        x = math.log(trial.params[PARAMETER])
        loss = loss_of(x)
        self.study.tell(trial, loss if self._sees_loss else math.exp(loss))
        return x


def _sampler(name: str, belief: Belief | None, low: float, high: float, seed: int) -> BaseSampler:
    if name == "own":
        rates = {} if belief is None else {"centre": Prior(belief.rate, belief.width)}
        return LearningRateSampler(priors=rates, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of them are called experimental
        if name == "tpe":
            return TPESampler(n_startup_trials=3, seed=seed)
        if name == "gp":
            return GPSampler(seed=seed, deterministic_objective=False)
        if name == "gp-2":
            return GPSampler(n_startup_trials=2, seed=seed, deterministic_objective=False)
        if name == "cma-es":
            return _cma(belief, low, high, seed)
        assert name == "random", name
        return RandomSampler(seed=seed)


def _cma(belief: Belief | None, low: float, high: float, seed: int) -> BaseSampler:
    """From the centre with a sixth of the range as its step: with less a wrong centre costs 20."""
    middle = math.sqrt(low * high)
    rate = middle if belief is None else min(max(belief.rate, low), high)
    return CmaEsSampler(x0={PARAMETER: rate}, n_startup_trials=1, seed=seed)
