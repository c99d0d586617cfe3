"""Optuna's cache of trials, for a study that is open long and asked for all of them often."""

import copy
from collections.abc import Container

from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import FrozenTrial, TrialState

from sweep.storage.packed import PackedTrial


class TrialCache(_CachedStorage):
    """The same answers, without going through thousands of trials each time; it keeps them small.

    Optuna sorts all of them by a function of Python's, and looks at each one's state.
    """

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Trials of a study in the order of their numbers, those in `states` alone where given."""
        self._read_trials_from_remote_storage(study_id)
        with self._lock:
            found = self._studies[study_id].trials
            numbers = sorted(found if _has_finished(states) else self._unfinished(study_id))
            # They have mostly been added in order.
            same = len(numbers) == len(found) and numbers == list(found)
            trials = list(found.values()) if same else [found[number] for number in numbers]
            if states is not None:
                trials = [trial for trial in trials if trial.state in states]
            return copy.deepcopy(trials) if deepcopy else trials

    def _add_trials_to_cache(self, study_id: int, trials: list[FrozenTrial]) -> None:
        kept = [PackedTrial(trial) if trial.state.is_finished() else trial for trial in trials]
        super()._add_trials_to_cache(study_id, kept)

    def _unfinished(self, study_id: int) -> list[int]:
        """Numbers of the trials that had not ended when they were read last."""
        identifiers = self._studies[study_id].unfinished_trial_ids
        return [self._trial_id_to_study_id_and_number[each][1] for each in identifiers]


def _has_finished(states: Container[TrialState] | None) -> bool:
    return states is None or any(state in states for state in TrialState if state.is_finished())
