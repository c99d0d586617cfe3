"""Runs a list of given rates as a study: nothing is searched, nothing is pruned.

`sweep compare`, `confirm` and `reproduce` all come down to this. Such a study is kept beside the
search of the same setting, as `NAME-fixed`, and not in it: a search owns its total, its sampler and
its pruner, and would learn from trials that it did not ask for. The seed is part of a study's
identity (another seed is another experiment), so each seed has a study of its own. What has been
trained whole under the same identity, by a search or for another question, is not trained again.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.config.schema import SweepConfig
from sweep.errors import NothingTrainedError
from sweep.orchestration.endings import OUTSIDE
from sweep.orchestration.listener import View
from sweep.orchestration.plan import identity, make_plan
from sweep.orchestration.prepare import PreparedStudy, find_existing, prepare, with_rates
from sweep.orchestration.ranges import range_of
from sweep.orchestration.session import execute
from sweep.results.runs import TrainedRun, find_run, stored_runs

SUFFIX = "-fixed"
FAILURES = 2


def run_settings(
    settings: Sequence[tuple[SweepConfig, Sequence[float]]],
    view: View,
    *,
    resume_command: str,
    corpus: Path | None = None,
) -> list[list[TrainedRun]] | None:
    """Trains every rate of every setting whole that is not stored yet, on one text.

    Args:
        settings: each with its rates; its seed is part of it. What it says of the search is not
            used, and the data's settings are the same in all.
        view: entered already.
        resume_command: the command that goes on, shown where it was stopped.
        corpus: the directory of a study of the same data settings, whose text is used; None has the
            first setting read it.

    Returns:
        For each setting one run a rate, in the order of the rates; None where it was paused.

    Raises:
        SweepError, TrainerError, StudyError: one line that says what is wrong.
        NothingTrainedError: no setting has a run that did not fail.
    """
    found: list[list[TrainedRun]] = []
    untrained: list[NothingTrainedError] = []
    for config, rates in settings:
        ready = _prepared(config, rates, view, corpus)
        corpus = ready.directory
        runs = _run_rates(ready, rates, view, resume_command, untrained)
        if runs is None:
            return None
        found.append(runs)
    if untrained and all(run.state == "failed" for runs in found for run in runs):
        raise untrained[-1]
    return found


def _run_rates(
    ready: PreparedStudy,
    rates: Sequence[float],
    view: View,
    resume_command: str,
    untrained: list[NothingTrainedError],
) -> list[TrainedRun] | None:
    mine = identity(ready.plan, ready.corpus)
    stored = stored_runs(ready.storage, mine, failed=True)
    missing = [rate for rate in rates if _may_run(stored, rate)]
    if missing:
        try:
            done, summary = execute(with_rates(ready, missing), view)
        except NothingTrainedError as error:  # the next setting may be: it is shown beside them
            view.warn(str(error))
            untrained.append(error)
        else:
            if not done:
                view.paused(summary, resume_command)
                return None
        stored = stored_runs(ready.storage, mine, failed=True)
    return [run for rate in rates if (run := find_run(stored, rate)) is not None]


def _may_run(stored: Sequence[TrainedRun], rate: float) -> bool:
    """Whether a rate has no result; it is tried twice, as the ledger does with a search's."""
    same = [run for run in stored if run.has(rate)]
    own = sum(run.outcome not in OUTSIDE for run in same)
    return own < FAILURES and all(run.state == "failed" for run in same)


def with_trainer(config: SweepConfig, **changes: Any) -> SweepConfig:
    """The same configuration with other values of [trainer]."""
    return config.model_copy(update={"trainer": replace(config.trainer, **changes)})


def with_study(config: SweepConfig, **changes: object) -> SweepConfig:
    """The same configuration with other values of [study]."""
    return config.model_copy(update={"study": config.study.model_copy(update=changes)})


def _prepared(
    config: SweepConfig, rates: Sequence[float], view: View, corpus: Path | None
) -> PreparedStudy:
    given = {"name": "", "sampler": "random", "pruner": "none", "until": "", "rates": ()}
    unnamed = with_study(config, **given, range=range_of(rates), with_="", transfer=False)
    name, _ = find_existing(make_plan(unnamed), SUFFIX)
    named = with_study(unnamed, name=name)
    return replace(prepare(named, view, text=corpus), kind="fixed")
