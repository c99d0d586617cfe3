"""Studies in turn, each finished one a start for the next: `sweep run --batch 32,128,512`."""

from collections.abc import Callable, Sequence

from optuna.study import Study

from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.formatting import format_rate
from sweep.orchestration.listener import View
from sweep.orchestration.plan import make_plan
from sweep.orchestration.prepare import check_length, find_existing
from sweep.orchestration.session import run_study
from sweep.orchestration.strategy import TrialCounts
from sweep.results.family import Family, find_family
from sweep.results.notes import stop_criteria
from sweep.results.record import read_study
from sweep.results.summary import summarise
from sweep.storage.connect import open_storage
from sweep.url import StorageUrl
from sweep.workflows.dry_run import peek_corpus


def run_batches(
    configs: Sequence[SweepConfig],
    view: View,
    *,
    resume_command: str,
    join: bool = False,
    before_release: Callable[[Study], None],
    enough: Callable[[SweepConfig, Family], bool] | None = None,
) -> Family | None:
    """Runs a study for each configuration, or until it is stopped.

    One that was finished before, on the same terms, is not run again. A timeout is of all of them
    and all their runs together.

    Args:
        configs: resolved, in the order to run them.
        view: entered already.
        resume_command: the command that goes on, shown where it was stopped.
        join: whether to work beside those who run them now.
        before_release: as of `session.run_study`.
        enough: asked after each study, with all that is finished; the others are then not run.

    Returns:
        The finished studies of their family; None where it was stopped.

    Raises:
        SweepError: a name was given, which only one of them can have.
    """
    if len(configs) > 1 and configs[0].study.name:
        raise SweepError(
            f"study.name (--study) '{configs[0].study.name}' names one study, and there are "
            f"{len(configs)} studies to run: leave it out"
        )
    if len(configs) > 1 and configs[0].study.with_:
        raise SweepError(
            "study.with (--with) weight_decay: one study does not start from another there, and "
            f"there are {len(configs)} studies to run: run them one by one"
        )
    _check_all(configs)
    for config in configs:
        done = _finished_before(config)
        if done is not None:
            view.note(_said(done, config.study.storage))
        elif not run_study(
            config,
            view,
            resume_command=resume_command,
            join=join,
            before_release=before_release,
            elsewhere_s=_elsewhere_s(config, configs),
        ):
            return None
        if enough is not None and enough(config, _family(config)):
            return _family(config)
    return _family(configs[-1])


def _check_all(configs: Sequence[SweepConfig]) -> None:
    """Refuses what the last one would be refused for before the first one trains for hours."""
    finished = [_finished_before(config) for config in configs]
    if None not in finished:
        return
    plan = make_plan(configs[0])
    if plan.train.program.command:
        return
    corpus = peek_corpus(plan, find_existing(plan)[1])
    for config in configs:
        check_length(config.trainer, corpus)


def _existing(config: SweepConfig) -> Study | None:
    return find_existing(make_plan(config))[1]


def _finished_before(config: SweepConfig) -> Study | None:
    study = _existing(config)
    if study is None or read_study(study).finished != stop_criteria(config.study):
        return None
    # What was lost in its last run is asked for again.
    owed = TrialCounts(study.get_trials(deepcopy=False)).owed
    return study if owed is None else None


def _elsewhere_s(config: SweepConfig, configs: Sequence[SweepConfig]) -> float:
    """Seconds of the timeout that the others' studies have taken; 0 where there is none."""
    if not config.study.timeout:
        return 0.0
    others = [_existing(other) for other in configs if other is not config]
    return sum(read_study(study).spent_s for study in others if study is not None)


def _said(study: Study, storage: StorageUrl) -> str:
    found = summarise(study, storage)
    best = f"best rate {format_rate(found.best.learning_rate)}" if found.best else "no best rate"
    return f"batch {found.batch_size:,} is finished: {best} (study {found.name})"


def _family(config: SweepConfig) -> Family:
    study = _existing(config)
    assert study is not None, "it was finished just now"
    storage = open_storage(config.study.storage, create=False)
    return find_family(storage, read_study(study).identity)
