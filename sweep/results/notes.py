"""What is written into a study beside its trials and how they are searched."""

from collections.abc import Callable, Mapping
from typing import Any

from optuna.study import Study

from sweep.config.schema import StudySettings
from sweep.results.record import write_study
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
        write_study(study, confirmation=dict(found))
        then()
