"""`sweep plan`: the small studies that teach most of a target for a budget, and their run in turn.

A study costs 6 N D floating-point operations a trial (Kaplan et al. 2020, arXiv 2001.08361), N the
parameters and D the tokens of a run: what the pruner leaves out makes it cheaper.
"""

import itertools
import math
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from optuna.study import Study

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
from sweep.results.family import Family, find_family, make_family, predict_optimum, run_setting
from sweep.results.forecast import Forecast, store
from sweep.results.record import read_study, read_trial
from sweep.results.study_plan import FLOPS, SECONDS, PlannedStudy, StudyPlan, Target, Unit
from sweep.storage.connect import check_storage, open_storage
from sweep.workflows.batches import run_batches, share_trunks
from sweep.workflows.dry_run import peek_corpus
from trainers.config import ModelConfig
from trainers.data import Corpus
from trainers.models import count_parameters

FLOPS_A_TOKEN = 6.0  # and parameter
SIZES_APART, MOST_SIZES = 3.0, 8  # from the target's model size down
LEAST_SIZE = 8  # of an option: a width of less is no model of that kind
BATCHES_APART = 4
LENGTHS_APART = 2  # from the target's tokens down
LEAST_STEPS = 100  # of a run: shorter ones have a best rate of their own
OVER = 1.05  # how far a size or length may lie above the target's
BUDGET = re.compile(r"([0-9.]+(?:[eE][-+]?[0-9]+)?)(m|h|d)?")
UNIT_S = {"m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Trainable:
    """A study that the shared trainer can train, and what makes it."""

    candidate: Candidate
    options: dict[str, int]


def plan_studies(
    config: SweepConfig, batch: int, parameters: int | None, tokens: float | None, budget: str
) -> StudyPlan:
    """Plans studies for a target; trains and stores nothing.

    Args:
        config: resolved; its model, text and schedule are the studies'.
        batch: of the target, in sequences.
        parameters: of its model; None for as many as the configured one has.
        tokens: of its runs; None for as many as the configured epochs have.
        budget: operations ("2e18"), or time ("12h") where finished studies tell the speed.

    Raises:
        SweepError: the budget cannot be read or pays for nothing, or it is a program.
    """
    amount, unit = parse_budget(budget)
    _check_trainer(config)
    plan = make_plan(config)
    corpus = peek_corpus(plan, find_existing(plan)[1])
    plan = make_plan(config, corpus)
    family = _known(plan, corpus)
    own = _own_setting(plan, corpus)
    assert own.tokens is not None
    target = Target(
        batch_size=batch,
        parameters=parameters or own.parameters,
        tokens=float(tokens or own.tokens),
    )
    a_unit = 1.0 if unit == FLOPS else _speed(family)
    swept = {each.setting for each in family.swept}
    trainable = [
        each
        for each in _trainable(plan, corpus, target, a_unit)
        if each.candidate.setting not in swept
    ]
    sequence_tokens = corpus.train.targets / len(corpus.train)
    steps = choose(
        family.swept,
        usual_critical_batch(target.tokens, sequence_tokens),
        [each.candidate for each in trainable],
        target.setting,
        amount,
        trials=config.study.trials,
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
        model=config.model,
        target=target,
        budget=amount,
        unit=unit,
        trials=config.study.trials,
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
        SweepError: the configuration is of another model, or of a program.
    """
    for config in configs:
        _check_trainer(config)
    if any(config.model != plan.model for config in configs):
        raise SweepError(f"the plan is of model {plan.model}: add --model {plan.model}")
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


def _check_trainer(config: SweepConfig) -> None:
    if config.trainer.program.command:
        raise SweepError(
            "a program's model and length cannot be planned for it: give `sweep run` several "
            "--batch, or --steps, yourself; `sweep predict` carries what they find"
        )


def _known(plan: Plan, corpus: Corpus) -> Family:
    """The finished studies that count already; a database that there is not is not made."""
    fields = identity(plan, corpus).fields
    path = check_storage(plan.config.study.storage, create=True)
    if path is not None and not path.exists():
        return make_family([], fields)
    return find_family(open_storage(plan.config.study.storage, create=False), fields)


def _own_setting(plan: Plan, corpus: Corpus) -> Setting:
    text = len(corpus.train), corpus.train.targets
    return run_setting(identity(plan, corpus).fields, plan.setting.parameters, text)


def _trainable(
    plan: Plan, corpus: Corpus, target: Target, operations: float
) -> Iterator[Trainable]:
    """Every study up to the target's size, length and batch; operations: of a unit of cost."""
    a_sequence = corpus.train.targets / len(corpus.train)
    runs = list(itertools.product(_lengths(plan, corpus, target), _batches(target)))
    for model, parameters in _models(plan, corpus, target):
        for tokens, batch in runs:
            if batch > len(corpus.train) or tokens < LEAST_STEPS * batch * a_sequence:
                continue
            cost = FLOPS_A_TOKEN * parameters * tokens * plan.config.study.trials / operations
            setting = Setting(batch, parameters, float(tokens))
            changed = {
                name: int(value)
                for name, value in model.options.items()
                if value != plan.train.model.options.get(name)
            }
            yield Trainable(Candidate(setting, cost), changed)


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


def _lengths(plan: Plan, corpus: Corpus, target: Target) -> Iterator[int]:
    schedule = plan.train.lr_schedule
    if schedule.horizon_epochs or schedule.horizon_steps:
        # A decay that ends elsewhere is another schedule.
        yield round(_own_setting(plan, corpus).tokens or 0)
        return
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
    said = [
        float(read_trial(trial).whole_run.get("tokens_per_second") or 0.0)
        for trial in study.get_trials(deepcopy=False)
    ]
    return statistics.median([each for each in said if each > 0] or [0.0])


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
