"""The learning-rate sampler: asks for the rate that is expected to gain most.

See `studies.response` for the model and its formulas, `studies.observed` for what counts as what.
"""

import math
import warnings
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from studies.definition import PARAMETER, range_within, validate_range
from studies.errors import StudyError, unknown_name
from studies.failures import as_tried
from studies.likelihood import nearest
from studies.observed import posterior_of
from studies.peers import PEERS, WorkingRangeSampler
from studies.perplexity import is_perplexity, look_like_losses, suspicion
from studies.prior import Prior
from studies.response import Posterior
from studies.table import Table
from studies.trials import failed, ln_rate, sound, value_of

APART = 0.08  # ln rate between two trials: finer differences are noise
CANDIDATE_STEP = 0.05  # ln rate
TIE = 0.02  # share of the largest gain; what lies closer is the grid's error
FEW = 20  # trials; of more their perplexities alone say enough
LEARNING_RATE = "learning-rate"
SAMPLERS = (LEARNING_RATE, *PEERS)


def make_sampler(
    name: str,
    *,
    low: float,
    high: float,
    seed: int,
    startup: int,
    trial_number: int | None = None,
    priors: Mapping[str, float | Prior] | None = None,
    baseline: float | None = None,
    constant_rate: bool = False,
    known: Sequence[FrozenTrial] | None = None,
) -> BaseSampler:
    """Builds a sampler for the study's one parameter.

    Args:
        name: "learning-rate", "tpe" or "random".
        low: the lowest rate of the working range.
        high: the highest.
        seed: the study's seed, at least 0.
        startup: trials finished within the range before TPE starts; random until then.
        trial_number: seeds TPE's or random's draw as for this trial; None takes the number of the
            trial that is sampled, so that one sampler serves a whole study.
        priors: what the rules say; only "learning-rate" uses it.
        baseline: perplexity of a model that knows no context; only "learning-rate" uses it.
        constant_rate: whether trials train at one rate to the end; only "learning-rate" uses it.
        known: the study's trials for one ask, where they have just been read; only "learning-rate"
            uses it.

    Returns:
        A sampler that draws the same rate for the same seed, trial number and earlier trials, also
        after the study was reopened.

    Raises:
        StudyError: an unknown name, or a range that cannot be searched.
    """
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    validate_range(low, high)
    if name == LEARNING_RATE:
        return LearningRateSampler(
            priors,
            seed=seed,
            low=low,
            high=high,
            baseline=baseline,
            constant_rate=constant_rate,
            known=known,
        )
    build = PEERS[name]
    return WorkingRangeSampler(
        lambda draw_seed: build(draw_seed, startup), low, high, seed, trial_number
    )


class LearningRateSampler(BaseSampler):
    """Exact Bayes for one log-scale float `learning_rate` whose value is a perplexity.

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
        baseline: perplexity of a model that knows no context (the unigram perplexity): where it is
            known, a plateau at which rates learn nothing is not taken for the basin.
        constant_rate: whether trials train at one rate from a warm-up to the end and report each
            epoch: how fast they still learn at the end then tells on which side of the best rate
            to look.
        known: the study's trials for one ask, where they have just been read; otherwise the study
            is read at each.

    Raises:
        StudyError: a prior's rate is not positive, or the baseline is no perplexity.
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
        known: Sequence[FrozenTrial] | None = None,
    ) -> None:
        if baseline is not None and not (is_perplexity(baseline) and baseline < math.inf):
            raise StudyError(f"baseline must be a perplexity, at least 1, got {baseline:g}")
        self._known, self._baseline, self._constant_rate = known, baseline, constant_rate
        self._priors = {
            name: prior if isinstance(prior, Prior) else Prior(prior)
            for name, prior in (priors or {}).items()
        }
        self._seed, self._low, self._high = seed, low, high

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
                is no perplexity, or the study maximizes.
            ValueError: the study has several objectives.
        """
        self._raise_error_if_multi_objective(study)
        if param_name != PARAMETER:
            words = [self._seed, trial.number, zlib.crc32(param_name.encode())]
            drawn = int(np.random.SeedSequence(words).generate_state(1)[0])
            return RandomSampler(drawn).sample_independent(
                study, trial, param_name, param_distribution
            )
        if study.direction != StudyDirection.MINIMIZE:
            raise StudyError("direction must be minimize: a trial's value is a perplexity")
        low, high = range_within(param_distribution, self._low, self._high)
        trials = study.get_trials(deepcopy=False) if self._known is None else self._known
        known = as_tried(Table.of(trials).without(trial.number))
        if self._known is None:
            _warn_of_losses(known, self._baseline)
        falls = self._constant_rate and len(known) <= FEW
        posterior = posterior_of(
            known, self._priors, low, high, self._baseline, constant_rate=falls
        )
        return _next_rate(posterior, known, low, high)

    def posterior(self, study: Study) -> Posterior:
        """What the study's trials say of the best rate.

        Args:
            study: with at least one trial that has a rate, unless the range was given.

        Raises:
            StudyError: no range was given and there is no trial to take it from.
        """
        trials = study.get_trials(deepcopy=False)
        known = [trial.distributions.get(PARAMETER) for trial in trials]
        latest = next((each for each in reversed(known) if each), None)
        if latest is None and self._low is not None and self._high is not None:
            low, high = self._low, self._high
        else:
            low, high = range_within(latest, self._low, self._high)
        return posterior_of(trials, self._priors, low, high, self._baseline)


def _warn_of_losses(trials: Table, baseline: float | None) -> None:
    values = trials.column(value_of)[trials.mask(sound)]
    if baseline is not None and look_like_losses(values, baseline):
        warnings.warn(f"{suspicion(values[0], baseline)}; return that", stacklevel=2)


def _next_rate(posterior: Posterior, trials: Table, low: float, high: float) -> float:
    steps = max(1, math.ceil(math.log(high / low) / CANDIDATE_STEP))
    x = np.linspace(math.log(low), math.log(high), steps + 1)
    # Of rates that gain the same, the middle of the interval is the safest.
    gain = posterior.improvement(x)
    gain = np.minimum(gain, (1 - TIE) * gain.max())
    gain -= 1e-9 * np.abs(x - math.log(posterior.best_rate))
    taken = np.sort(trials.column(ln_rate)[~trials.mask(failed)])
    taken = taken[~np.isnan(taken)]  # where there is no rate
    apart = np.minimum(*nearest(x, taken)) >= APART
    if apart.any():
        rate = math.exp(x[np.where(apart, gain, -1.0).argmax()])
    else:  # the range is full: the middle of its widest gap
        points = np.clip(np.concatenate([x[:1], taken, x[-1:]]), x[0], x[-1])
        widest = np.diff(points).argmax()
        rate = math.exp(points[widest : widest + 2].mean())
    return min(max(rate, low), high)
