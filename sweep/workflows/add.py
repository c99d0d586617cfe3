"""Runs made by hand enter a study as finished trials."""

import math
from collections.abc import Iterable

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial

from studies.definition import PARAMETER, WIDE
from studies.perplexity import is_perplexity
from studies.prior import log_distance, multiples, nearest_rule
from studies.trials import rate_of, sound, value_of
from sweep.errors import SweepError
from sweep.results.record import read_study
from sweep.storage.lease import Lease

AROUND = 2.0  # factor of the rate within which a perplexity does not fall to a quarter
ALIKE = 1.5  # factor of the perplexity there
FAR = 4.0  # factor below all that the study has reached


def add(study: Study, rate: float, perplexity: float, note: str) -> int:
    """Adds a run that this tool did not train.

    Args:
        study: one that `sweep run` made.
        rate: its learning rate.
        perplexity: its lowest validation perplexity, at least 1.
        note: where it is from.

    Returns:
        The new trial's number.

    Raises:
        SweepError: the numbers are not possible, or a sweep is running on the study.
    """
    if not WIDE.low <= rate <= WIDE.high:
        raise SweepError(f"--rate must be from {WIDE.low:g} to {WIDE.high:g}, got {rate:g}")
    if not (math.isfinite(perplexity) and is_perplexity(perplexity)):
        raise SweepError(f"--perplexity must be a number of 1 or more, got {perplexity:g}")
    if is_loss(rate, perplexity, study.get_trials(deepcopy=False)):
        raise SweepError(
            f"--perplexity {perplexity:g} looks like a loss in nats: perplexity is exp(loss); did "
            f"you mean {math.exp(perplexity):.4g}?"
        )
    rates = read_study(study).rule_rates
    name, multiple = nearest_rule(rate, rates)
    trial = optuna.trial.create_trial(
        params={PARAMETER: rate},
        distributions={PARAMETER: WIDE},
        value=perplexity,
        user_attrs={
            "by_hand": True,
            "reason": f"by hand{': ' + note if note else ''}",
            "nearest_rule": name,
            "multiple": multiple,
            "multiples": multiples(rate, rates),
        },
    )
    with Lease(study).held():
        number = len(study.get_trials(deepcopy=False))
        study.add_trial(trial)
    return number


def is_loss(rate: float, perplexity: float, trials: Iterable[FrozenTrial]) -> bool:
    """Whether a run's perplexity is, as good as certainly, its loss in nats.

    That is where a trial around its rate came to about exp(perplexity), and none in the study to
    anything like the perplexity itself.
    """
    known = [(rate_of(trial), value_of(trial)) for trial in trials if sound(trial)]
    if not known or FAR * perplexity > min(value for _, value in known):
        return False
    return any(
        there is not None
        and log_distance(there, rate) <= math.log(AROUND)
        and abs(math.log(value) - perplexity) <= math.log(ALIKE)
        for there, value in known
    )
