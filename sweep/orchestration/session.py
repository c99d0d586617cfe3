"""Puts a sweep together: configuration, text, ledger, executor and view."""

import math
import platform
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from optuna.study import Study

from studies.rules import ScalingRule
from studies.stopping import parse_until
from sweep.config.schema import SweepConfig
from sweep.execution.executors import make_executor
from sweep.execution.protocol import Executor, Resources
from sweep.execution.signals import StopSignals
from sweep.orchestration.clearing import clear
from sweep.orchestration.clock import go_on_with
from sweep.orchestration.ledger import Ledger
from sweep.orchestration.listener import View
from sweep.orchestration.log import Logged, logged_to
from sweep.orchestration.orchestrator import Orchestrator
from sweep.orchestration.plan import Plan, identity
from sweep.orchestration.prepare import PreparedStudy, prepare, untried, with_rates
from sweep.orchestration.priors import described, described_rules
from sweep.orchestration.recovery import Recovery
from sweep.orchestration.resources import find_resources
from sweep.orchestration.strategy import SearchSettings
from sweep.orchestration.trunks import Trunks, with_begun
from sweep.results.belief import recommended
from sweep.results.export import git_commit
from sweep.results.forecast import verdict
from sweep.results.lookup import DEFAULT_STORAGE, find_study, study_names
from sweep.results.notes import stop_criteria
from sweep.results.record import read_study
from sweep.results.summary import summarise, with_recommended
from sweep.results.types import StudySummary
from trainers.data import Corpus
from trainers.program.command import hash_of

LEAST_TIMEOUT_S = 1e-3  # 0 would mean none

MakeExecutor = Callable[[Resources], Executor]
BeforeRelease = Callable[[Study], None]  # what is done with a study while its lease is held


def _nothing(study: Study) -> None:
    pass


def run_study(
    config: SweepConfig,
    view: View,
    *,
    resume_command: str,
    join: bool = False,
    before_release: BeforeRelease = _nothing,
    elsewhere_s: float = 0.0,
    make: MakeExecutor | None = None,
    trunks: Trunks | None = None,
) -> StudySummary | None:
    """Runs a study to its total, or until it is stopped.

    Args:
        config: resolved.
        view: entered already.
        resume_command: the command that goes on with the study, shown where it was stopped.
        join: whether to work beside those who run it now.
        before_release: called with the study when nothing trains any more.
        elsewhere_s: seconds of the timeout that other studies have taken.
        make: makes the executor; None takes the one that the settings name.
        trunks: what its trials may begin with.

    Returns:
        The finished study, None where it was paused.
    """
    ready = replace(prepare(config, view), trunks=trunks or {})
    if rates := config.study.rates:
        ready = with_rates(ready, untried(ready, rates))
    else:
        ready = replace(ready, plan=with_begun(ready.plan, ready.trunks))
    done, summary = execute(
        ready,
        view,
        join=join,
        before_release=before_release,
        elsewhere_s=elsewhere_s,
        make=make,
        command=resume_command,
    )
    if not done:
        study = find_study(ready.storage, ready.name)
        spent_s = elsewhere_s + (read_study(study).spent_s if study else 0.0)
        view.paused(summary, go_on_with(resume_command, spent_s, config.study.timeout))
        return None
    view.finished(summary, _commands(summary, only_study=len(study_names(ready.storage)) == 1))
    return summary


def execute(
    ready: PreparedStudy,
    view: View,
    *,
    join: bool = False,
    before_release: BeforeRelease = _nothing,
    elsewhere_s: float = 0.0,
    make: MakeExecutor | None = None,
    command: str = "",
) -> tuple[bool, StudySummary]:
    """Runs a prepared study.

    Args:
        ready: the study.
        view: entered already.
        join, before_release, elsewhere_s, make: as of `run_study`.
        command: that asked for it, as it is kept in the study when it is made.

    Returns:
        Whether it was run to its total and not stopped before, and the study as it is then.
    """
    config = ready.plan.config
    view = Logged(view)
    with (
        StopSignals() as stop,
        _ledger(ready, stop, join=join, command=command) as ledger,
        logged_to(ledger.directory),
    ):
        view.started(summarise(ledger.study, config.study.storage))
        resources = find_resources(ready.plan, ready.corpus, ledger, view)
        make = make or partial(make_executor, config.study.executor)
        with make(resources) as executor:
            orchestrator = Orchestrator(
                ledger,
                executor,
                view,
                stop=stop,
                timeout_s=_left(config.study.timeout, elsewhere_s),
                recovery=Recovery(
                    executor,
                    retries=config.study.retries,
                    hang_s=config.study.hang_timeout,
                    trial_s=config.study.trial_timeout,
                ),
            )
            done = orchestrator.run()
        if done:
            ledger.finish(stop_criteria(config.study), verdict(ledger.study, ready.storage))
            if config.study.keep == "best":
                trunks = not config.trainer.keep_trunk
                if freed := clear(ledger.study, ledger.directory, trunks=trunks):
                    view.note(freed)
        if ready.kind == "search":
            before_release(ledger.study)
        best = next(iter(recommended(ledger.study)), None) if ready.kind == "search" else None
        return done, with_recommended(summarise(ledger.study, config.study.storage), best)


