"""A study made ready to run: its text loaded, its database opened, what cannot go well refused."""

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from optuna.study import Study
from optuna.trial import TrialState

from studies.objective import Objective
from studies.prior import Centre
from studies.trials import rate_of
from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.orchestration.listener import View
from sweep.orchestration.plan import (
    Plan,
    earlier_fields,
    earlier_names,
    identity_fields,
    make_plan,
    renamed,
    study_directory,
    study_name,
)
from sweep.orchestration.strategy import TrialCounts
from sweep.orchestration.transfer import find_forecast, sentence, with_forecast
from sweep.orchestration.trunks import Trunks
from sweep.results.baseline import baseline_of
from sweep.results.forecast import Forecast
from sweep.results.lookup import check_identity, find_study
from sweep.results.objective import check_bytes
from sweep.results.place import check_place, free_place, place_of
from sweep.results.record import read_study
from sweep.storage.connect import check_storage, open_storage
from sweep.storage.retry import RetryingStorage
from trainers.config import TrainConfig
from trainers.data import Corpus, load_corpus, source_bytes, take_corpus
from trainers.errors import TrainerError
from trainers.importing import import_object
from trainers.length import length_on
from trainers.program.command import hash_of, script_of
from trainers.schedule import check_warmup

LARGE_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class PreparedStudy:
    """A study ready to run.

    Attributes:
        corpus: its text; None of a program, which reads its own.
        directory: where its corpus and checkpoints lie.
        kind: "search", or "fixed" for one that is given all its rates.
        forecast: what finished studies say of it; it is in the plan already.
        trunks: what its trials may begin with.
    """

    plan: Plan
    corpus: Corpus | None
    name: str
    directory: Path
    storage: RetryingStorage
    kind: str = "search"
    forecast: Forecast | None = None
    trunks: Trunks = field(default_factory=dict)


def prepare(config: SweepConfig, view: View, *, text: Path | None = None) -> PreparedStudy:
    """Refuses another study's name, loads the text, and opens the database.

    Args:
        config: resolved.
        view: entered already.
        text: the folder of a study whose text is taken, which was described to the user there.

    Raises:
        SweepError, TrainerError, StudyError: one line that says what is wrong.
    """
    import_object(config.study.trainer, what="trainer")
    plan = make_plan(config)
    # Before the text is loaded: that may take a minute, and would only fail later.
    name, existing = find_existing(plan)
    directory = study_directory(plan, name)
    if existing is not None:
        directory = place_of(existing, directory)
        check_place(directory, existing)
    elif (wanted := directory) != (directory := free_place(wanted)):
        view.note(f"{wanted} is another study's: this one's files go to {directory}")
    if config.trainer.program.command:
        check_script(plan, existing)
        storage = open_storage(config.study.storage, create=True, say=view.warn)
        return _with_forecast(PreparedStudy(plan, None, name, directory, storage), existing, view)
    with emptied_on_refusal(directory):
        if text is not None:
            take_corpus(text, directory)
        size = source_bytes(config.trainer.data)
        if existing is None and text is None and size > LARGE_BYTES:
            view.note(
                f"reading {size / 1e6:,.0f} MB of text, which may take minutes; data.stream = true "
                "reads no more than data.train_sequences asks for"
            )
        corpus = load_corpus(config.trainer.data, directory)
        check_length(config.trainer, corpus)
        check_bytes(config.trainer, config.study.trainer, corpus.tokens_per_byte)
    if text is None:
        show_notes(corpus, view)
    storage = open_storage(config.study.storage, create=True, say=view.warn)
    plan = make_plan(config, corpus)
    warn_of_loss(plan, corpus, view)
    return _with_forecast(PreparedStudy(plan, corpus, name, directory, storage), existing, view)


def _with_forecast(ready: PreparedStudy, existing: Study | None, view: View) -> PreparedStudy:
    forecast = find_forecast(ready.plan, ready.corpus, ready.storage, existing)
    if forecast is not None:
        view.note(sentence(forecast))
    return replace(ready, plan=with_forecast(ready.plan, forecast), forecast=forecast)


