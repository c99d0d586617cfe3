"""Puts a study's answer where optuna-dashboard shows it: graphs, notes, and files as artifacts.

Only the process that holds the study's lease may call this: it writes the study.
"""

import contextlib
import hashlib
import importlib.util
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.study import Study

from sweep.config.schema import StudySettings
from sweep.results.belief import chosen_trial
from sweep.results.export import export, write
from sweep.results.lookup import open_all
from sweep.results.report import Report, build
from sweep.storage.connect import sqlite_path
from sweep.storage.retry import add_study_system_attrs
from sweep.url import StorageUrl
from sweep.view.report.to_text import markdown
from sweep.view.sentences import why

NEEDED = ("optuna_dashboard", "plotly")
MINE = "sweep:published"  # a study's attribute: what of its notes and files is ours
ARTIFACT = "artifacts:"  # Optuna's own prefix, before an artifact's id


def artifact_folder(storage: StorageUrl | str) -> Path:
    """Where a database's artifacts lie: beside an SQLite file, else in the working folder."""
    path = sqlite_path(storage) or Path("sweep.db")
    return path.parent / f"{path.stem}-artifacts"


def can_publish() -> bool:
    """Whether optuna-dashboard and what draws in it are installed."""
    return all(importlib.util.find_spec(name) is not None for name in NEEDED)


def publisher(settings: StudySettings, warn: Callable[[str], None]) -> Callable[[Study], None]:
    """What publishes a study while its lease is held, where that is wanted.

    Args:
        settings: of the study.
        warn: takes one line.
    """

    def publish_held(study: Study) -> None:
        if settings.publish:
            publish(study, settings.storage, open_all(settings.storage), warn)

    return publish_held


def publish(
    study: Study,
    storage: StorageUrl | str,
    others: Sequence[Study],
    warn: Callable[[str], None],
) -> None:
    """Writes graphs, notes and artifacts; whatever goes wrong is a warning, and no sweep fails.

    Args:
        study: whose lease is held.
        storage: its database, as the user names it.
        others: further studies of the same database.
        warn: takes one line.
    """
    if not can_publish():
        return
    try:
        report = build(study, storage, others)
        _graphs(study, report)
        _notes(study, report)
        _artifacts(study, report, storage)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        warn(f"nothing new for the dashboard: {type(error).__name__} {reason}".rstrip())


def _graphs(study: Study, report: Report) -> None:
    from optuna_dashboard import save_plotly_graph_object

    from sweep.view.report.charts import charts
    from sweep.view.report.charts_plotly import graph

    for chart in charts(report):
        save_plotly_graph_object(study, graph(chart), graph_object_id=f"sweep-{chart.key}")


def _notes(study: Study, report: Report) -> None:
    """The answer on the study, each trial's ending on the trial; what a user wrote is kept."""
    from optuna_dashboard import get_note, save_note
    from optuna_dashboard._note import (
        SYSTEM_ATTR_MAX_LENGTH,
        note_str_key_prefix,
        note_ver_key,
    )

    ours = _ours(study)
    text = markdown(report, without=("Trials", "Setting"))
    if _digest(get_note(study)) in (_digest(""), ours.get("note")):
        save_note(study, text)
        _remember(study, note=_digest(text))
    rows = {row.number: row for row in report.study.trials}
    # All at once: the dashboard's own `save_note` reads every note of the study for each.
    noted = study._storage.get_study_system_attrs(study._study_id)
    new: dict[str, object] = {}
    for trial in study.get_trials(deepcopy=False):
        row, version = rows[trial.number], note_ver_key(trial._trial_id)
        if trial.state.is_finished() and version not in noted and (words := why(row)):
            text = f"**{row.state}**: {words}"[:SYSTEM_ATTR_MAX_LENGTH]
            new |= {version: 1, f"{note_str_key_prefix(trial._trial_id)}0": text}
    add_study_system_attrs(study, new)


def _artifacts(study: Study, report: Report, storage: StorageUrl | str) -> None:
    """The page and the best configuration, in place of those that an earlier run left."""
    from sweep.view.report.to_html import html  # loads matplotlib

    store_folder = artifact_folder(storage)
    store_folder.mkdir(parents=True, exist_ok=True)
    store = FileSystemArtifactStore(store_folder)
    old = _ours(study).get("artifacts", [])
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "report.html"]
        files[0].write_text(html(report), encoding="utf-8", errors="replace")
        if report.study.best is not None:
            files.append(Path(folder) / "best.yaml")
            write(export(study, chosen_trial(study), storage), files[-1])
        new = [
            upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=study)
            for file in files
        ]
    _remember(study, artifacts=new)
    for each in old:
        with contextlib.suppress(ArtifactNotFound):
            store.remove(each)
        # As the dashboard itself marks one that was deleted.
        study._storage.set_study_system_attr(study._study_id, ARTIFACT + each, json.dumps(None))


def _ours(study: Study) -> dict[str, Any]:
    found: dict[str, Any] = study._storage.get_study_system_attrs(study._study_id).get(MINE, {})
    return found


def _remember(study: Study, **fields: object) -> None:
    mine: dict[str, Any] = {**_ours(study), **fields}
    study._storage.set_study_system_attr(study._study_id, MINE, mine)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
