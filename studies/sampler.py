"""The learning-rate sampler: asks for the rate that is expected to gain most.

See `studies.likelihood` for the model, `studies.strategy` for what is trained next.
"""

import dataclasses
import math
import warnings
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from studies.decay import DECAY, DecaySearch, decay_of
from studies.definition import PARAMETER, range_within, validate_range
from studies.errors import StudyError, unknown_name
from studies.failures import as_tried
from studies.objective import PERPLEXITY, Objective
from studies.observed import Terms, posterior_of
from studies.patient import StudyPruner
from studies.peers import PEERS, Build, WorkingRangeSampler
from studies.posterior import Posterior
from studies.prior import Prior
from studies.strategy import Next, next_training, rest_of
from studies.table import Table
from studies.trials import rate_of, sound, value_of

LEARNING_RATE = "learning-rate"
SAMPLERS = (LEARNING_RATE, *PEERS)


def make_sampler(
    named: str | Build,
    terms: Terms,
    *,
    seed: int,
    startup: int,
    trial_number: int | None = None,
    known: Sequence[FrozenTrial] | None = None,
) -> BaseSampler:
    """Builds a sampler for the study's one parameter.

    Args:
        named: "learning-rate", "tpe" or "random"; or a function (seed, startup) that makes any
            sampler of Optuna's, which then draws one rate from the trials within the range.
        terms: the range, and what else is known; all but the range and what values are is for
            "learning-rate" alone.
        seed: the study's seed, at least 0.
        startup: trials finished within the range before TPE starts; random until then.
        trial_number: seeds the draw of all but "learning-rate" as for this trial; None takes the
            number of the trial that is sampled, so that one sampler serves a whole study.
        known: the study's trials for one ask, where they have just been read; only "learning-rate"
            uses it.

    Returns:
        A sampler that draws the same rate for the same seed, trial number and earlier trials, also
        after the study was reopened.

    Raises:
        StudyError: an unknown name, or a range that cannot be searched.
    """
    if isinstance(named, str) and named not in SAMPLERS:
        raise unknown_name("sampler", named, SAMPLERS)
    validate_range(terms.low, terms.high)
    if named == LEARNING_RATE:
        return LearningRateSampler.by(terms, seed=seed, known=known)
    build = PEERS[named] if isinstance(named, str) else named
    return WorkingRangeSampler(
        lambda draw_seed: build(draw_seed, startup),
        terms.low,
        terms.high,
        seed,
        trial_number,
        terms.objective,
        terms.decay,
    )


