"""What other seeds have said of a search's best rates, as its attribute `confirmation` keeps it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.study import Study

from studies.objective import Objective
from studies.student import Mean, mean_of
from sweep.results.record import read_study

LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Finalist:
    """One of the search's best rates.

    Attributes:
        trial: its number in the search.
        searched: the value that it had there.
        states: "complete", "diverged" or "failed", one a new seed.
        values: likewise; infinite unless the run is complete.
        mean: of the values; None unless every seed was trained whole.
        weight_decay: where that was searched too; None where it was not.
    """

    trial: int
    learning_rate: float
    searched: float
    states: tuple[str, ...]
    values: tuple[float, ...]
    mean: Mean | None
    weight_decay: float | None = None


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What the new seeds say.

    Attributes:
        study: the search.
        finalists: the best mean first, those without one last.
        objective: what their values are.
    """

    study: str
    seeds: tuple[int, ...]
    finalists: tuple[Finalist, ...]
    objective: Objective

    @property
    def best(self) -> Finalist | None:
        """The best by mean; None where no finalist was trained whole at every seed."""
        first = self.finalists[0]
        return None if first.mean is None else first

    def of(self, trial: int) -> Finalist | None:
        """The finalist that was this trial of the search; None where there is none."""
        return next((each for each in self.finalists if each.trial == trial), None)

    def against_best(self, finalist: Finalist) -> Mean:
        """How much worse than the best one a finalist is, in nats, paired by seed."""
        assert self.best is not None
        pairs = zip(finalist.values, self.best.values, strict=True)
        return mean_of([self.objective.nats_between(*pair) for pair in pairs], LEVEL)


def make_finalist(
    trial: int,
    learning_rate: float,
    searched: float,
    states: Sequence[str],
    values: Sequence[float],
    *,
    weight_decay: float | None = None,
) -> Finalist:
    """One rate's runs over the new seeds, with their mean."""
    whole = bool(states) and all(state == "complete" for state in states)
    mean = mean_of(values, LEVEL) if whole else None
    runs = tuple(states), tuple(values)
    return Finalist(trial, learning_rate, searched, *runs, mean, weight_decay)


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
                **_decay(finalist),
                "searched": finalist.searched,
                "mean": finalist.mean.mean if finalist.mean else None,
                "standard_error": finalist.mean.standard_error if finalist.mean else None,
                "states": list(finalist.states),
                "values": [y if math.isfinite(y) else None for y in finalist.values],
            }
            for finalist in confirmation.finalists
        ],
    }


def _decay(finalist: Finalist) -> dict[str, float]:
    decay = finalist.weight_decay
    return {} if decay is None else {"weight_decay": decay}


def stored_confirmation(study: Study) -> Confirmation | None:
    """What `sweep confirm` noted in a search; None where it has not run."""
    known = read_study(study)
    found = known.confirmation
    if not found:
        return None
    finalists = tuple(
        make_finalist(
            each["trial"],
            each["learning_rate"],
            each["searched"] if "searched" in each else each["searched_perplexity"],
            each["states"],
            [math.inf if value is None else value for value in values_of(each)],
            weight_decay=each.get("weight_decay"),
        )
        for each in found["finalists"]
        if "states" in each  # not so in the first versions' notes
    )
    if not finalists:
        return None
    return Confirmation(study.study_name, tuple(found["seeds"]), finalists, known.objective)


def values_of(finalist: Mapping[str, Any]) -> list[float | None]:
    """A stored finalist's values, which earlier versions called its perplexities."""
    found: list[float | None] = finalist.get("values", finalist.get("perplexities"))
    return found
