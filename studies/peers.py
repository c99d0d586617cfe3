"""Optuna's own samplers, drawing from the working range while trials store the wide one."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from studies.decay import DECAY, DecaySearch
from studies.definition import PARAMETER, range_within
from studies.objective import Objective
from studies.trials import diverged, failed, rate_of, value_of

APART = 0.05
ATTEMPTS = 16

Build = Callable[[int, int], BaseSampler]
"""Makes a sampler of a seed and the number of trials before which it may draw at random."""


def tpe(seed: int, startup: int) -> BaseSampler:
    """Optuna's Tree-structured Parzen Estimator."""
    return TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)


def random(seed: int, startup: int) -> BaseSampler:
    """Rates at random, whatever was tried."""
    return RandomSampler(seed=seed)


PEERS: dict[str, Build] = {"tpe": tpe, "random": random}

_verbosity = threading.Lock()  # Optuna's is one for all threads

# TPE does not see trials that wait, or that failed.
_MIRRORED = {TrialState.WAITING: TrialState.RUNNING, TrialState.FAIL: TrialState.PRUNED}


class WorkingRangeSampler(BaseSampler):
    """Lets another sampler see only the working range.

    It asks that sampler on a copy of the study in memory that holds the trials inside the range,
    with the range as their distribution. A sampler's own view stays consistent however often the
    range moves (TPE would fold a rate outside the range onto the nearer edge, truncated).
    """

    def __init__(
        self,
        build: Callable[[int], BaseSampler],
        low: float,
        high: float,
        seed: int,
        trial_number: int | None = None,
        objective: Objective | None = None,
        decay: DecaySearch | None = None,
    ) -> None:
        self._build = build
        self._decay = decay
        self._low, self._high = low, high
        self._seed = seed
        self._trial_number = trial_number
        self._objective = objective or Objective()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """No parameter is sampled together with others."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """No parameter is sampled together with others."""
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> float:
        """Draws a rate at least 5 % away from every other trial's.

        Of those that failed nothing else counts: running out of memory says nothing about a rate.
        """
        others = [each for each in study.get_trials(deepcopy=False) if each.number != trial.number]
        taken = [rate for other in others if (rate := rate_of(other, param_name)) is not None]
        known = [other for other in others if not failed(other)]
        number = trial.number if self._trial_number is None else self._trial_number
        low, high = range_within(param_distribution, *self._range(param_name))
        for rate in self._draws(known, param_name, FloatDistribution(low, high, log=True), number):
            if all(abs(math.log(rate / other)) >= math.log1p(APART) for other in taken):
                return rate
        return middle_of_widest_gap(low, high, taken)

    def _range(self, param_name: str) -> tuple[float, float]:
        if param_name == DECAY and self._decay is not None:
            return self._decay.low, self._decay.high
        return self._low, self._high

    def _draws(
        self, known: Sequence[FrozenTrial], param_name: str, space: FloatDistribution, number: int
    ) -> Iterator[float]:
        mirror = _mirror(known, param_name, space, self._objective)
        seeds = [self._seed, number, *([] if param_name == PARAMETER else [1])]
        # A draw that is not taken stays in the mirror as a running trial, which repels the next.
        for attempt in range(ATTEMPTS):
            words = np.random.SeedSequence([*seeds, attempt]).generate_state(1)
            mirror.sampler = self._build(int(words[0]))
            rate = mirror.ask({param_name: space}).params[param_name]
            yield min(max(float(rate), space.low), space.high)


def middle_of_widest_gap(low: float, high: float, taken: Sequence[float]) -> float:
    """Finds the rate furthest from the tried ones, for where a sampler keeps repeating itself.

    Args:
        low: the lowest rate of the range.
        high: the highest.
        taken: the tried rates; those outside the range are ignored.

    Returns:
        The geometric middle of the widest gap between two neighbours, the range's ends included.
    """
    points = [low, *sorted(rate for rate in taken if low < rate < high), high]
    below, above = max(pairwise(points), key=lambda pair: pair[1] / pair[0])
    return math.sqrt(below * above)


def _mirror(
    trials: Sequence[FrozenTrial],
    param_name: str,
    space: FloatDistribution,
    objective: Objective,
) -> Study:
    with _quiet():
        mirror = optuna.create_study(direction="minimize")
    for trial in trials:
        rate = rate_of(trial, param_name)
        ended = trial.state == TrialState.COMPLETE
        if ended and not objective.valid(value_of(trial)):
            continue  # another program's: it would be the best of all
        if rate is not None and space.low <= rate <= space.high:
            mirror.add_trial(_copy(trial, param_name, rate, space))
    return mirror


def _copy(
    trial: FrozenTrial, param_name: str, rate: float, space: FloatDistribution
) -> FrozenTrial:
    # TPE ranks pruned trials by their last step: a late divergence would beat an early pruning,
    # whereas one without values comes last.
    return create_trial(
        state=_MIRRORED.get(trial.state, trial.state),
        value=trial.value,
        params={param_name: rate},
        distributions={param_name: space},
        intermediate_values={} if diverged(trial) else trial.intermediate_values,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    # Optuna announces each new study, also one in memory that nobody asked for.
    with _verbosity:
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(verbosity)
