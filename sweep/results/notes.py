"""What is written into a study beside its trials and how they are searched."""

from collections.abc import Callable, Mapping
from typing import Any

from optuna.study import Study

from sweep.config.schema import StudySettings
from sweep.results.confirmation import CONFIRMATION
from sweep.storage.lease import Lease


def stop_criteria(settings: StudySettings) -> dict[str, Any]:
    """When a study is finished: another total, or another `until`, makes it go on."""
    return {"trials": settings.trials, "until": settings.until}


def note_confirmation(
    study: Study, found: Mapping[str, Any], then: Callable[[], None] = lambda: None
) -> None:
    """Writes into a search what other seeds have said of its finalists.

    Args:
        study: the search.
        found: plain JSON values; `sweep.results.confirmation.record` gives them.
        then: called while the study is still held, for what else is to be written.

    Raises:
        SweepError: another orchestrator holds the study.
    """
    with Lease(study).held():
        study.set_user_attr(CONFIRMATION, dict(found))
        then()


def note_forecast(study: Study, key: str, found: Mapping[str, Any]) -> None:
    """Writes a forecast that rests on a study into it, under a key that nothing else writes.

    It takes no lease: a sweep may go on in that study meanwhile.
    """
    study.set_user_attr(key, dict(found))
