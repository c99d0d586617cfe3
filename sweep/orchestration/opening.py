"""What is written into a study when it is opened: once when it is made, and by every run."""

import dataclasses
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.study import Study

from studies.definition import Identity
from sweep.errors import SweepError
from sweep.orchestration.strategy import SearchSettings
from sweep.results.place import mark_place, stored_place
from sweep.results.record import VERSION, read_study, write_study
from sweep.results.types import STEP
from sweep.storage.connect import folder_of


def write_new(
    study: Study,
    identity: Identity,
    attributes: Mapping[str, Any],
    search: SearchSettings,
    directory: Path,
) -> None:
    """Writes what a new study is told about itself, and ties its folder to it.

    Args:
        study: held, and empty.
        identity: what its trials share.
        attributes: further fields of its record.
        search: how it is searched.
        directory: of its text and checkpoints.
    """
    token = secrets.token_hex(8)
    mark_place(directory, token)
    write_study(
        study,
        **attributes,
        version=VERSION,
        unit=STEP,
        range=[search.low, search.high],
        directory=stored_place(directory, folder_of(study)),
        token=token,
        identity=dict(identity.fields),
    )


def check_total(study: Study, search: SearchSettings) -> None:
    """Refuses to join a study that is to be of another size.

    Raises:
        SweepError: names its total.
    """
    total = read_study(study).trials
    if total != search.trials:
        raise SweepError(
            f"study '{study.study_name}' is run to {total} trials in all, not to "
            f"{search.trials}: join it with --trials {total}"
        )


def write_search(study: Study, search: SearchSettings) -> None:
    """Writes what each run may change: how it searches, and the range where the user gave one."""
    given = {} if search.widen else {"range": [search.low, search.high]}
    write_study(
        study,
        trials=search.trials,
        sampler=search.sampler,
        pruner=search.pruner,
        floor=search.floor,
        priors={name: dataclasses.asdict(prior) for name, prior in search.priors.items()},
        decay=None if search.decay is None else dataclasses.asdict(search.decay),
        script=search.script,
        ran=time.time(),
        remaining="",
        forecast_met="",
        finished={},
        **given,
    )
