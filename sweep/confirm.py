"""`sweep confirm`: a search's finalists over new seeds.

The best of a dozen trials owes part of its perplexity to its seed: it was chosen for it. So the
search's own seed counts for nothing here. Each new seed is a `sweep.fixed` study beside the search,
for the seed is part of a study's identity; the search itself keeps only what came of it, as its
attribute `confirmation`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from studies.student import Mean, mean_of
from studies.trials import rate_of
from sweep.config import SweepConfig
from sweep.errors import SweepError
from sweep.fixed import Run, run_rates, with_study, with_trainer
from sweep.ledger import note_confirmation
from sweep.protocol import SHARED_TRAINER
from sweep.reading import best_trial
from sweep.view import View
from trainers.config import TrainConfig

LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Finalist:
    """One of the search's best rates.

    Attributes:
        trial: its number in the search.
        searched: the perplexity that it had there.
        runs: over the new seeds, one a seed.
        mean: of their perplexities; None unless every seed was trained whole.
    """

    trial: int
    learning_rate: float
    searched: float
    runs: tuple[Run, ...]
    mean: Mean | None


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What the new seeds say.

    Attributes:
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

    def against_best(self, finalist: Finalist) -> Mean:
        """ln of a finalist's perplexity over the best one's, paired by seed."""
        assert self.best is not None
        pairs = zip(finalist.runs, self.best.runs, strict=True)
        return mean_of([math.log(_value(one) / _value(two)) for one, two in pairs], LEVEL)


def confirm(
    config: SweepConfig, study: Study, top: int, seeds: int, view: View, *, again: str
) -> Confirmation | None:
    """Trains the finalists over new seeds, and notes in the search what came of it.

    Args:
        config: the search's own, as `config_of` gives it.
        study: the search.
        top: how many of its best trials.
        seeds: how many new seeds.
        view: entered already.
        again: the command that goes on, shown where it was stopped.

    Returns:
        What the seeds say, None where they were stopped.

    Raises:
        SweepError: the search has no complete trial.
    """
    finalists = best_trials(study, top)
    rates = [float(rate_of(trial) or 0.0) for trial in finalists]
    view.note(f"finalists of {study.study_name}: {', '.join(f'{rate:.3g}' for rate in rates)}")
    numbers = [config.trainer.seed + offset for offset in range(1, seeds + 1)]
    corpus = Path(study.user_attrs["directory"])
    found: list[Run] = []
    for seed in numbers:
        one = with_trainer(config, seed=seed)
        runs = run_rates(one, rates, view, again=again, corpus=corpus)
        if runs is None:
            return None
        found += runs
    made = [_finalist(trial, found) for trial in finalists]
    made.sort(key=lambda finalist: finalist.mean.mean if finalist.mean else math.inf)
    confirmation = Confirmation(study.study_name, tuple(numbers), tuple(made))
    if confirmation.best is not None:
        note_confirmation(study, record(confirmation))
    return confirmation


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
            }
            for finalist in confirmation.finalists
        ],
    }


def best_trials(study: Study, top: int) -> list[FrozenTrial]:
    """The complete trials with the lowest perplexities, one a rate, the best first.

    Raises:
        SweepError: none is complete.
    """
    best_trial(study)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    complete.sort(key=lambda trial: trial.value or math.inf)
    chosen: list[FrozenTrial] = []
    for trial in complete:
        rates = [rate_of(other) or 0.0 for other in chosen]
        if not any(math.isclose(rate_of(trial) or 0.0, rate) for rate in rates):
            chosen.append(trial)
    return chosen[:top]


def config_of(study: Study, config: SweepConfig, *, allowed: set[str]) -> SweepConfig:
    """The configuration that a study was made with: its trainer's settings, model and data.

    Args:
        study: one of this tool's.
        config: the user's now, for what is no part of a study's identity.
        allowed: import paths that the user names now; a database may be a stranger's.

    Raises:
        SweepError: the study was made with other code than the user names.
    """
    identity = study.user_attrs["identity"]
    train = TrainConfig(**study.user_attrs["config"])
    named = [("--model", train.model.name)] if ":" in train.model.name else []
    if identity["trainer"] != SHARED_TRAINER:
        named.append(("--trainer", identity["trainer"]))
    for flag, path in named:
        if path not in allowed:
            raise SweepError(
                f"study '{study.study_name}' was made with '{path}', which is run only where you "
                f"name it too: add {flag} {path} if you trust it"
            )
    known = config.model_copy(update={"trainer": train, "model": train.model.name})
    return with_study(known, trainer=identity["trainer"])


def confirmation_object(confirmation: Confirmation) -> dict[str, Any]:
    """The confirmation as plain JSON values, its runs among them."""
    runs = [asdict(run) for finalist in confirmation.finalists for run in finalist.runs]
    return {"study": confirmation.study, **record(confirmation), "runs": runs}


def _finalist(trial: FrozenTrial, found: Sequence[Run]) -> Finalist:
    rate = float(rate_of(trial) or 0.0)
    runs = tuple(run for run in found if math.isclose(run.learning_rate, rate))
    whole = all(run.state == "complete" for run in runs)
    mean = mean_of([_value(run) for run in runs], LEVEL) if whole and runs else None
    return Finalist(trial.number, rate, float(trial.value or math.inf), runs, mean)


def _value(run: Run) -> float:
    assert run.perplexity is not None
    return run.perplexity
