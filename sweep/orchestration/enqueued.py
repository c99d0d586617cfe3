"""Trials that other programs enqueue, such as the dashboard: their rate may be anything."""

from optuna.trial import FrozenTrial

from studies.decay import DECAY, WIDE_DECAY
from studies.definition import PARAMETER, WIDE
from studies.trials import fixed_params, rate_of
from trainers.refusals import shown


def why_refused(trial: FrozenTrial) -> str:
    """What is wrong with the rate that a trial was enqueued with; "" where nothing is."""
    given = fixed_params(trial)
    if given and PARAMETER not in given and PARAMETER not in trial.params:
        return f"failed: it was enqueued without {PARAMETER}, with {', '.join(map(str, given))}"
    for name, wide in ((PARAMETER, WIDE), (DECAY, WIDE_DECAY)):
        if name in given and not wide.low <= (rate_of(trial, name) or 0.0) <= wide.high:
            return (
                f"failed: {name} must be a number from {wide.low:g} to {wide.high:g}, got "
                f"{shown(given[name])}"
            )
    return ""
