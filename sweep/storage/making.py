"""Makes a study, with a mark that it is this tool's."""

import json

from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import StudyDirection

from sweep.storage.retry import RetryingStorage, retry_on

METRIC_NAMES = "study:metric_names"
"""What `Study.set_metric_names` writes; it warns that it is experimental."""
MARK = "lease"
"""A study's attribute from its first moment: without an identity it is what a kill left of its
making. Earlier versions kept their lease in it."""


def make_study(storage: RetryingStorage, name: str, metric: str) -> None:
    """Makes a study that minimizes, unless there is one of that name, in one transaction.

    Args:
        storage: the opened database.
        name: the study's.
        metric: what its numbers are, for the dashboard.
    """

    def attempt() -> None:
        with _create_scoped_session(storage.scoped_session, ignore_integrity_error=True) as session:
            made = models.StudyModel(
                study_name=name,
                directions=[
                    models.StudyDirectionModel(objective=0, direction=StudyDirection.MINIMIZE)
                ],
                user_attributes=[models.StudyUserAttributeModel(key=MARK, value_json="{}")],
                system_attributes=[
                    models.StudySystemAttributeModel(
                        key=METRIC_NAMES, value_json=json.dumps([metric])
                    )
                ],
            )
            session.add(made)

    retry_on(storage, attempt)
