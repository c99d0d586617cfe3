"""Studies in turn, each finished one a start for the next: `sweep run --batch 32,128,512`.

Those of "wsd" that differ in length alone share what they train before a decay: a longer trial goes
on from where the decay of a shorter one of its rate began.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from optuna.study import Study

from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.execution.protocol import SHARED_TRAINER
from sweep.formatting import format_rate
from sweep.orchestration.clearing import clear
from sweep.orchestration.listener import View
from sweep.orchestration.plan import make_plan
from sweep.orchestration.prepare import check_length, find_existing
from sweep.orchestration.session import run_study
from sweep.orchestration.strategy import TrialCounts
from sweep.orchestration.trunks import Trunks, trunks_of
from sweep.results.family import Family, find_family
from sweep.results.notes import stop_criteria
from sweep.results.place import place_of
from sweep.results.record import read_study
from sweep.results.summary import summarise
from sweep.storage.connect import open_storage
from sweep.storage.lease import Lease
from sweep.url import StorageUrl
from sweep.workflows.dry_run import peek_corpus
from trainers.config import TrainConfig
from trainers.length import REPORTS


def share_trunks(configs: Sequence[SweepConfig], view: View) -> list[SweepConfig]:
    """Has studies that can share what they train before a decay do so.

    Each one keeps it for those after it, and all report as often as the shortest one would. Where
    that one has been run alone before, which it is the same as, its study is the one that counts.

    Args:
        configs: resolved, in the order to run them.
        view: told why studies that differ in length alone share nothing.
    """
    shared, warmups_differ = list(configs), False
    for place, config in enumerate(configs):
        train, schedule = config.trainer, config.trainer.lr_schedule
        alike = [each for each in configs if _without_length(each) == _without_length(config)]
        if len(alike) == 1 or schedule.name != "wsd" or config.study.trainer != SHARED_TRAINER:
            continue
        if schedule.warmup_share and not (schedule.horizon_epochs or schedule.horizon_steps):
            warmups_differ = True
            continue
        every = min(_report_steps(each.trainer) for each in alike)
        train = replace(train, keep_trunk=config is not alike[-1])
        alone = config.model_copy(update={"trainer": train})
        train = replace(train, evaluate_every=every)
        shared[place] = config.model_copy(update={"trainer": train})
        # Of tokens it is known only once the text is read how often it reports alone.
        same = train.steps and _report_steps(alone.trainer) == every
        if same and _existing(shared[place]) is None and _existing(alone) is not None:
            shared[place] = alone
    if warmups_differ:
        view.note(
            "each length is trained alone, since lr_schedule.warmup_share makes their warm-ups "
            "differ: with lr_schedule.warmup_steps they share what comes before the decay"
        )
    return shared


def _without_length(config: SweepConfig) -> TrainConfig:
    return replace(config.trainer, epochs=1, steps=0, tokens=0, keep_trunk=False)


def _report_steps(train: TrainConfig) -> int:
    """Steps between reports; of tokens, as if every window were full; 0: an epoch."""
    steps = train.steps or train.tokens // (train.batch_size * (train.data.window - 1))
    usual = 0 if train.epochs else max(1, steps // REPORTS)
    return train.evaluate_every or usual


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
    for place, config in enumerate(configs):
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
            trunks=_trunks(config, configs[:place]),
        ):
            return None
        if enough is not None and enough(config, _family(config)):
            break
    _clear_trunks(configs, view)
    return _family(config)


def sharing(config: SweepConfig, earlier: Sequence[SweepConfig]) -> list[SweepConfig]:
    """Those of some configurations whose trunks a longer one's trials may begin with."""
    kept = [each for each in earlier if each.trainer.keep_trunk]
    return [each for each in kept if _without_length(each) == _without_length(config)]


def _trunks(config: SweepConfig, earlier: Sequence[SweepConfig]) -> Trunks:
    """What finished studies have trained of a study's runs."""
    found = [_existing(each) for each in sharing(config, earlier)]
    return trunks_of(study for study in found if study is not None)


def _clear_trunks(configs: Sequence[SweepConfig], view: View) -> None:
    """Deletes what was kept for longer runs, now that there are no more of them."""
    for config in configs:
        study = _existing(config) if config.trainer.keep_trunk else None
        if study is None or config.study.keep != "best":
            continue
        with suppress(SweepError), Lease(study).held():  # another run that has it clears it
            if freed := clear(study, place_of(study)):
                view.note(freed)


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
    length = f"{found.steps:,} {found.unit}s, " if found.steps else ""
    best = f"best rate {format_rate(found.best.learning_rate)}" if found.best else "no best rate"
    return f"batch {found.batch_size:,} is finished: {best} ({length}study {found.name})"


def _family(config: SweepConfig) -> Family:
    study = _existing(config)
    assert study is not None, "it was finished just now"
    storage = open_storage(config.study.storage, create=False)
    return find_family(storage, read_study(study).identity)
