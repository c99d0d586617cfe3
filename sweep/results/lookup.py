"""Opens studies for reading."""

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from studies.definition import Identity
from studies.trials import is_paused, rate_of, sound, value_of, why_no_result
from sweep.errors import SweepError
from sweep.results.record import made_by_sweep, read_study, without_spelling
from sweep.storage.connect import open_storage
from sweep.storage.making import MARK
from sweep.url import StorageUrl
from trainers.config import LATER

UNSET = Identity.of(LATER).fields
"""The fields of an identity that came later: a study that lacks them was made with these."""

DEFAULT_STORAGE = "sqlite:///sweep.db"


def open_study(
    storage: StorageUrl | str, name: str | None, say: Callable[[str], None] | None = None
) -> Study:
    """Opens a study; without a name, the search that ran last.

    Args:
        storage: the database.
        name: of the study.
        say: told what is waited for, now or when it is written.

    Raises:
        SweepError: no such database or study; the message names those there are.
    """
    opened, shown = open_storage(storage, create=False, say=say), StorageUrl(storage)
    names = study_names(opened, fixed=name is not None)
    if not names:
        raise SweepError(f"{shown} holds no study of sweep: `sweep run` makes one")
    if name is None:
        return optuna.load_study(study_name=names[-1], storage=opened)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}"
        raise SweepError(f"there is no study '{name}' in {shown}: {hint}")
    return optuna.load_study(study_name=name, storage=opened)


def open_all(storage: StorageUrl | str, *, fixed: bool = False) -> list[Study]:
    """Every study of `sweep run` in a database, the one that ran last at the end.

    Args:
        storage: the database, as the user names it.
        fixed: also those that searched nothing.
    """
    opened = open_storage(storage, create=False)
    names = study_names(opened, fixed=fixed)
    return [optuna.load_study(study_name=name, storage=opened) for name in names]


def find_study(storage: BaseStorage, name: str) -> Study | None:
    """The study of that name, None where there is none, or only what a kill left of its making."""
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None
    started = MARK in study.user_attrs and not made_by_sweep(study)
    return None if started and not study.get_trials(deepcopy=False) else study


def check_identity(study: Study, *mine: Mapping[str, Any]) -> None:
    """Refuses a study that was made with something else.

    Args:
        study: the stored study.
        mine: the identity's fields now, or those of them that are known yet; more than one where
            earlier versions had it otherwise.

    Raises:
        SweepError: names the fields that differ.
    """
    stored = read_study(study).identity
    all_differences = [_differences({**UNSET, **each}, stored) for each in mine]
    if all(all_differences):
        differences = all_differences[0]
        raise SweepError(
            f"study '{study.study_name}' was made with other settings: "
            f"{'; '.join(differences)}. Choose another --study, or the same settings"
        )


def _differences(here: dict[str, Any], stored: Mapping[str, Any]) -> list[str]:
    there = {**UNSET, **{key: value for key, value in stored.items() if key in here}}
    return Identity(without_spelling(here)).differences(Identity(without_spelling(there)))


def study_names(storage: RDBStorage, *, fixed: bool = False) -> list[str]:
    """The studies that this tool made, the one that ran last at the end.

    Args:
        storage: the opened database.
        fixed: also those that searched nothing (see `sweep.workflows.given_rates`).
    """
    # Not Optuna's summaries: these read every trial of every study.
    made = [(read_study(s), s) for s in storage.get_all_studies() if made_by_sweep(s)]
    mine = [(record, study) for record, study in made if fixed or not record.fixed]
    mine.sort(key=lambda each: (each[0].ran, each[1]._study_id))
    return [study.study_name for _, study in mine]


def find_trial(study: Study, number: int) -> FrozenTrial:
    """A trial by its number.

    Raises:
        SweepError: the study has no such trial.
    """
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        last = f"they go from 0 to {len(trials) - 1}" if trials else "it has none yet"
        raise SweepError(f"study '{study.study_name}' has no trial {number}: {last}")
    return trials[number]


def best_trial(study: Study) -> FrozenTrial:
    """The complete trial with the best value.

    Raises:
        SweepError: none is complete.
    """
    objective = read_study(study).objective
    complete = [each for each in study.get_trials(deepcopy=False) if sound(each, objective)]
    if not complete:
        raise SweepError(f"study '{study.study_name}' has no complete trial yet: let it run on")
    return min(complete, key=value_of)


def finished_trial(study: Study, number: int) -> FrozenTrial:
    """A trial that has a value.

    Raises:
        SweepError: no such trial, or it has reported nothing, or it has diverged, or another
            program has written what is no result.
    """
    trial = find_trial(study, number)
    if trial.state in (TrialState.RUNNING, TrialState.WAITING) or trial.value is None:
        state = "paused" if is_paused(trial) else trial.state.name.lower()
        raise SweepError(f"trial {number} is {state} and has no result")
    if trial.value == math.inf:
        raise SweepError(f"trial {number} diverged: its value is no result, choose another")
    if fault := why_no_result(rate_of(trial), trial.value, read_study(study).objective):
        raise SweepError(f"trial {number}: {fault}, choose another")
    return trial
