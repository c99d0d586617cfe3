"""A study's trials as the ledger reads and writes them."""

import math
import time
from collections.abc import Mapping
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from studies.decay import decay_of
from studies.table import Table
from studies.trials import is_paused, rate_of
from sweep.errors import SweepError
from sweep.orchestration.enqueued import why_refused
from sweep.results.record import TrialRecord, read_trial
from sweep.storage.retry import RetryingStorage
from trainers.report import Outcome

OWNER = "owner"
"""The trial's attribute with the lease of the orchestrator that runs it."""

READ_EVERY_S = 1.0
"""How late the trials of other orchestrators and programs may be seen when an epoch is judged."""


class StudyTrials:
    """A study's trials: all as they are stored, and this orchestrator's own, held to be written.

    Args:
        study: opened for writing.
        storage: its database.
    """

    def __init__(self, study: Study, storage: RetryingStorage) -> None:
        self._study, self._storage = study, storage
        self._held: dict[int, Trial] = {}  # in step with what is written by them
        self._read = Table(())
        self._read_at = -math.inf

    def all(self) -> Table:
        """All of them, as they are stored: a trial's place is its number.

        Raises:
            SweepError: another program has deleted one.
        """
        trials = Table(self._study.get_trials(deepcopy=False))
        if len(trials) and trials[-1].number != len(trials) - 1:  # they come in their order
            raise deleted(self._study)
        self._read, self._read_at = trials, time.monotonic()
        return trials

    def peers(self) -> Table:
        """All of them: this orchestrator's own as they are, any other as of a moment ago."""
        if time.monotonic() - self._read_at > READ_EVERY_S:
            self.all()
        return self._read.replaced({number: frozen(held) for number, held in self._held.items()})

    def running(self) -> list[FrozenTrial]:
        """Those that are RUNNING to Optuna, whether a worker has them or not."""
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def under_way(self) -> list[FrozenTrial]:
        """Those that are running and not left after a look."""
        return [trial for trial in self.running() if not is_paused(trial)]

    def stored(self, number: int) -> FrozenTrial:
        """A trial as it is stored, also by other programs.

        Raises:
            SweepError: another program has deleted it.
        """
        storage, study = self._study._storage, self._study._study_id
        try:
            identifier = storage.get_trial_id_from_study_id_trial_number(study, number)
        except KeyError:
            raise deleted(self._study) from None
        return storage.get_trial(identifier)

    def at_rate_of(self, trial: FrozenTrial) -> list[FrozenTrial]:
        """The stored trials of a trial's rate, and decay, itself among them."""
        rate, decay = rate_of(trial) or math.nan, decay_of(trial)
        alike = [each for each in self.all() if math.isclose(rate_of(each) or math.inf, rate)]
        return [each for each in alike if decay_of(each) == decay]

    def current(self, number: int) -> FrozenTrial:
        """A trial as it is held, else as it is stored."""
        held = self._held.get(number)
        return self.stored(number) if held is None else frozen(held)

    def resume(self, number: int) -> Trial:
        """A trial to be written, whoever began it; held from here on."""
        if number not in self._held:
            self._held[number] = Trial(self._study, self.stored(number)._trial_id)
        return self._held[number]

    def hold(self, trial: Trial) -> None:
        """Holds a trial that was just asked for."""
        self._held[frozen(trial).number] = trial
        self._read_at = -math.inf

    def release(self, number: int) -> None:
        """Holds a trial no more: it has ended, or another orchestrator may go on with it."""
        self._held.pop(number, None)
        self._read_at = -math.inf

    def report_infinity(self, trial: FrozenTrial) -> None:
        """Stores that a trial diverged after its last report, where no report says so."""
        last = trial.last_step
        if last is None or not math.isinf(trial.intermediate_values[last]):
            self.resume(trial.number).report(math.inf, (last or 0) + 1)

    def refuses(self, trial: Trial) -> bool:
        """Ends a trial that another program enqueued with a rate that none can have."""
        reason = why_refused(frozen(trial))
        if reason:
            self.note(trial, {"outcome": Outcome.FAILED.value, "reason": reason})
            self._study.tell(trial, state=TrialState.FAIL)
            self.release(trial.number)
        return bool(reason)

    def note(self, trial: Trial, attributes: Mapping[str, Any]) -> None:
        """What the trial's `set_user_attr` does, for several in one transaction."""
        unknown = attributes.keys() - TrialRecord.model_fields.keys()
        assert not unknown, unknown
        self._storage.set_trial_user_attrs(trial._trial_id, attributes)
        frozen(trial).user_attrs.update(attributes)


def frozen(trial: Trial) -> FrozenTrial:
    """What a trial is now: Optuna keeps it in step with what is written by it, for itself alone."""
    return trial._cached_frozen_trial


def owner(trial: FrozenTrial) -> str:
    """The lease of the orchestrator that runs it; "" for none."""
    return read_trial(trial).owner


def deleted(study: Study) -> SweepError:
    """Of a trial that is gone: Optuna would give its number once more."""
    return SweepError(
        f"a trial of study '{study.study_name}' was deleted from the database by another program, "
        "so its number would be given twice: take another --study. The other trials and all "
        "checkpoints are kept"
    )
