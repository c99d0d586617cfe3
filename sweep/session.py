"""Puts a sweep together: configuration, text, ledger, executor and view."""

import math
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from optuna.study import Study

from studies.perplexity import look_like_losses, suspicion
from studies.stopping import parse_until
from sweep.belief import recommended
from sweep.clock import go_on_with
from sweep.config import SweepConfig
from sweep.errors import SweepError
from sweep.executors import make_executor
from sweep.forecasts import Forecast, verdict
from sweep.ledger import Ledger
from sweep.notes import terms
from sweep.orchestrator import Orchestrator
from sweep.patience import PatientStorage
from sweep.plan import Plan, identity, identity_fields, make_plan, study_directory, study_name
from sweep.priors import described
from sweep.publish import publish
from sweep.reading import DEFAULT_STORAGE, check_identity, find_study, open_all, study_names
from sweep.recovery import Recovery
from sweep.resources import find_resources
from sweep.search import Search
from sweep.signals import StopSignals
from sweep.storage import check_storage, open_storage
from sweep.summary import StudySummary, summarise, with_recommended
from sweep.training import baseline_of
from sweep.transfer import find_forecast, sentence, with_forecast
from sweep.view import View
from sweep.view.tensorboard import with_tensorboard
from trainers.data import Corpus, load_corpus
from trainers.errors import TrainerError
from trainers.importing import import_object
from trainers.schedule import check_warmup


@dataclass(frozen=True, slots=True)
class Prepared:
    """A study ready to run.

    Attributes:
        directory: where its corpus and checkpoints lie.
        kind: "search", or "fixed" for one that is given all its rates.
        forecast: what finished studies say of it; it is in the plan already.
    """

    plan: Plan
    corpus: Corpus
    name: str
    directory: Path
    storage: PatientStorage
    kind: str = "search"
    forecast: Forecast | None = None


def prepare(config: SweepConfig, view: View, *, known: bool = False) -> Prepared:
    """Refuses another study's name, loads the text, and opens the database.

    Args:
        config: resolved.
        view: entered already.
        known: whether the text has been described to the user.

    Raises:
        SweepError, TrainerError, StudyError: one line that says what is wrong.
    """
    import_object(config.study.trainer, what="trainer")
    plan = make_plan(config)
    name = study_name(plan)
    directory = study_directory(plan, name)
    # Before the text is loaded: that may take a minute, and would only fail later.
    existing = find_existing(plan, name)
    if existing is not None:
        directory = Path(existing.user_attrs["directory"])
    with _emptied_on_refusal(directory):
        corpus = load_corpus(config.trainer.data, directory)
        check_length(config, corpus)
    if not known:
        show_notes(corpus, view)
    storage = open_storage(config.study.storage, create=True, say=view.warn)
    plan = make_plan(config, corpus)
    warn_of_loss(plan, corpus, view)
    forecast = find_forecast(plan, corpus, storage, existing)
    if forecast is not None:
        view.note(sentence(forecast))
    plan = with_forecast(plan, forecast)
    return Prepared(plan, corpus, name, directory, storage, forecast=forecast)


def find_existing(plan: Plan, name: str) -> Study | None:
    """The study of that name, None where there is none; makes no database.

    Raises:
        SweepError: it was made with other settings, or the storage cannot be used.
    """
    storage = plan.config.study.storage
    path = check_storage(storage, create=True)
    if path is not None and not path.exists():
        return None
    existing = find_study(open_storage(storage, create=True), name)
    if existing is not None:
        check_identity(existing, identity_fields(plan))
    return existing


@contextmanager
def _emptied_on_refusal(directory: Path) -> Iterator[None]:
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
    baseline = baseline_of(plan.config.study.trainer, corpus.unigram_perplexity)
    value = None if plan.borrowed else plan.reference.perplexity
    if value is not None and baseline is not None and look_like_losses([value], baseline):
        view.warn(f"reference.{suspicion(value, baseline)}")


def check_length(config: SweepConfig, corpus: Corpus) -> None:
    """Refuses a batch that the text cannot fill, and a warm-up that the run is too short for.

    Raises:
        SweepError: the batch is over the number of training sequences.
        TrainerError: the warm-up is longer than the run.
    """
    sequences = len(corpus.train.lengths)
    if config.trainer.batch_size > sequences:
        raise SweepError(
            f"batch size {config.trainer.batch_size} is over the {sequences} training sequences "
            f"of {corpus.source}: take a smaller --batch, or more data"
        )
    check_warmup(config.trainer, math.ceil(sequences / config.trainer.batch_size))