def _left(timeout_s: float, elsewhere_s: float) -> float:
    """What of a timeout a study has, all its own runs together; 0 is none."""
    return max(timeout_s - elsewhere_s, LEAST_TIMEOUT_S) if timeout_s else 0.0


def _ledger(ready: PreparedStudy, stop: StopSignals, *, join: bool, command: str) -> Ledger:
    plan, settings = ready.plan, ready.plan.config.study
    forecast = None if ready.forecast is None else ready.forecast.stored()
    search = SearchSettings(
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
        decay=plan.decay,
        until=parse_until(settings.until),
        script=hash_of(plan.train.program.command),
        trunks=ready.trunks,
    )
    return Ledger(
        ready.storage,
        ready.name,
        identity=identity(plan, ready.corpus),
        attributes={
            **_about(plan, ready.corpus),
            "kind": ready.kind,
            "transfer": forecast,
            "command": command,
            "commit": git_commit() or "",
        },
        train=plan.train,
        search=search,
        directory=ready.directory,
        join=join,
        stopped=lambda: stop.received,
    )


def _about(plan: Plan, corpus: Corpus | None) -> dict[str, Any]:
    """What a study records of itself when it is made."""
    reference = plan.reference
    where = f"batch {reference.setting.batch_size}, {reference.precision}"
    kind = "swept" if reference.swept else "a guess"
    gave = f"gave {reference.perplexity} " if reference.perplexity else ""
    text = f"{reference.learning_rate:.3g} at {where} {gave}({kind})"
    return {
        "profile": plan.config.profile,
        "device": plan.config.device,
        "config": asdict(plan.train),
        "parameters": plan.setting.parameters,
        "reference": described(plan),
        "reference_text": f"{text}; {plan.borrowed}" if plan.borrowed else text,
        "reference_perplexity": None if plan.borrowed else reference.perplexity,
        "exponents": {
            rule.name: [rule.batch_exponent, rule.parameter_exponent]
            for rule in plan.rules
            if isinstance(rule, ScalingRule)
        },
        "rules": described_rules(plan),
        "versions": versions(),
        **({} if corpus is None else _of_text(corpus, plan)),
    }


def _of_text(corpus: Corpus, plan: Plan) -> dict[str, Any]:
    sequences = len(corpus.train)
    return {
        "unigram_perplexity": corpus.unigram_perplexity,
        "unknown_share": corpus.unknown_share,
        "tokens_per_byte": corpus.tokens_per_byte,
        "training_tokens": corpus.train.targets,
        "training_sequences": sequences,
        "steps_per_epoch": math.ceil(sequences / plan.train.batch_size),
    }


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    names = ("torch", "optuna", "tokenizers", "datasets")
    return {"python": platform.python_version(), **{name: _version(name) for name in names}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # put there by other means than pip's
        return "unknown"


def _commands(summary: StudySummary, *, only_study: bool) -> Sequence[str]:
    """How to go on from here, as short as it is unmistakable."""
    where = () if summary.storage == DEFAULT_STORAGE else ("--storage", summary.storage)
    which = where if only_study else (*where, "--study", summary.name)
    shown = str(summary.chosen.number if summary.chosen else 0)
    commands = (
        ("report", *which),
        ("show", shown, *which),
        ("dashboard", *where),
        ("export", *which, "-o", "best.yaml"),
    )
    return tuple(shlex.join(("sweep", *words)) for words in commands)
