"""Runs made by hand enter a study as finished trials."""

import math

import optuna
from optuna.study import Study

from studies.definition import PARAMETER, WIDE
from studies.prior import multiples, nearest_rule
from sweep.errors import SweepError
from sweep.lease import Lease


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
    if not (math.isfinite(perplexity) and perplexity >= 1):
        raise SweepError(f"--perplexity must be a number of 1 or more, got {perplexity:g}")
    rates = {rule["name"]: rule["learning_rate"] for rule in study.user_attrs["rules"]}
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
    lease = Lease(study)
    lease.take()
    try:
        number = len(study.get_trials(deepcopy=False))
        study.add_trial(trial)
    finally:
        lease.release()
    return number
