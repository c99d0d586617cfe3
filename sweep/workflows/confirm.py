"""`sweep confirm`: a search's finalists over new seeds.

The best of a dozen trials owes part of its value to its seed: it was chosen for it. So the
search's own seed counts for nothing here. Each new seed is a study of given rates beside the
search, for the seed is part of a study's identity; the search itself keeps only what came of it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from studies.decay import decay_of
from studies.objective import Objective
from studies.trials import rate_of
from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.orchestration.listener import View
from sweep.results.belief import recommended
from sweep.results.confirmation import Confirmation, Finalist, make_finalist, record
from sweep.results.lookup import best_trial
from sweep.results.notes import note_confirmation
from sweep.results.place import place_of
from sweep.results.record import read_study
from sweep.results.runs import TrainedRun
from sweep.workflows.foreign_code import foreign_code, naming
from sweep.workflows.given_rates import run_settings, with_study, with_trainer


def confirm(
    config: SweepConfig,
    study: Study,
    top: int,
    seeds: int,
    view: View,
    *,
    resume_command: str,
    before_release: Callable[[Study], None],
) -> tuple[Confirmation, list[TrainedRun]] | None:
    """Trains the finalists over new seeds, and notes in the search what came of it.

    Args:
        config: the search's own, as `config_of` gives it.
        study: the search.
        top: how many of its best trials.
        seeds: how many new seeds.
        view: entered already.
        resume_command: the command that goes on, shown where it was stopped.
        before_release: called with the search while it is held.

    Returns:
        What the seeds say and their runs, None where they were stopped.

    Raises:
        SweepError: the search has no complete trial.
    """
    finalists = best_trials(study, top)
    rates = [float(rate_of(trial) or 0.0) for trial in finalists]
    decays = list(dict.fromkeys(map(decay_of, finalists)))
    view.note(f"finalists of {study.study_name}: {', '.join(f'{rate:.3g}' for rate in rates)}")
    numbers = [config.trainer.seed + offset for offset in range(1, seeds + 1)]
    corpus = place_of(study)
    rates_at = {
        decay: [float(rate_of(each) or 0.0) for each in finalists if decay_of(each) == decay]
        for decay in decays
    }
    settings = [(_at(config, seed, decay), rates_at[decay]) for seed in numbers for decay in decays]
    runs = run_settings(settings, view, resume_command=resume_command, corpus=corpus)
    if runs is None:
        return None
    found = list(chain.from_iterable(runs))
    objective = read_study(study).objective
    made = []
    for trial in finalists:
        its_own = runs[decays.index(decay_of(trial)) :: len(decays)]
        made.append(_finalist(trial, list(chain.from_iterable(its_own)), objective))
    made.sort(key=lambda each: objective.signed(each.mean.mean) if each.mean else math.inf)
    confirmation = Confirmation(study.study_name, tuple(numbers), tuple(made), objective)
    note_confirmation(study, record(confirmation), then=lambda: before_release(study))
    return confirmation, found


def best_trials(study: Study, top: int) -> list[FrozenTrial]:
    """The complete trials whose rates are expected to cost least at a new seed, one a rate.

    Raises:
        SweepError: none is complete.
    """
    best_trial(study)
    trials = study.get_trials(deepcopy=False)
    chosen: list[FrozenTrial] = []
    for trial in (trials[number] for number in recommended(study)):
        rates = [rate_of(other) or 0.0 for other in chosen if decay_of(other) == decay_of(trial)]
        if not any(math.isclose(rate_of(trial) or 0.0, rate) for rate in rates):
            chosen.append(trial)
    return chosen[:top]


def config_of(study: Study, config: SweepConfig, *, allowed: set[str]) -> SweepConfig:
    """The configuration that a study was made with: its trainer's settings, model and data.

    Args:
        study: one of this tool's.
        config: the user's now, for what is no part of a study's identity.
        allowed: import paths that the user names now; a database may be a stranger's.

    Raises:
        SweepError: the study was made with other code than the user names.
    """
    stored = read_study(study)
    train = stored.train
    found = foreign_code(train, stored.trainer, allowed=allowed)
    if found:
        raise SweepError(
            f"study '{study.study_name}' was made with '{found[1]}', which is run only where you "
            f"name it too: add {naming(found)} if you trust it"
        )
    known = config.model_copy(update={"trainer": train, "model": train.model.name})
    return with_study(known, trainer=stored.trainer)


def confirmation_object(confirmation: Confirmation, runs: Sequence[TrainedRun]) -> dict[str, Any]:
    """The confirmation as plain JSON values, its runs among them."""
    return {
        "study": confirmation.study,
        **record(confirmation),
        "runs": [asdict(run) for run in runs],
    }


def _at(config: SweepConfig, seed: int, decay: float | None) -> SweepConfig:
    """The search's configuration at a new seed, and at a weight decay where that was searched."""
    known = with_trainer(config, seed=seed)
    return known if decay is None else with_trainer(known, weight_decay=decay)


def _finalist(trial: FrozenTrial, found: Sequence[TrainedRun], objective: Objective) -> Finalist:
    rate = float(rate_of(trial) or 0.0)
    runs = [run for run in found if run.has(rate)]
    return make_finalist(
        trial.number,
        rate,
        objective.signed(math.inf if trial.value is None else trial.value),
        [run.state for run in runs],
        [math.inf if run.value is None else run.value for run in runs],
        weight_decay=decay_of(trial),
    )
