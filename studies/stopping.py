"""When to end a study: what is left to gain is smaller than what the user cares for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from studies.errors import StudyError
from studies.posterior import Posterior
from studies.table import Table
from studies.trials import ln_rate, sound, value_of

CONFIDENCE = 0.9
LEAST_TRIALS = 3  # before that the posterior is little but the prior


@dataclass(frozen=True, slots=True)
class Remaining:
    """What another training could still gain.

    Attributes:
        share: of the best trial's perplexity, at most this with 90 % probability; None where too
            few trials have run to their end.
        enough: whether it is under what was asked for.
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


def remaining(posterior: Posterior, trials: Sequence[FrozenTrial], until: float) -> Remaining:
    """Says whether what is left to gain is under a share of the perplexity.

    Args:
        posterior: of the study.
        trials: of the study.
        until: the share, e.g. 0.01.
    """
    table = Table.of(trials)
    x = table.column(ln_rate)
    complete = table.mask(sound) & ~np.isnan(x)
    if complete.sum() < LEAST_TRIALS:
        return Remaining(
            None, False, f"{LEAST_TRIALS} complete trials are needed to say what is left to gain"
        )
    best = float(x[np.where(complete, table.column(value_of), np.inf).argmin()])
    share = posterior.excess(best, CONFIDENCE)
    return Remaining(share, share < until, _sentence(share, until, math.exp(best), posterior))


def _sentence(share: float, until: float, rate: float, posterior: Posterior) -> str:
    relation = "under" if share < until else "not under"
    low, high = posterior.interval(CONFIDENCE)
    sentence = (
        f"at most {100 * share:.2g} % of perplexity is left to gain over rate {rate:.3g} "
        f"(90 % sure), {relation} {100 * until:.2g} %; the best rate lies between {low:.2g} and "
        f"{high:.2g}"
    )
    if posterior.edge:
        sentence += f", perhaps beyond the {posterior.edge} end of the range"
    return sentence
