"""`sweep run --dry-run`: what would be tried and what it would take; trains and stores nothing."""

import dataclasses
import math
import shlex
from collections.abc import Sequence

import torch
from optuna.study import Study

from sweep.config.devices import devices_of
from sweep.config.schema import SweepConfig
from sweep.execution.isolated import call_in_process
from sweep.orchestration.listener import View
from sweep.orchestration.plan import Plan, make_plan, study_directory
from sweep.orchestration.prepare import check_length, check_script, find_existing, show_notes
from sweep.orchestration.transfer import find_forecast, sentence, with_forecast
from sweep.results.objective import check_bytes
from sweep.results.place import place_of
from sweep.storage.connect import check_storage, open_storage
from trainers.data import Corpus, build_corpus, load_corpus
from trainers.length import length_on
from trainers.measuring.measure import Cost, measure
from trainers.program.command import expand, values_of
from trainers.schedule import trunk_steps


def dry_run(config: SweepConfig, view: View, *, shorter: Sequence[SweepConfig] = ()) -> None:
    """Says which rates come first, the steps, the memory and the time.

    Args:
        config: resolved.
        view: entered already.
        shorter: the same for shorter runs, which its trials may go on from.

    Raises:
        SweepError, TrainerError, StudyError: what a real run would refuse.
    """
    plan = make_plan(config)
    name, existing = find_existing(plan)
    if config.trainer.program.command:
        check_script(plan, existing)
        plan = _with_forecast(plan, None, existing, view)
        for line in describe_program(plan, name):
            view.note(line)
        return
    corpus = peek_corpus(plan, existing)
    show_notes(corpus, view)
    check_length(config.trainer, corpus)
    check_bytes(config.trainer, config.study.trainer, corpus.tokens_per_byte)
    plan = _with_forecast(make_plan(config, corpus), corpus, existing, view)
    first = dataclasses.replace(plan.train, learning_rate=plan.first[0].learning_rate)
    device = torch.device(config.device)
    cost = call_in_process(measure, first, corpus, device, what="a few real steps")
    for line in describe(plan, name, corpus, cost):
        view.note(line)
    trains = [each.trainer for each in shorter]
    trunks = [trunk_steps(train, length_on(train, corpus.train)) for train in trains]
    if begun := max(trunks, default=0):
        steps = length_on(plan.train, corpus.train).steps - begun
        view.note(
            f"a trial of a rate that a shorter one had begins at step {begun:,}: {steps:,} steps, "
            f"{_duration(steps * cost.step_s)}"
        )
    if config.study.gpus_per_trial > 1:
        view.note(
            f"measured on one device: a trial shares its rows out among "
            f"{config.study.gpus_per_trial:g}"
        )


def describe(plan: Plan, name: str, corpus: Corpus, cost: Cost) -> list[str]:
    """The answer, line by line."""
    trials = plan.config.study.trials
    length = length_on(plan.train, corpus.train)
    reports = math.ceil(length.steps / length.between_reports)
    total_s = trials * (length.steps * cost.step_s + reports * cost.evaluation_s)
    return [
        *_rates(plan, name),
        f"data: {corpus.source}, {len(corpus.train):,} training sequences, "
        f"{corpus.train.targets:,} tokens an epoch, unigram perplexity "
        f"{corpus.unigram_perplexity:.1f}",
        f"model: {plan.train.model.name}, {plan.setting.parameters:,} parameters",
        f"steps: {cost.steps} an epoch, {length.steps:,} a trial, "
        f"{length.steps * trials:,} at the most",
        f"measured: {cost.step_s * 1e3:.0f} ms a step, {cost.evaluation_s:.2f} s a validation, "
        f"peak memory {cost.peak_memory_bytes / 2**30:.2f} GiB",
        f"time: about {_duration(total_s)} without pruning ({_duration(total_s / trials)} a trial)",
    ]


def describe_program(plan: Plan, name: str) -> list[str]:
    """The commands of the first trials, as one could type them."""
    directory, devices = study_directory(plan, name), devices_of(plan.config)
    commands = []
    for number, centre in enumerate(plan.first):
        train = dataclasses.replace(plan.train, learning_rate=centre.learning_rate)
        values = values_of(train, devices[number % len(devices)], directory / f"{number:04d}")
        commands.append(shlex.join(expand(train.program.command, values)))
    return [*_rates(plan, name), *commands]


def _rates(plan: Plan, name: str) -> list[str]:
    rates = [f"{c.learning_rate:.3g} ({', '.join(c.rules)})" for c in plan.first]
    return [
        f"study {name}: nothing is trained or stored",
        f"rates tried first: {', '.join(rates)}",
        *_decays(plan),
        f"then {plan.config.study.sampler} between {plan.low:.3g} and {plan.high:.3g}, "
        f"{plan.config.study.trials} trials in all",
    ]


def _decays(plan: Plan) -> list[str]:
    if plan.decay is None:
        return []
    low, high = plan.decay.low, plan.decay.high
    return [f"at weight decay {plan.decay.middle:.3g}, then between {low:.3g} and {high:.3g}"]


def _with_forecast(plan: Plan, corpus: Corpus | None, existing: Study | None, view: View) -> Plan:
    path = check_storage(plan.config.study.storage, create=True)
    if path is not None and not path.exists():
        return plan
    storage = open_storage(plan.config.study.storage, create=False, say=view.warn)
    found = find_forecast(plan, corpus, storage, existing)
    if found is not None:
        view.note(sentence(found))
    return with_forecast(plan, found)


def peek_corpus(plan: Plan, existing: Study | None) -> Corpus:
    """The study's own corpus where it has one; otherwise made in memory and dropped."""
    directory = None if existing is None else place_of(existing)
    if directory is not None and any(directory.glob("corpus.*")):
        return load_corpus(plan.train.data, directory)
    return build_corpus(plan.train.data)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
