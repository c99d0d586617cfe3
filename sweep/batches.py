"""`sweep run --batch 32,128,512`: studies in turn, each finished one a start for the next."""

import time
from collections.abc import Sequence

from optuna.study import Study

from sweep.across import exponents, find_family
from sweep.config import SweepConfig
from sweep.errors import SweepError
from sweep.estimate import peek_corpus
from sweep.fixed import with_study
from sweep.notes import terms
from sweep.plan import make_plan, study_name
from sweep.session import check_length, find_existing, run
from sweep.storage import open_storage
from sweep.summary import summarise
from sweep.view import View
from sweep.view.across import scaling
from sweep.view.formats import format_fitted, format_rate

LEAST_TIMEOUT_S = 1e-3  # 0 would mean none


def run_batches(
    configs: Sequence[SweepConfig], view: View, *, again: str, join: bool = False
) -> bool:
    """Runs a study for each configuration, or until it is stopped.

    One that was finished before, on the same terms, is not run again. A timeout is of all of them
    together.

    Args:
        configs: resolved, in the order to run them.
        view: entered already.
        again: the command that goes on, shown where it was stopped.
        join: whether to work beside those who run them now.

    Returns:
        Whether all of them are finished.

    Raises:
        SweepError: a name was given, which only one of them can have.
    """
    if len(configs) > 1 and configs[0].study.name:
        raise SweepError(
            f"study.name (--study) '{configs[0].study.name}' names one study, and there are "
            f"{len(configs)} batch sizes: leave it out"
        )
    _check_all(configs)
    began = time.monotonic()
    for config in configs:
        done = _finished_before(config)
        if done is not None:
            view.note(_said(done, config.study.storage))
        elif run(_in_time(config, began), view, again=again, join=join) is None:
            return False
    _show_scaling(configs[-1], view)
    return True


def _check_all(configs: Sequence[SweepConfig]) -> None:
    """Refuses what the last one would be refused for before the first one trains for hours."""
    finished = [_finished_before(config) for config in configs]
    if None not in finished:
        return
    corpus = peek_corpus(make_plan(configs[0]))
    for config in configs:
        check_length(config, corpus)


def _finished_before(config: SweepConfig) -> Study | None:
    plan = make_plan(config)
    study = find_existing(plan, study_name(plan))
    if study is None or study.user_attrs.get("finished") != terms(config.study):
        return None
    return study


def _said(study: Study, storage: str) -> str:
    found = summarise(study, storage)
    best = f"best rate {format_rate(found.best.learning_rate)}" if found.best else "no best rate"
    return f"batch {found.batch_size:,} is finished: {best} (study {found.name})"


def _in_time(config: SweepConfig, began: float) -> SweepConfig:
    """The configuration with what is left of the timeout."""
    if not config.study.timeout:
        return config
    left = config.study.timeout - (time.monotonic() - began)
    return with_study(config, timeout=max(left, LEAST_TIMEOUT_S))


def _show_scaling(config: SweepConfig, view: View) -> None:
    plan = make_plan(config)
    study = find_existing(plan, study_name(plan))
    if study is None:
        return
    family = find_family(
        open_storage(config.study.storage, create=False), study.user_attrs["identity"]
    )
    found = exponents(family)
    if found is None:
        return
    view.note(f"How the best rate scales; held fixed: {family.held}")
    for swept in family.swept:
        low, high = map(format_fitted, swept.interval)
        where = f"batch {swept.setting.batch_size:,}: {format_fitted(swept.rate)}"
        view.note(f"{where} ({low} to {high})")
    for line in scaling(found):
        view.note(line)
