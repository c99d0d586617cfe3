"""Trials that other programs enqueue, such as the dashboard: their rate may be anything."""

from optuna.trial import FrozenTrial

from studies.definition import PARAMETER, WIDE
from studies.trials import fixed_params, rate_of
from trainers.refusals import shown


def why_refused(trial: FrozenTrial) -> str:
    """What is wrong with the rate that a trial was enqueued with; "" where nothing is."""
    given = fixed_params(trial)
    if given and PARAMETER not in given and PARAMETER not in trial.params:
        return f"failed: it was enqueued without {PARAMETER}, with {', '.join(map(str, given))}"
    if PARAMETER not in given or WIDE.low <= (rate_of(trial) or 0.0) <= WIDE.high:
        return ""
    return (
        f"failed: {PARAMETER} must be a number from {WIDE.low:g} to {WIDE.high:g}, got "
        f"{shown(given[PARAMETER])}"
    )