def run(config: SweepConfig, view: View, *, again: str, join: bool = False) -> StudySummary | None:
    """Runs a study to its total, or until it is stopped.

    Args:
        config: resolved.
        view: entered already.
        again: the command that goes on with the study, shown where it was stopped.
        join: whether to work beside those who run it now.

    Returns:
        The finished study, None where it was paused.
    """
    ready = prepare(config, view)
    done, summary = execute(ready, view, join=join)
    if not done:
        study = find_study(ready.storage, ready.name)
        view.paused(summary, go_on_with(again, study, config.study.timeout))
        return None
    view.finished(summary, _commands(summary, alone=len(study_names(ready.storage)) == 1))
    return summary


def execute(ready: Prepared, view: View, *, join: bool = False) -> tuple[bool, StudySummary]:
    """Runs a prepared study.

    Args:
        ready: the study.
        view: entered already.
        join: as of `run`.

    Returns:
        Whether it was run to its total and not stopped before, and the study as it is then.
    """
    config = ready.plan.config
    view = with_tensorboard(view, config.study.tensorboard, ready.name)
    with StopSignals() as stop, _ledger(ready, join=join) as ledger:
        view.started(summarise(ledger.study, config.study.storage))
        resources = find_resources(ready.plan, ready.corpus, ledger, view)
        with make_executor(config.study.executor, resources) as executor:
            orchestrator = Orchestrator(
                ledger,
                executor,
                view,
                stop=stop,
                timeout_s=config.study.timeout,
                recovery=Recovery(
                    executor,
                    retries=config.study.retries,
                    hang_s=config.study.hang_timeout,
                    trial_s=config.study.trial_timeout,
                ),
            )
            done = orchestrator.run()
        if done:
            ledger.finish(terms(config.study), verdict(ledger.study, ready.storage))
        if config.study.publish and ready.kind == "search":
            ledger.keep_alive()  # to draw the pictures may take seconds
            others = open_all(config.study.storage)
            publish(ledger.study, config.study.storage, others, view.warn)
        best = next(iter(recommended(ledger.study)), None) if ready.kind == "search" else None
        return done, with_recommended(summarise(ledger.study, config.study.storage), best)


def _ledger(ready: Prepared, *, join: bool) -> Ledger:
    plan, settings = ready.plan, ready.plan.config.study
    forecast = None if ready.forecast is None else ready.forecast.stored()
    search = Search(
        first=plan.first,
        rates=plan.rates,
        low=plan.low,
        high=plan.high,
        widen=not settings.range,
        trials=settings.trials,
        sampler=settings.sampler,
        pruner=settings.pruner,
        floor=settings.floor,
        startup=settings.startup,
        trainer=settings.trainer,
        priors=plan.priors,
        until=parse_until(settings.until),
    )
    return Ledger(
        ready.storage,
        ready.name,
        identity=identity(plan, ready.corpus),
        attributes={**_about(plan, ready.corpus), "kind": ready.kind, "transfer": forecast},
        train=plan.train,
        search=search,
        directory=ready.directory,
        join=join,
    )


def _about(plan: Plan, corpus: Corpus) -> dict[str, Any]:
    """What a study records of itself when it is made."""
    reference = plan.reference
    where = f"batch {reference.setting.batch_size}, {reference.precision}"
    kind = "swept" if reference.swept else "a guess"
    text = f"{reference.learning_rate:.3g} at {where} gave {reference.perplexity} ({kind})"
    return {
        "profile": plan.config.profile,
        "device": plan.config.device,
        "config": asdict(plan.train),
        "parameters": plan.setting.parameters,
        "reference": described(plan),
        "reference_text": f"{text}; {plan.borrowed}" if plan.borrowed else text,
        "reference_perplexity": None if plan.borrowed else reference.perplexity,
        "unigram_perplexity": corpus.unigram_perplexity,
        "unknown_share": corpus.unknown_share,
        "training_tokens": corpus.train.targets,
        "training_sequences": len(corpus.train.lengths),
        "exponents": {r.name: [r.batch_exponent, r.parameter_exponent] for r in plan.rules},
        "steps_per_epoch": math.ceil(len(corpus.train.lengths) / plan.train.batch_size),
        "rules": [
            {
                "name": rule.name,
                "learning_rate": plan.rates[rule.name],
                "formula": rule.formula,
                "source": rule.source,
            }
            for rule in plan.rules
        ],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    names = ("torch", "optuna", "tokenizers", "datasets")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _commands(summary: StudySummary, *, alone: bool) -> Sequence[str]:
    """How to go on from here, as short as it is unmistakable."""
    where = "" if summary.storage == DEFAULT_STORAGE else f" --storage {summary.storage}"
    which = where if alone else f"{where} --study {summary.name}"
    shown = summary.chosen
    return (
        f"sweep report{which}",
        f"sweep show {shown.number if shown else 0}{which}",
        f"sweep dashboard{where}",
        f"sweep export{which} -o best.yaml",
    )
