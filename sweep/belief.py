"""What a running study knows of the best rate, for the live screen."""

import math
from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from studies.errors import StudyError
from studies.observed import posterior_of
from studies.optimum import best_rate
from studies.prior import Prior
from sweep.summary import Belief


def belief(
    trials: Sequence[FrozenTrial],
    priors: Mapping[str, Prior],
    low: float,
    high: float,
    baseline: float | None = None,
) -> Belief | None:
    """Where the best rate lies, by the trials so far, as `sweep report` would say it.

    Args:
        trials: of the study.
        priors: what each rule says.
        low: the lowest rate that is searched.
        high: the highest.
        baseline: perplexity of a model that knows no context; None where it is unknown.

    Returns:
        None before a trial is complete: until then it is the rules' rates and nothing else.
    """
    if not any(trial.state == TrialState.COMPLETE for trial in trials):
        return None
    try:
        posterior = posterior_of(trials, priors, low, high, baseline)
    except StudyError:  # a trainer of the user's own, whose values are no perplexities
        return None
    mu, probability = posterior.density
    rates = tuple(math.exp(each) for each in mu)
    return Belief(rates, tuple(probability.tolist()), *best_rate(posterior))
