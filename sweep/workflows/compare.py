"""`sweep compare`: the same rates and seeds in several precisions, paired."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain

import optuna
from optuna.study import Study

from studies.definition import WIDE
from studies.trials import rate_of, sound, value_of
from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.orchestration.listener import View
from sweep.orchestration.plan import identity_fields, make_plan
from sweep.results.comparison import Comparison, contrast
from sweep.results.lookup import study_names
from sweep.results.objective import objective_of
from sweep.results.record import read_study, read_trial, without_spelling
from sweep.storage.connect import check_storage, open_storage
from sweep.workflows.given_rates import run_settings, with_study, with_trainer
from trainers.config import PrecisionName

AROUND = (0.25, 0.5, 1.0, 2.0, 4.0)  # multiples of the best rate of a search
NEAR = 1.3  # a complete trial within this factor stands for such a multiple
FREE = frozenset({"precision", "seed", "data_source", "data_fingerprint"})


def compare(
    config: SweepConfig,
    precisions: Sequence[PrecisionName],
    rates: Sequence[float],
    seeds: int,
    view: View,
    *,
    resume_command: str,
) -> Comparison | None:
    """Trains what is missing, one run after another: speed and memory are compared too.

    Args:
        config: the setting; its seed is the first one.
        precisions: the first is the one that the others are compared with.
        rates: learning rates.
        seeds: how many, one after another.
        view: entered already.
        resume_command: the command that goes on, shown where it was stopped.

    Returns:
        The comparison, None where it was paused.
    """
    alone = with_study(config, cohort=1, workers=1)
    numbers = [config.trainer.seed + offset for offset in range(seeds)]
    settings = [
        (with_trainer(alone, seed=seed, precision=precision), rates)
        for seed in numbers
        for precision in precisions
    ]
    runs = run_settings(settings, view, resume_command=resume_command)
    if runs is None:
        return None
    found = list(chain.from_iterable(runs))
    objective = objective_of(config.trainer)
    whole = [run.value for run in found if run.state == "complete" and run.value is not None]
    objective = objective.scaled_to([objective.signed(value) for value in whole])
    return Comparison(
        precisions=tuple(precisions),
        rates=tuple(rates),
        seeds=tuple(numbers),
        device=config.device,
        runs=tuple(found),
        contrasts=tuple(
            contrast(found, precisions[0], other, objective) for other in precisions[1:]
        ),
        objective=objective,
    )


def default_rates(config: SweepConfig, study: Study | None) -> tuple[list[float], str]:
    """The rates around the best of a search in this setting, else the rules' own.

    Args:
        config: the setting.
        study: whose best to take; None looks for the last search that differs in precision and
            seed alone.

    Returns:
        The rates, and where they are from.
    """
    plan = make_plan(config)
    study = study or _search(config)
    tried = _complete(study) if study else {}
    if not study or not tried:
        return [centre.learning_rate for centre in plan.first], "the rules' own rates"
    best = min(tried, key=lambda rate: tried[rate])
    wanted = [best * factor for factor in AROUND]
    rates = [_stored_near(rate, tried) for rate in wanted if WIDE.low <= rate <= WIDE.high]
    return list(dict.fromkeys(rates)), f"around the best rate of {study.study_name}"


def _search(config: SweepConfig) -> Study | None:
    path = check_storage(config.study.storage, create=True)
    if path is not None and not path.exists():
        return None
    storage = open_storage(config.study.storage, create=True)
    mine = _bound(identity_fields(make_plan(config)))
    for name in reversed(study_names(storage)):
        study = optuna.load_study(study_name=name, storage=storage)
        if _bound(read_study(study).identity) == mine and _complete(study):
            return study
    return None


def _bound(identity: Mapping[str, object]) -> dict[str, object]:
    """What two studies must share for a comparison of precisions."""
    shared = {name: value for name, value in without_spelling(identity).items() if name not in FREE}
    return {**shared, "data.content": identity.get("data.content")}


def _complete(study: Study) -> dict[float, float]:
    """Stored values by rate of the trials that were trained whole."""
    objective = read_study(study).objective
    trials = [each for each in study.get_trials(deepcopy=False) if sound(each, objective)]
    return {
        rate: value_of(trial)
        for trial in trials
        if (rate := rate_of(trial)) and not read_trial(trial).by_hand
    }


def _stored_near(rate: float, tried: dict[float, float]) -> float:
    nearest = min(tried, key=lambda other: abs(math.log(other / rate)))
    return nearest if abs(math.log(nearest / rate)) <= math.log(NEAR) else float(f"{rate:.3g}")


def check_precisions(precisions: Sequence[str]) -> None:
    """Refuses to compare a precision with nothing, or with itself.

    Raises:
        SweepError: fewer than two, or one twice.
    """
    if len(set(precisions)) < 2 or len(set(precisions)) < len(precisions):
        raise SweepError(
            "--precision takes at least two different ones to compare, such as fp32,fp16, got "
            f"{','.join(precisions)}"
        )
