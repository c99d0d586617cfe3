"""The learning-rate pruner: ends a trial where another rate promises more for its steps.

See `studies.strategy` for when that is. Steps are never compared as they are, so neither high nor
low rates are favoured.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial

from studies.definition import PARAMETER, range_within
from studies.errors import StudyError, unknown_name
from studies.numbers import AUDITED
from studies.observed import Terms
from studies.patient import NeverPruner, PatientPruner, StudyPruner
from studies.sampler import LearningRateSampler
from studies.strategy import reason_to_leave
from studies.table import Table
from studies.trials import diverged

LEARNING_RATE, NONE = "learning-rate", "none"
QUANTILES = {"patient-median": 0.5, "percentile": 0.75}
PRUNERS = (LEARNING_RATE, *QUANTILES, NONE)


def make_pruner(
    name: str,
    *,
    floor: int,
    startup: int,
    patience: int = 2,
    seed: int = 0,
    terms: Terms | None = None,
) -> StudyPruner:
    """Builds a pruner.

    Args:
        name: "learning-rate", "patient-median", "percentile" (only the worst quarter is pruned) or
            "none".
        floor: the step up to which no sound trial is ended, at least 1.
        startup: complete trials needed before any is pruned; at least 1 is always needed; not for
            "learning-rate".
        patience: reports in a row that a trial must be behind at; not for "learning-rate".
        seed: chooses the trials that "learning-rate" audits.
        terms: what "learning-rate" knows beside the trials; of the others what their numbers are,
            and what they are counted by.

    Raises:
        StudyError: an unknown name or a number out of its bounds.
    """
    if name not in PRUNERS:
        raise unknown_name("pruner", name, PRUNERS)
    if name == NONE:
        return NeverPruner()
    for field, value, least in (
        ("floor", floor, 1),
        ("startup", startup, 0),
        ("patience", patience, 1),
    ):
        if value < least:
            raise StudyError(f"pruner {field} must be at least {least}, got {value}")
    if name == LEARNING_RATE:
        return LearningRatePruner(terms=terms, seed=seed)
    known = terms or Terms(0.0, math.inf)
    return PatientPruner(QUANTILES[name], floor, startup, patience, known.objective, known.unit)


class LearningRatePruner(StudyPruner):
    """Ends trials that another rate promises more than.

    Where a rate is believed, the first trial of a study is never ended before half its steps. Of
    those to be ended as they are behind 1 in 20 run on all the same (`audit`), which shows how
    often the pruner is wrong.

    Args:
        terms: what is known beside the trials; None takes that from the study's
            `LearningRateSampler`, or knows nothing but the parameter's range.
        seed: chooses, with the trial's number, who is audited.
    """

    looks = True

    def __init__(self, *, terms: Terms | None = None, seed: int = 0) -> None:
        self._terms, self._seed = terms, seed

    def reason(self, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> str:
        """Says why the trial should end after its last report, "" where it should go on."""
        if diverged(trial):
            known = self._terms or Terms(0.0, math.inf)
            return f"{known.objective.words} is not finite after {known.unit} {trial.last_step}"
        return self._why(trials, trial, behind=not self._is_audited(trial))

    def audit(self, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> str:
        """Why an audited trial would have ended after its last report; "" for any other."""
        audited = not diverged(trial) and self._is_audited(trial)
        behind = self._why(trials, trial, behind=True) if audited else ""
        if not behind or self._why(trials, trial, behind=False):
            return ""
        return f"audit, runs on to check the pruner: {behind}"

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Judges a trial after its last report, and stores the reason as an attribute of it."""
        if self._terms is None:
            return LearningRatePruner(terms=_terms(study, trial), seed=self._seed).prune(
                study, trial
            )
        trials = study.get_trials(deepcopy=False)
        found = {"reason": self.reason(trials, trial), "audit": self.audit(trials, trial)}
        for key, words in found.items():
            if words and key not in trial.user_attrs:
                study._storage.set_trial_user_attr(trial._trial_id, key, words)
        return bool(found["reason"])

    def _is_audited(self, trial: FrozenTrial) -> bool:
        digest = hashlib.sha256(f"{self._seed} {trial.number}".encode()).digest()
        return int.from_bytes(digest[:4], "big") < AUDITED * 2**32

    def _why(self, trials: Sequence[FrozenTrial], trial: FrozenTrial, *, behind: bool) -> str:
        assert self._terms is not None, "a study's terms are looked up by prune()"
        return reason_to_leave(Table.of(trials), trial, self._terms, behind=behind)


def _terms(study: Study, trial: FrozenTrial) -> Terms:
    if isinstance(study.sampler, LearningRateSampler):
        return dataclasses.replace(study.sampler.terms(study), pauses=True)
    low, high = range_within(trial.distributions.get(PARAMETER), None, None)
    return Terms(low, high, pauses=False)
