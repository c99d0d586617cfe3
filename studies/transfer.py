"""Carries the optimum to a batch, model size or length that was not swept, from finished studies.

The law is `studies.law`'s; what is forecast is an average over all its exponents, by how well each
explains the studies.

Measured on the Step Law runs (17 settings of parameters and tokens, whole settings held out): the
optimum at 4 to 8 times the batch, from the three batch sizes before it, is missed by 0.24 (rms, ln
rate); unscaled misses by 0.44, the square root by 0.70. See tests/benchmarks/bench_transfer.py; of
the length, tests/benchmarks/bench_law.py.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from studies.law import CRITICAL_EXPONENT, FINEST, MISFIT, WITHIN, Critical, Law, Slopes, Swept
from studies.observed import Terms, posterior_of
from studies.posterior import Posterior
from studies.rules import Setting
from studies.walls import Wall

FORECAST = "forecast"  # the name that its prior has beside the rules'

# The median critical batch of the Step Law runs, in tokens, for 2e10 tokens of training.
USUAL_TOKENS, USUAL_CRITICAL_TOKENS = 2e10, 3.5e5
USUAL_SD = 0.5  # of ln Bc there
USUAL_EXPONENT_SD = 0.1  # of the exponent, which carries it elsewhere
UNKNOWN_SD = 2.5


@dataclass(frozen=True, slots=True)
class Prediction:
    """The best rate somewhere else, forecast.

    Attributes:
        setting: where.
        rate: the median.
        width: sd of ln rate.
        batch_ratio: the batch over the nearest one swept, above 1 beyond the largest, below 1
            under the smallest, 1 between them.
        parameter_ratio, length_ratio: the same of the model's parameters and of a run's length.
        wall: where training is lost there.
        slopes: the local exponents there.
        optima: what it rests on.
    """

    setting: Setting
    rate: float
    width: float
    batch_ratio: float
    parameter_ratio: float
    length_ratio: float
    wall: Wall
    slopes: Slopes
    optima: tuple[Swept, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """Holds the best rate with 90 % probability."""
        factor = math.exp(WITHIN * self.width)
        return self.rate / factor, self.rate * factor


def find_optimum(
    study: str,
    setting: Setting,
    trials: Sequence[FrozenTrial],
    terms: Terms,
) -> Swept:
    """Reads a study's optimum, under a uniform prior.

    What the rules said is left out: exponents fitted to it would find the rules again.

    Args:
        study: its name.
        setting: where it was swept.
        trials: its trials, at least one of them finished.
        terms: what is known beside them; the priors are left out.
    """
    posterior = posterior_of(trials, dataclasses.replace(terms, priors={}))
    return read_optimum(study, setting, posterior)


def read_optimum(study: str, setting: Setting, posterior: Posterior) -> Swept:
    """What a posterior under a uniform prior says, as `find_optimum` has it."""
    x, joint = posterior.belief
    weight = joint.sum(1)
    mean = float(x @ weight)
    sd = math.sqrt(float(weight @ (x - mean) ** 2))
    return Swept(study, setting, mean, max(sd, FINEST), (x, joint))


def usual_critical_batch(tokens: float | None, sequence_tokens: float | None) -> Critical:
    """The critical batch size that so long a training usually has.

    Args:
        tokens: of the whole run, every epoch counted; None where unknown.
        sequence_tokens: tokens of a sequence, on average.

    Returns:
        The prior of ln Bc in sequences; its width grows with the distance to what was measured.
    """
    if tokens is None or sequence_tokens is None:
        return Critical(math.log(256.0), UNKNOWN_SD)
    further = math.log(tokens / USUAL_TOKENS)
    median = math.log(USUAL_CRITICAL_TOKENS / sequence_tokens) + CRITICAL_EXPONENT * further
    return Critical(median, math.hypot(USUAL_SD, USUAL_EXPONENT_SD * further), tokens)


def predict(optima: Sequence[Swept], setting: Setting, critical: Critical) -> Prediction:
    """Forecasts the best rate at a setting.

    Args:
        optima: of finished studies, as `Law` takes them.
        setting: where the rate is wanted.
        critical: the prior of the critical batch size.

    Returns:
        The mean over every exponent, by how well each explains the optima; the width holds what
        is not known of them, and how far a study's optimum lies from any such law.

    Raises:
        StudyError: there is no optimum to start from.
    """
    law = Law(optima, critical)
    mean, variance = law.at(setting)
    settings = [each.setting for each in optima]
    lengths = [each.length for each in settings if each.length] if law.has_length else []
    variance += MISFIT**2
    return Prediction(
        setting,
        math.exp(mean),
        math.sqrt(variance),
        _beyond(setting.batch_size, [each.batch_size for each in settings]),
        _beyond(setting.parameters, [each.parameters for each in settings]),
        _beyond(setting.length, lengths) if setting.length and lengths else 1.0,
        Wall(law, setting),
        law.slopes(setting),
        tuple(optima),
    )


def _beyond(wanted: float, known: Sequence[float]) -> float:
    nearest = min(max(wanted, min(known)), max(known))
    return wanted / nearest
