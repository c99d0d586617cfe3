"""Which small studies teach most about the best rate somewhere else, for what they cost.

Under the law (`studies.law`) what a further study teaches does not depend on what it will find, so
that whole plans can be compared before anything is trained: each time the study is taken that
leaves the least variance of ln rate at the target (Chaloner and Verdinelli 1995, Statistical
Science 10), first of all that the budget pays, then of those that cost half as much, a quarter and
so on; the plan that comes furthest is taken.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from studies.law import FINEST, MISFIT, WITHIN, Critical, Law, Swept
from studies.rules import Setting

# sd of the optimum that a study of n trials finds, ln rate: 2/n. On Step Law's curves it is 0.47,
# 0.23 and 0.17 after 4, 8 and 12.
SWEEP_SD_OF_ONE = 2.0
AWAY = 0.05  # what it is worth less for each factor of e to the target, on any axis: laws bend
SURE = 1.5  # the factor within which a target's 90 % interval is narrow enough
SHARES = tuple(0.5**power for power in range(8))  # of the budget, that a study may cost
MOST = 12  # studies of a plan
ALIKE = 1.02  # variances this near are as good as each other: the cheaper study is taken
LEAST_GAIN = 0.99  # of the variance; a study that leaves more is not worth while


@dataclass(frozen=True, slots=True)
class Candidate:
    """A study that could be trained.

    Attributes:
        setting: its batch size, model size and length.
        cost: of all its trials, in the budget's unit.
    """

    setting: Setting
    cost: float


@dataclass(frozen=True, slots=True)
class Step:
    """A study of a plan.

    Attributes:
        candidate: which.
        sd: of the target's ln rate, expected once it has been swept.
    """

    candidate: Candidate
    sd: float

    @property
    def factor(self) -> float:
        """The target's 90 % interval then: so far either way."""
        return factor(self.sd)


def factor(sd: float) -> float:
    """How far a 90 % interval of ln rate reaches either way, as a factor."""
    return math.exp(WITHIN * sd)


def choose(
    seen: Sequence[Swept],
    critical: Critical,
    candidates: Sequence[Candidate],
    target: Setting,
    budget: float,
    *,
    trials: int,
    sure: float = SURE,
    most: int = MOST,
) -> list[Step]:
    """Plans studies until the target's interval is narrow enough or the budget is spent.

    Args:
        seen: finished studies, which cost nothing more; may be empty.
        critical: the prior of the critical batch size.
        candidates: what can be trained; each at most once.
        target: where the best rate is wanted.
        budget: what all of them may cost together.
        trials: of each study.
        sure: the factor within which the 90 % interval is narrow enough.
        most: studies at the most.

    Returns:
        The studies in the order to train them; empty where none of them is paid for or teaches
        anything, or the interval is narrow enough already.
    """
    sweep_sd = max(SWEEP_SD_OF_ONE / trials, FINEST)
    within = {tuple(each for each in candidates if each.cost <= share * budget) for share in SHARES}
    plans = [
        _greedy(list(seen), critical, affordable, target, budget, sweep_sd, sure, most)
        for affordable in within
    ]
    return min(plans, key=lambda steps: _worth(steps, sure))


def _worth(steps: list[Step], sure: float) -> tuple[float, float]:
    """Orders plans: what is sure enough by its cost, all else by what it leaves."""
    if not steps:
        return math.inf, 0.0
    spent = math.fsum(step.candidate.cost for step in steps)
    left = steps[-1].sd if steps[-1].factor > sure else 0.0
    return left, spent


def _greedy(
    optima: list[Swept],
    critical: Critical,
    candidates: tuple[Candidate, ...],
    target: Setting,
    budget: float,
    sweep_sd: float,
    sure: float,
    most: int,
) -> list[Step]:
    steps: list[Step] = []
    left, before = budget, math.inf
    law = Law(optima, critical) if optima else None
    if law is not None:
        _, before = law.at(target)
        if factor(math.sqrt(before + MISFIT**2)) <= sure:
            return steps
    open_ones = list(candidates)
    while len(steps) < most and (not steps or steps[-1].factor > sure):
        open_ones = [each for each in open_ones if each.cost <= left]
        after = [
            (_after(law, critical, _expected(law, each.setting, target, sweep_sd), target), each)
            for each in open_ones
        ]
        if not after:
            break
        least = min(variance for variance, _ in after)
        if least > LEAST_GAIN * before:
            break
        _, best = min(
            (pair for pair in after if pair[0] <= ALIKE * least), key=lambda pair: pair[1].cost
        )
        open_ones.remove(best)
        more = [*optima, _expected(law, best.setting, target, sweep_sd)]
        with_best = Law(more, critical)
        _, now = with_best.at(target)
        if now >= before:  # it moves the studies' middle, by which the law bends, too far away
            continue
        optima, law, before, left = more, with_best, now, left - best.cost
        steps.append(Step(best, math.sqrt(now + MISFIT**2)))
    return steps


def _after(law: Law | None, critical: Critical, expected: Swept, target: Setting) -> float:
    """The variance of the target's ln rate by the law, once a setting has been swept."""
    if law is not None:
        return law.learned(expected.setting, expected.sd**2, target)
    return Law([expected], critical).at(target)[1]


def _expected(law: Law | None, setting: Setting, target: Setting, sweep_sd: float) -> Swept:
    """What a study of a setting would find, and how well."""
    mean = law.at(setting)[0] if law is not None else 0.0
    pairs = (
        (setting.batch_size, target.batch_size),
        (setting.parameters, target.parameters),
        (setting.length or 1.0, target.length or 1.0),
    )
    away = AWAY * math.fsum(abs(math.log(here / there)) for here, there in pairs)
    return Swept("", setting, mean, math.hypot(sweep_sd, away))
