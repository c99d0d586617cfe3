"""`sweep plan`: the small studies that teach most of a target for a budget, and their run in turn.

A study costs 6 N D floating-point operations a trial (Kaplan et al. 2020, arXiv 2001.08361), N the
parameters and D the tokens of a run: what the pruner leaves out makes it cheaper.

Of a program of the user's own the model's sizes are those that the user names.
"""

import itertools
import math
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState

from studies.choosing import SURE, Candidate, choose, factor
from studies.rules import Setting
from studies.transfer import usual_critical_batch
from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.formatting import format_fitted
from sweep.orchestration.listener import View
from sweep.orchestration.plan import Plan, identity, make_plan
from sweep.orchestration.prepare import find_existing
from sweep.orchestration.sizes import SIZES, can_resize, resized
from sweep.results.family import (
    Family,
    find_family,
    make_family,
    predict_optimum,
    run_setting,
    setting_of,
)
from sweep.results.forecast import Forecast, store
from sweep.results.record import read_study, read_trial
from sweep.results.study_plan import FLOPS, SECONDS, PlannedStudy, StudyPlan, Target, Unit
from sweep.storage.connect import check_storage, open_storage
from sweep.workflows.batches import run_batches, share_trunks
from sweep.workflows.dry_run import peek_corpus
from trainers.config import ModelConfig, TrainConfig
from trainers.data import Corpus
from trainers.models import count_parameters
from trainers.program.command import name_of, tells

FLOPS_A_TOKEN = 6.0  # and parameter
SIZES_APART, MOST_SIZES = 3.0, 8  # from the target's model size down
LEAST_SIZE = 8  # of an option: a width of less is no model of that kind
BATCHES_APART = 4
LENGTHS_APART = 2  # from the target's tokens down
LEAST_STEPS = 100  # of a run: shorter ones have a best rate of their own
OVER = 1.05  # how far a size or length may lie above the target's
BUDGET = re.compile(r"([0-9.]+(?:[eE][-+]?[0-9]+)?)(m|h|d)?")
UNIT_S = {"m": 60.0, "h": 3600.0, "d": 86400.0}


Sizes = Mapping[int, Mapping[str, int]]  # what makes a model of so many parameters


@dataclass(frozen=True, slots=True)
class Trainable:
    """A study that can be trained, and what makes it."""

    candidate: Candidate
    options: dict[str, int]


@dataclass(frozen=True, slots=True)
class Ground:
    """What studies can be made of.

    Attributes:
        model: its name, or the program's.
        family: the finished studies that count already.
        target: where the best rate is wanted.
        sequence_tokens: tokens of a training sequence, on average.
        most: the largest batch; None where nobody knows it.
        models: options and parameters of each size.
        lengths: tokens of a run, each of them.
    """

    model: str
    family: Family
    target: Target
    sequence_tokens: float
    most: int | None
    models: tuple[tuple[dict[str, int], int], ...]
    lengths: tuple[int, ...]


def plan_studies(
    config: SweepConfig,
    batch: int,
    parameters: int | None,
    tokens: float | None,
    budget: str,
    sizes: Sizes | None = None,
) -> StudyPlan:
    """Plans studies for a target; trains and stores nothing.

    Args:
        config: resolved; its model, text and schedule, or its program, are the studies'.
        batch: of the target, in sequences.
        parameters: of its model; None for as many as the configured one has.
        tokens: of its runs; None for as many as the configured epochs have.
        budget: operations ("2e18"), or time ("12h") where finished studies tell the speed.
        sizes: of a program: which models it can train beside the configured one.

    Raises:
        SweepError: the budget cannot be read or pays for nothing, or a program is not told what
            the studies differ in.
    """
    amount, unit = parse_budget(budget)
    own_program = bool(config.trainer.program.command)
    if sizes and not own_program:
        raise SweepError(f"--size is for a program's models: {config.model}'s are found without it")
    ground = (
        _program_ground(config, batch, parameters, tokens, sizes or {})
        if own_program
        else _own_ground(config, batch, parameters, tokens)
    )
    family, target, trials = ground.family, ground.target, config.study.trials
    a_unit = 1.0 if unit == FLOPS else _speed(family)
    swept = {each.setting for each in family.swept}
    trainable = [
        each for each in _trainable(ground, trials, a_unit) if each.candidate.setting not in swept
    ]
    steps = choose(
        family.swept,
        usual_critical_batch(target.tokens, ground.sequence_tokens),
        [each.candidate for each in trainable],
        target.setting,
        amount,
        trials=trials,
    )
    before = predict_optimum(family, target.setting)
    if before is not None and factor(before.width) <= SURE:
        raise SweepError(
            f"there is nothing to plan: the best rate there is known within a factor of "
            f"{factor(before.width):.2f} already (`sweep predict`)"
        )
    if not steps:
        raise SweepError(_nothing(trainable, amount, unit))
    by_candidate = {id(each.candidate): each for each in trainable}
    return StudyPlan(
        model=ground.model,
        program=own_program,
        sequence_tokens=config.trainer.program.sequence_tokens or None,
        target=target,
        budget=amount,
        unit=unit,
        trials=trials,
        seen=len(family.swept),
        factor=None if before is None else factor(before.width),
        studies=tuple(_planned(by_candidate[id(step.candidate)], step.factor) for step in steps),
    )


