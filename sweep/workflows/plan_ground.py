"""What the studies of a plan can be made of: models, batches and lengths up to the target's.

A study costs 6 N D floating-point operations a trial (Kaplan et al. 2020, arXiv 2001.08361), N the
parameters and D the tokens of a run: what the pruner leaves out makes it cheaper.

Of a program of the user's own the model's sizes are those that the user names.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from studies.choosing import Candidate
from studies.rules import Setting
from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.orchestration.plan import Plan, identity, make_plan
from sweep.orchestration.prepare import find_existing
from sweep.orchestration.sizes import SIZES, can_resize, resized
from sweep.results.family import Family, find_family, make_family, run_setting
from sweep.results.study_plan import Target
from sweep.storage.connect import check_storage, open_storage
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


def own_ground(
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


def program_ground(
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


def trainable_on(ground: Ground, trials: int, operations: float) -> Iterator[Trainable]:
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
