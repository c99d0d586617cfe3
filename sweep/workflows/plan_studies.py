"""`sweep plan`: the small studies that teach most of a target for a budget, and their run in turn.

`plan_ground.py` says what they can be made of.
"""

import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optuna.study import Study
from optuna.trial import TrialState

from studies.choosing import SURE, choose, factor
from studies.transfer import usual_critical_batch
from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.formatting import format_fitted
from sweep.orchestration.listener import View
from sweep.results.family import (
    Family,
    predict_optimum,
    setting_of,
)
from sweep.results.forecast import Forecast, store
from sweep.results.record import read_study, read_trial
from sweep.results.study_plan import FLOPS, SECONDS, PlannedStudy, StudyPlan, Unit
from sweep.workflows.batches import run_batches, share_trunks
from sweep.workflows.plan_ground import (
    FLOPS_A_TOKEN,
    LEAST_STEPS,
    Sizes,
    Trainable,
    own_ground,
    program_ground,
    trainable_on,
)
from trainers.program.command import name_of

BUDGET = re.compile(r"([0-9.]+(?:[eE][-+]?[0-9]+)?)(m|h|d)?")
UNIT_S = {"m": 60.0, "h": 3600.0, "d": 86400.0}


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
        program_ground(config, batch, parameters, tokens, sizes or {})
        if own_program
        else own_ground(config, batch, parameters, tokens)
    )
    family, target, trials = ground.family, ground.target, config.study.trials
    a_unit = 1.0 if unit == FLOPS else _speed(family)
    swept = {each.setting for each in family.swept}
    trainable = [
        each for each in trainable_on(ground, trials, a_unit) if each.candidate.setting not in swept
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