def with_rates(ready: PreparedStudy, missing: Sequence[float]) -> PreparedStudy:
    """The study with these rates as its first ones, and a total that leaves room for no other."""
    existing = find_study(ready.storage, ready.name)
    trials = existing.get_trials(deepcopy=False) if existing else []
    open_ones = [
        rate
        for trial in trials
        if trial.state in (TrialState.WAITING, TrialState.RUNNING)
        and (rate := rate_of(trial)) is not None
    ]
    new = [rate for rate in missing if not any(math.isclose(rate, other) for other in open_ones)]
    counted = len(trials) - TrialCounts(trials).excused
    study = ready.plan.config.study.model_copy(update={"trials": counted + len(new)})
    config = ready.plan.config.model_copy(update={"study": study})
    first = tuple(Centre(rate, ()) for rate in missing)
    return replace(ready, plan=replace(ready.plan, config=config, first=first))


def untried(ready: PreparedStudy, rates: Sequence[float]) -> list[float]:
    """Those rates that the study has no trial of, but for one that failed."""
    existing = find_study(ready.storage, ready.name)
    counts = TrialCounts(existing.get_trials(deepcopy=False) if existing else [])
    return [rate for rate in rates if counts.at(rate)[0] == 0]


def check_script(plan: Plan, existing: Study | None) -> None:
    """Refuses to go on with a study whose program's script is not what it was.

    Raises:
        SweepError: it has changed, and the user has not said that this is all the same.
    """
    if existing is None or plan.config.study.same_program:
        return
    command = plan.train.program.command
    if read_study(existing).script != hash_of(command):
        raise SweepError(
            f"{script_of(command) or command[0]} has changed since study '{existing.study_name}' "
            "began, so its trials may not compare: --same-program goes on all the same, "
            "--study NAME begins another"
        )


def find_existing(plan: Plan, suffix: str = "") -> tuple[str, Study | None]:
    """The study's name, and the study where it is stored; makes no database.

    Args:
        plan: the study's.
        suffix: behind its name.

    Raises:
        SweepError: it was made with other settings, or the storage cannot be used.
    """
    name, storage = study_name(plan) + suffix, plan.config.study.storage
    study_directory(plan, name)
    path = check_storage(storage, create=True)
    if path is not None and not path.exists():
        return name, None
    opened = open_storage(storage, create=True)
    there = [study.study_name for study in opened.get_all_studies()]
    earlier = [each + suffix for each in earlier_names(plan)]
    for stored in dict.fromkeys((*earlier, name, *renamed(plan, there, suffix))):
        existing = find_study(opened, stored)
        if existing is not None:
            check_identity(existing, identity_fields(plan), *earlier_fields(plan))
            return stored, existing
    return name, None


@contextmanager
def emptied_on_refusal(directory: Path) -> Iterator[None]:
    """Leaves no folder of a study that was never made; another study's stays as it is."""
    new = not directory.exists()
    try:
        yield
    except (SweepError, TrainerError):
        if new and directory.exists():
            shutil.rmtree(directory)
        raise


def show_notes(corpus: Corpus, view: View) -> None:
    """Shows what the user should know of the text; its share of unknown words comes last."""
    *warnings, share = corpus.notes
    for warning in warnings:
        view.warn(warning)
    view.note(f"data {corpus.source}: {share}")


def warn_of_loss(plan: Plan, corpus: Corpus, view: View) -> None:
    """Says so where the reference's perplexity is rather a loss."""
    perplexity = Objective()
    baseline = baseline_of(plan.config.study.trainer, corpus.unigram_perplexity, perplexity)
    value = None if plan.borrowed else plan.reference.perplexity
    if value is not None and (said := perplexity.suspicion([value], baseline)):
        view.warn(f"reference.{said}")


def check_length(train: TrainConfig, corpus: Corpus) -> None:
    """Refuses a batch that the text cannot fill, and a warm-up that the run is too short for.

    Raises:
        SweepError: the batch is over the number of training sequences.
        TrainerError: the warm-up is longer than the run.
    """
    sequences = len(corpus.train)
    if train.batch_size > sequences:
        raise SweepError(
            f"batch size {train.batch_size} is over the {sequences} training sequences "
            f"of {corpus.source}: take a smaller --batch, or more data"
        )
    check_warmup(train, length_on(train, corpus.train))