def run_planned(
    plan: StudyPlan,
    configs: Sequence[SweepConfig],
    view: View,
    *,
    resume_command: str,
    before_release: Callable[[Study], None],
) -> bool:
    """Trains a plan's studies in turn, until its target is known well enough or it is spent.

    Args:
        plan: the plan.
        configs: of its studies, in the same order.
        view: entered already.
        resume_command: the command that goes on, shown where it was stopped.
        before_release: as of `session.run_study`.

    Returns:
        Whether it came to an end; False where it was stopped.

    Raises:
        SweepError: the configuration is of another model or program.
    """
    _check_model(plan, configs[0])
    standings: list[Standing] = []

    def enough(config: SweepConfig, family: Family) -> bool:
        standing = standing_after(plan, family, len(standings) + 1)
        standings.append(standing)
        view.note(f"after {len(standings)} of {len(configs)} studies: {standing.words}")
        return standing.sure or standing.spent

    family = run_batches(
        share_trunks(configs, view),
        view,
        resume_command=resume_command,
        before_release=before_release,
        enough=enough,
    )
    if family is None:
        return False
    sure = standings[-1].sure
    more = "the plan is spent: `sweep plan` goes on from what is known now"
    view.note(f"that is sure enough: within a factor of {SURE}" if sure else more)
    return True


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a plan's target, and whether that ends it.

    Attributes:
        words: the forecast of its best rate.
        sure: whether its interval is narrow enough.
        spent: whether the budget is.
    """

    words: str
    sure: bool
    spent: bool


def standing_after(plan: StudyPlan, family: Family, done: int) -> Standing:
    """Forecasts a plan's target from what is finished, and stores that.

    Args:
        plan: the plan.
        family: all finished studies, its own among them.
        done: how many of its studies are.
    """
    spent = _spent(plan, family, done) >= plan.budget
    found = predict_optimum(family, plan.target.setting)
    if found is None:
        return Standing("nothing is known of the target yet", sure=False, spent=spent)
    store(Forecast.of(found), family)
    within = factor(found.width)
    words = (
        f"{format_fitted(found.rate)} for the target, within a factor of {within:.2f}; safe up to "
        f"{format_fitted(found.wall.safe)}"
    )
    return Standing(words, sure=within <= SURE, spent=spent)


def parse_budget(text: str) -> tuple[float, Unit]:
    """Reads "2e18" as operations and "90m", "12h" or "2d" as seconds.

    Raises:
        SweepError: it is neither.
    """
    found = BUDGET.fullmatch(text.strip())
    try:
        amount = float(found[1]) if found else math.nan
    except ValueError:
        amount = math.nan
    if not found or not 0 < amount < math.inf:
        raise SweepError(
            "--budget takes floating-point operations such as 2e18, or a time such as 90m, 12h "
            f"or 2d, got '{text}'"
        )
    return (amount * UNIT_S[found[2]], SECONDS) if found[2] else (amount, FLOPS)


def _check_model(plan: StudyPlan, config: SweepConfig) -> None:
    command = config.trainer.program.command
    if plan.program and not (command and name_of(command) == plan.model):
        raise SweepError(f"the plan is of the program {plan.model}: give its command, after --")
    if command and not plan.program:
        raise SweepError(f"the plan is of model {plan.model}: leave the program's command out")
    if not plan.program and config.model != plan.model:
        raise SweepError(f"the plan is of model {plan.model}: add --model {plan.model}")


def _own_ground(
    config: SweepConfig, batch: int, parameters: int | None, tokens: float | None
) -> Ground:
    """Of this tool's own models: as many sizes as can be made, of the configured text."""
    plan = make_plan(config)
    corpus = peek_corpus(plan, find_existing(plan)[1])
    plan = make_plan(config, corpus)
    text = len(corpus.train), corpus.train.targets
    fields = identity(plan, corpus).fields
    own = run_setting(fields, plan.setting.parameters, text)
    assert own.tokens is not None
    target = Target(
        batch_size=batch,
        parameters=parameters or own.parameters,
        tokens=float(tokens or own.tokens),
    )
    schedule = plan.train.lr_schedule
    # A decay that ends elsewhere is another schedule.
    fixed = schedule.horizon_epochs or schedule.horizon_steps
    return Ground(
        model=config.model,
        family=_known(config, fields),
        target=target,
        sequence_tokens=text[1] / text[0],
        most=text[0],
        models=tuple(
            (_changed(model, plan.train.model), counted)
            for model, counted in _models(plan, corpus, target)
        ),
        lengths=(round(own.tokens),) if fixed else tuple(_lengths(target)),
    )