class LearningRateSampler(BaseSampler):
    """Exact Bayes for a log-scale float `learning_rate` whose value is a perplexity, or a loss.

    The same study gets the same next rate, whoever opened it: there is no state but the study's,
    and no chance in a rate. Any other parameter is drawn at random. A training that diverged should
    report NaN or return infinity: of one that returns NaN Optuna keeps only that it failed.

    Example:
        study = optuna.create_study(sampler=LearningRateSampler({"sqrt": 8e-4, "linear": 6.4e-3}))
        study.optimize(lambda trial: train(trial.suggest_float("learning_rate", 1e-5, 1, log=True)))

    Args:
        priors: what each scaling rule says, by its name: a rate, or a `Prior` with a width and a
            weight of its own; empty where nothing is known.
        seed: of the other parameters.
        low: the lowest rate to ask for, where the parameter allows it; None for its own.
        high: the highest.
        baseline: what a model comes to that knows no context (the unigram perplexity): where it is
            known, a plateau at which rates learn nothing is not taken for the basin.
        constant_rate: whether trials train at one rate from a warm-up to the end and report as
            they go: how fast they still learn at the end then tells on which side of the best
            rate to look, and short runs like higher rates.
        steps: of a whole run; None takes the longest one's.
        objective: what the value is: perplexity, validation_loss, bits_per_byte, or any other
            number that is the better the smaller, by its name.
        decay: what is known of the best `weight_decay`, another log-scale float of each trial,
            which is then searched together with the rate; None: it is not searched.

    Raises:
        StudyError: a prior's rate is not positive, the baseline is an impossible value, or the
            objective's name is empty.
    """

    def __init__(
        self,
        priors: Mapping[str, float | Prior] | None = None,
        *,
        seed: int = 0,
        low: float | None = None,
        high: float | None = None,
        baseline: float | None = None,
        constant_rate: bool = False,
        steps: int | None = None,
        objective: str = PERPLEXITY,
        decay: DecaySearch | None = None,
    ) -> None:
        measured = Objective(objective)
        if baseline is not None and not measured.least <= baseline < math.inf:
            raise StudyError(
                f"baseline must be a {measured.words}, {measured.bounds}, got {baseline:g}"
            )
        given = {
            name: prior if isinstance(prior, Prior) else Prior(prior)
            for name, prior in (priors or {}).items()
        }
        self._terms = Terms(
            0.0, math.inf, given, baseline, constant_rate, steps, objective=measured, decay=decay
        )
        self._seed, self._low, self._high = seed, low, high
        self._known: Sequence[FrozenTrial] | None = None
        self._looks: bool | None = None  # as the study's pruner does

    @classmethod
    def by(cls, terms: Terms, *, seed: int, known: Sequence[FrozenTrial] | None) -> Self:
        """A sampler that knows all of its terms.

        Args:
            terms: the range among them.
            seed: of the other parameters.
            known: the study's trials for one ask, where they have just been read; None reads the
                study at each.
        """
        sampler = cls(seed=seed, low=terms.low, high=terms.high)
        sampler._terms, sampler._known, sampler._looks = terms, known, terms.pauses
        return sampler

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """No parameter is sampled together with others."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """No parameter is sampled together with others."""
        self._raise_error_if_multi_objective(study)
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The next rate; another parameter at random.

        Raises:
            StudyError: the rate's scale is not logarithmic or allows no rate of the range, a value
                is impossible, or the study maximizes.
            ValueError: the study has several objectives.
        """
        self._raise_error_if_multi_objective(study)
        searched = (PARAMETER, DECAY) if self._terms.decay else (PARAMETER,)
        if param_name not in searched:
            words = [self._seed, trial.number, zlib.crc32(param_name.encode())]
            drawn = int(np.random.SeedSequence(words).generate_state(1)[0])
            return RandomSampler(drawn).sample_independent(
                study, trial, param_name, param_distribution
            )
        if study.direction != StudyDirection.MINIMIZE:
            raise StudyError(
                f"direction must be minimize: a trial's value is a {self._terms.objective.words}"
            )
        of_rates = param_distribution
        if param_name == DECAY:
            of_rates = trial.distributions.get(PARAMETER, of_rates)
        terms = self._within(of_rates, study)
        trials = study.get_trials(deepcopy=False) if self._known is None else self._known
        known = as_tried(Table.of(trials).without(trial.number))
        if self._known is None:
            _warn_of_losses(known, terms)
        # The other one may be chosen already, or have been enqueued.
        rate, decay = rate_of(trial), decay_of(trial)
        if terms.decay is None or (rate is None and decay is None):
            chosen = next_training(known, terms)
        else:
            chosen = rest_of(known, terms, rate=rate, decay=decay)
        return chosen.rate if param_name == PARAMETER else _allowed(chosen, param_distribution)

    def posterior(self, study: Study) -> Posterior:
        """What the study's trials say of the best rate.

        Args:
            study: with at least one trial that has a rate, unless the range was given.

        Raises:
            StudyError: no range was given and there is no trial to take it from.
        """
        return posterior_of(study.get_trials(deepcopy=False), self.terms(study))

    def terms(self, study: Study) -> Terms:
        """What is known beside the study's trials.

        Raises:
            StudyError: no range was given and there is no trial to take it from.
        """
        known = [each.distributions.get(PARAMETER) for each in study.get_trials(deepcopy=False)]
        latest = next((each for each in reversed(known) if each), None)
        if latest is None and self._low is not None and self._high is not None:
            return dataclasses.replace(self._terms, low=self._low, high=self._high)
        return self._within(latest, study)

    def _within(self, distribution: BaseDistribution | None, study: Study) -> Terms:
        low, high = range_within(distribution, self._low, self._high)
        looks = self._looks
        if looks is None:
            looks = isinstance(study.pruner, StudyPruner) and study.pruner.looks
        return dataclasses.replace(self._terms, low=low, high=high, pauses=looks)


def _allowed(chosen: Next, distribution: BaseDistribution) -> float:
    """The decay, as its parameter allows it."""
    assert chosen.decay is not None
    if not isinstance(distribution, FloatDistribution):
        raise StudyError(f"{DECAY} must be a float, got {distribution}")
    return min(max(chosen.decay, distribution.low), distribution.high)


def _warn_of_losses(trials: Table, terms: Terms) -> None:
    values = trials.column(value_of)[trials.mask(sound, terms.objective)].tolist()
    if said := terms.objective.suspicion(values, terms.baseline):
        warnings.warn(f"{said}; return that", stacklevel=2)
