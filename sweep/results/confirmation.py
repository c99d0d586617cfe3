"""What other seeds have said of a search's best rates, as its attribute `confirmation` keeps it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.study import Study

from studies.student import Mean, mean_of
from sweep.results.record import read_study

LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Finalist:
    """One of the search's best rates.

    Attributes:
        trial: its number in the search.
        searched: the perplexity that it had there.
        states: "complete", "diverged" or "failed", one a new seed.
        perplexities: likewise; infinite unless the run is complete.
        mean: of the perplexities; None unless every seed was trained whole.
    """

    trial: int
    learning_rate: float
    searched: float
    states: tuple[str, ...]
    perplexities: tuple[float, ...]
    mean: Mean | None


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What the new seeds say.

    Attributes:
        study: the search.
        finalists: the best mean first, those without one last.
    """

    study: str
    seeds: tuple[int, ...]
    finalists: tuple[Finalist, ...]

    @property
    def best(self) -> Finalist | None:
        """The best by mean; None where no finalist was trained whole at every seed."""
        first = self.finalists[0]
        return None if first.mean is None else first

    def of(self, trial: int) -> Finalist | None:
        """The finalist that was this trial of the search; None where there is none."""
        return next((each for each in self.finalists if each.trial == trial), None)

    def against_best(self, finalist: Finalist) -> Mean:
        """ln of a finalist's perplexity over the best one's, paired by seed."""
        assert self.best is not None
        pairs = zip(finalist.perplexities, self.best.perplexities, strict=True)
        return mean_of([math.log(one / two) for one, two in pairs], LEVEL)


def make_finalist(
    trial: int,
    learning_rate: float,
    searched: float,
    states: Sequence[str],
    perplexities: Sequence[float],
) -> Finalist:
    """One rate's runs over the new seeds, with their mean."""
    whole = bool(states) and all(state == "complete" for state in states)
    mean = mean_of(perplexities, LEVEL) if whole else None
    return Finalist(trial, learning_rate, searched, tuple(states), tuple(perplexities), mean)


def record(confirmation: Confirmation) -> dict[str, Any]:
    """What the search keeps: plain JSON values."""
    best = confirmation.best
    return {
        "seeds": list(confirmation.seeds),
        "trial": best.trial if best else None,
        "finalists": [
            {
                "trial": finalist.trial,
                "learning_rate": finalist.learning_rate,
                "searched_perplexity": finalist.searched,
                "mean_perplexity": finalist.mean.mean if finalist.mean else None,
                "standard_error": finalist.mean.standard_error if finalist.mean else None,
                "states": list(finalist.states),
                "perplexities": [y if math.isfinite(y) else None for y in finalist.perplexities],
            }
            for finalist in confirmation.finalists
        ],
    }


def stored_confirmation(study: Study) -> Confirmation | None:
    """What `sweep confirm` noted in a search; None where it has not run."""
    found = read_study(study).confirmation
    if not found:
        return None
    finalists = tuple(
        make_finalist(
            each["trial"],
            each["learning_rate"],
            each["searched_perplexity"],
            each["states"],
            [math.inf if value is None else value for value in each["perplexities"]],
        )
        for each in found["finalists"]
        if "states" in each  # not so in the first versions' notes
    )
    return Confirmation(study.study_name, tuple(found["seeds"]), finalists) if finalists else None