def _program_ground(
    config: SweepConfig, batch: int, parameters: int | None, tokens: float | None, sizes: Sizes
) -> Ground:
    """Of a program: the sizes that the user names, or the one that it has.

    Raises:
        SweepError: something is unknown that the user has to say, or that the program is not told.
    """
    program = config.trainer.program
    models = {each: dict(options) for each, options in sizes.items()}
    if not models and program.parameters:
        models = {program.parameters: {}}
    if not models:
        raise SweepError(
            "how large the program's model is must be said: --set program.parameters=124000000, or "
            "--size 124e6:layers=12,width=768 for each that its command can train"
        )
    if tokens is None or not program.sequence_tokens:
        raise SweepError(
            "of a program the target's --tokens must be said, and how many a training sequence "
            "has: --set program.sequence_tokens=1024"
        )
    _check_told(program.command, models.values())
    plan = make_plan(config.model_copy(update={"trainer": _with_tokens(config, tokens)}))
    size = parameters or program.parameters or max(models)
    target = Target(batch_size=batch, parameters=size, tokens=float(tokens))
    return Ground(
        model=name_of(program.command),
        family=_known(config, identity(plan, None).fields),
        target=target,
        sequence_tokens=float(program.sequence_tokens),
        most=None,
        models=tuple(
            (options, counted)
            for counted, options in models.items()
            if counted <= OVER * target.parameters
        ),
        lengths=tuple(_lengths(target)),
    )


def _with_tokens(config: SweepConfig, tokens: float) -> TrainConfig:
    return replace(config.trainer, tokens=round(tokens), steps=0)


def _check_told(command: Sequence[str], models: Iterable[Mapping[str, int]]) -> None:
    """Refuses a program that would train planned studies alike."""
    names = ["batch_size", *dict.fromkeys(name for options in models for name in options)]
    missing = [name for name in names if not tells(command, name)]
    if not tells(command, "tokens") and not tells(command, "steps"):
        missing.append("tokens")
    if missing:
        or_steps = " or {steps}" if missing[0] == "tokens" else ""
        raise SweepError(
            f"the command has no {{{missing[0]}}}{or_steps}, and no file of it reads "
            f"SWEEP_{missing[0].upper()}: it would train planned studies alike"
        )


def _known(config: SweepConfig, fields: Mapping[str, Any]) -> Family:
    """The finished studies that count already; a database that there is not is not made."""
    path = check_storage(config.study.storage, create=True)
    if path is not None and not path.exists():
        return make_family([], fields)
    return find_family(open_storage(config.study.storage, create=False), fields)


