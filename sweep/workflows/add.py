"""Runs made by hand enter a study as finished trials."""

import math
from collections.abc import Iterable, Mapping

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial

from studies.decay import DECAY, WIDE_DECAY
from studies.definition import PARAMETER, WIDE
from studies.objective import PERPLEXITY, VALIDATION_LOSS, Objective
from studies.prior import log_distance, multiples, nearest_rule
from studies.trials import rate_of, sound, value_of
from sweep.errors import SweepError
from sweep.results.record import read_study
from sweep.storage.lease import Lease

AROUND = 2.0  # factor of the rate within which a perplexity does not fall to a quarter
ALIKE = 1.5  # factor of the perplexity there
FAR = 4.0  # factor below all that the study has reached


def add(study: Study, rate: float, value: float, note: str, decay: float | None = None) -> int:
    """Adds a run that this tool did not train.

    Args:
        study: one that `sweep run` made.
        rate: its learning rate.
        value: its best, of the study's metric.
        note: where it is from.
        decay: its weight decay, where the study searches that too.

    Returns:
        The new trial's number.

    Raises:
        SweepError: the numbers are not possible, or a sweep is running on the study.
    """
    if not WIDE.low <= rate <= WIDE.high:
        raise SweepError(f"--rate must be from {WIDE.low:g} to {WIDE.high:g}, got {rate:g}")
    _check_decay(decay, searched=read_study(study).decay is not None)
    objective = read_study(study).objective
    if not (math.isfinite(value) and objective.valid(objective.signed(value))):
        raise SweepError(
            f"{flag_of(objective)} must be a {objective.words}, {objective.bounds}, got {value:g}"
        )
    is_perplexity = objective.name == PERPLEXITY
    if is_perplexity and is_loss(rate, value, study.get_trials(deepcopy=False)):
        raise SweepError(
            f"--perplexity {value:g} looks like a loss in nats: perplexity is exp(loss); did you "
            f"mean {math.exp(value):.4g}?"
        )
    rates = read_study(study).rule_rates
    name, multiple = nearest_rule(rate, rates)
    trial = optuna.trial.create_trial(
        params={PARAMETER: rate} if decay is None else {PARAMETER: rate, DECAY: decay},
        distributions={PARAMETER: WIDE} if decay is None else {PARAMETER: WIDE, DECAY: WIDE_DECAY},
        value=objective.signed(value),
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


def _check_decay(decay: float | None, *, searched: bool) -> None:
    if searched and decay is None:
        raise SweepError("--weight-decay is missing: this study searches it together with the rate")
    if decay is None:
        return
    if not searched:
        raise SweepError("--weight-decay: this study's trials have one and the same: leave it out")
    if not WIDE_DECAY.low <= decay <= WIDE_DECAY.high:
        raise SweepError(
            f"--weight-decay must be from {WIDE_DECAY.low:g} to {WIDE_DECAY.high:g}, got {decay:g}"
        )


def given_value(
    objective: Objective, value: float | None, named: Mapping[str, float | None]
) -> float:
    """The one value that was given, of the study's own metric.

    Args:
        objective: the study's.
        value: of --value.
        named: of the flags of one metric, by its name.

    Raises:
        SweepError: none or several were given, or another metric's flag.
    """
    given = {name: each for name, each in named.items() if each is not None}
    if len(given) + (value is not None) != 1:
        raise SweepError(
            f"{flag_of(objective)} is missing, or given twice: it is what the run came to"
        )
    for name in given.keys() - {objective.name}:
        flag = name.replace("_", "-")
        raise SweepError(
            f"--{flag}: the study's metric is {objective.name}: give {flag_of(objective)}"
        )
    return next(iter(given.values())) if value is None else value


def flag_of(objective: Objective) -> str:
    """The flag of a study's metric."""
    own = (PERPLEXITY, VALIDATION_LOSS)
    return f"--{objective.name.replace('_', '-')}" if objective.name in own else "--value"


def is_loss(rate: float, perplexity: float, trials: Iterable[FrozenTrial]) -> bool:
    """Whether a run's perplexity is, as good as certainly, its loss in nats.

    That is where a trial around its rate came to about exp(perplexity), and none in the study to
    anything like the perplexity itself.
    """
    known = [(rate_of(trial), value_of(trial)) for trial in trials if sound(trial, Objective())]
    if not known or FAR * perplexity > min(value for _, value in known):
        return False
    return any(
        there is not None
        and log_distance(there, rate) <= math.log(AROUND)
        and abs(math.log(value) - perplexity) <= math.log(ALIKE)
        for there, value in known
    )
