"""What to recommend, and when to end a study: what is left to gain is less than one cares for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from studies.decay import decay_of
from studies.errors import StudyError
from studies.numbers import APART, LEAST_COMPLETE, MOST_RESULTS, SURE
from studies.posterior import Posterior
from studies.ridge import RidgePosterior
from studies.table import Table
from studies.trials import rate_of, sound, value_of


@dataclass(frozen=True, slots=True)
class Remaining:
    """What another training could still gain.

    Attributes:
        share: of the perplexity at the recommended rate, as expected, or of another number as many
            nats as that is; None where too few trials have run to their end.
        enough: whether it is that surely under what was asked for.
        sentence: both in words.
    """

    share: float | None
    enough: bool
    sentence: str


def parse_until(text: str) -> float | None:
    """Reads `until`: "1%", "0.5 %"; "" for never.

    Returns:
        The share, 0.01 for "1%"; None for "".

    Raises:
        StudyError: it is no percentage between 0 and 100.
    """
    if not text.strip():
        return None
    number, percent, rest = text.partition("%")
    try:
        share = float(number) / 100
    except ValueError:
        share = math.nan
    if not percent or rest.strip() or not 0 < share < 1:
        raise StudyError(f'until must be a percentage above 0 and below 100 ("1%"), got "{text}"')
    return share


def by_regret(posterior: Posterior, trials: Sequence[FrozenTrial]) -> list[tuple[float, int]]:
    """The complete trials by what is left to gain over their rates at a new seed.

    Args:
        posterior: of the study.
        trials: of the study.

    Returns:
        Nats that are left to gain, as expected, and the trial's number; the least first. Of several
        at one rate, the earliest first.
    """
    table = Table.of(trials)
    x, objective = posterior.where(table), posterior.seen.objective
    unknown = np.isnan(x) if x.ndim == 1 else np.isnan(x).any(1)
    places = np.flatnonzero(table.mask(sound, objective) & ~unknown)
    if not len(places):
        return []
    rates, place = np.unique(x[places], axis=0, return_inverse=True)
    if len(rates) > MOST_RESULTS and x.ndim == 1:
        grid = np.arange(rates[0], rates[-1] + APART, APART / 4)
        regret = np.interp(rates, grid, posterior.regret(grid))[place]
    else:
        regret = posterior.regret(rates)[place]
    if not posterior.learned:  # no rate is any better than another but by what it gave
        order = np.argsort(table.column(value_of)[places], kind="stable")
    else:
        order = np.argsort(regret, kind="stable")
    return [(float(regret[each]), table[int(places[each])].number) for each in order]


def remaining(posterior: Posterior, trials: Sequence[FrozenTrial], until: float) -> Remaining:
    """Says whether what is left to gain is under a share, as `Remaining` has it.

    Args:
        posterior: of the study.
        trials: of the study, by their numbers.
        until: the share, e.g. 0.01.
    """
    found = by_regret(posterior, trials)
    if len(found) < LEAST_COMPLETE:
        return Remaining(
            None, False, f"{LEAST_COMPLETE} complete trials are needed to say what is left to gain"
        )
    number = found[0][1]
    trial = next(trial for trial in trials if trial.number == number)
    x = posterior.where(Table.of([trial]))[0]
    share, most = math.expm1(min(found[0][0], 10.0)), posterior.most_left(x, SURE)
    return Remaining(share, most < until, _sentence(share, most, until, trial, posterior))


def _sentence(
    share: float, most: float, until: float, trial: FrozenTrial, posterior: Posterior
) -> str:
    relation, decay = "under" if most < until else "not under", ""
    if isinstance(posterior, RidgePosterior):
        decay = f" with weight decay {decay_of(trial):.3g}"
    low, high = posterior.interval(0.9)
    objective = posterior.seen.objective
    sentence = (
        f"{objective.portion(share)} of {objective.words} is expected to be left to gain over rate "
        f"{rate_of(trial):.3g}{decay}, at most {objective.portion(most)} with {100 * SURE:.0f} % "
        f"probability: {relation} {objective.portion(until)}; the best rate lies between "
        f"{low:.2g} and {high:.2g}"
    )
    if isinstance(posterior, RidgePosterior):
        low, high = posterior.decay_interval(0.9)
        sentence += f", the best weight decay between {low:.2g} and {high:.2g}"
    if posterior.edge:
        sentence += f", perhaps beyond the {posterior.edge} end of the range"
    return sentence