def _trainable(ground: Ground, trials: int, operations: float) -> Iterator[Trainable]:
    """Every study up to the target's size, length and batch; operations: of a unit of cost."""
    batches = [b for b in _batches(ground.target) if ground.most is None or b <= ground.most]
    runs = list(itertools.product(ground.lengths, batches))
    for options, parameters in ground.models:
        for tokens, batch in runs:
            if tokens < LEAST_STEPS * batch * ground.sequence_tokens:
                continue
            cost = FLOPS_A_TOKEN * parameters * tokens * trials / operations
            setting = Setting(batch, parameters, float(tokens))
            yield Trainable(Candidate(setting, cost), options)


def _changed(model: ModelConfig, own: ModelConfig) -> dict[str, int]:
    return {
        name: int(value) for name, value in model.options.items() if value != own.options.get(name)
    }


def _models(plan: Plan, corpus: Corpus, target: Target) -> Iterator[tuple[ModelConfig, int]]:
    own, vocabulary = plan.train.model, corpus.vocabulary_size
    if not can_resize(own):
        yield own, plan.setting.parameters
        return
    wanted = [target.parameters / SIZES_APART**power for power in range(MOST_SIZES)]
    found = {}
    for parameters in wanted:
        model = resized(own, vocabulary, parameters)
        found[count_parameters(model, vocabulary)] = model
    for parameters, model in found.items():
        least = min(int(model.options[name]) for name in SIZES[model.name])
        if parameters <= OVER * target.parameters and least >= LEAST_SIZE:
            yield model, parameters


def _lengths(target: Target) -> Iterator[int]:
    tokens = round(target.tokens)
    while tokens >= LEAST_STEPS:
        yield tokens
        tokens //= LENGTHS_APART


def _batches(target: Target) -> Iterator[int]:
    batch = target.batch_size
    while batch >= 1:
        yield batch
        batch //= BATCHES_APART


def _planned(trainable: Trainable, after: float) -> PlannedStudy:
    setting = trainable.candidate.setting
    assert setting.tokens is not None
    return PlannedStudy(
        batch_size=setting.batch_size,
        options=trainable.options,
        parameters=setting.parameters,
        tokens=round(setting.tokens),
        cost=trainable.candidate.cost,
        factor=after,
    )


def _speed(family: Family) -> float:
    """Operations a second, as the family's trials had them; the median study's.

    Raises:
        SweepError: no study says how fast it was.
    """
    speeds = [
        FLOPS_A_TOKEN * read_study(study).parameters * speed
        for study in family.studies
        if (speed := _tokens_per_second(study))
    ]
    if not speeds:
        raise SweepError(
            "--budget in time needs a speed, and no finished study of this model and text says "
            "one: give operations, such as 2e18, or let one `sweep run` reach its end first"
        )
    return statistics.median(speeds)


def _tokens_per_second(study: Study) -> float:
    """As its trials say, or by the time that whole ones took, of a program that does not."""
    trials = study.get_trials(deepcopy=False)
    said = [float(read_trial(each).whole_run.get("tokens_per_second") or 0.0) for each in trials]
    tokens = setting_of(study).tokens or 0.0
    took = [
        tokens / each.duration.total_seconds()
        for each in trials
        if each.state is TrialState.COMPLETE and each.duration
    ]
    return statistics.median([each for each in said if each > 0] or took or [0.0])


def _spent(plan: StudyPlan, family: Family, done: int) -> float:
    """What the plan's finished studies took, in its unit."""
    if plan.unit == FLOPS:
        return math.fsum(each.cost for each in plan.studies[:done])
    planned = {each.setting for each in plan.studies[:done]}
    pairs = zip(family.swept, family.studies, strict=True)
    return math.fsum(
        read_study(study).spent_s for swept, study in pairs if swept.setting in planned
    )


def _nothing(trainable: Sequence[Trainable], budget: float, unit: str) -> str:
    if not trainable:
        return (
            f"there is nothing to plan: so short a run has under {LEAST_STEPS} steps, whatever the "
            "batch, or the model cannot be made small enough"
        )
    least = min(each.candidate.cost for each in trainable)
    if least <= budget:
        return "no study in reach would teach anything more of the target"
    words = f"{least:.1e} operations" if unit == FLOPS else f"{least / 3600:.1f} hours"
    return f"--budget is too small: the cheapest study takes {words}"
