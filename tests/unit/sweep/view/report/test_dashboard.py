"""What a sweep leaves for optuna-dashboard, read back as the dashboard reads it."""

import json
import math
from pathlib import Path
from unittest import mock

import pytest
from optuna.artifacts import get_all_artifact_meta
from optuna.trial import Trial
from optuna_dashboard import get_note, save_note
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from support import open_ledger, play

import sweep.view.report.dashboard
from sweep.orchestration.ledger import Ledger
from sweep.view.report.dashboard import artifact_folder, publish
from trainers.report import Outcome


def basin(rate: float) -> float:
    return 60 * math.exp(0.05 * math.log(rate / 1.5e-2) ** 2)


def published(ledger: Ledger, folder: Path) -> list[str]:
    """Publishes, and gives the warnings."""
    said: list[str] = []
    publish(ledger.study, str(folder / "sweep.db"), [ledger.study], said.append)
    return said


def note_of(ledger: Ledger, number: int) -> str:
    trial = ledger.study.get_trials(deepcopy=False)[number]
    return str(get_note(Trial(ledger.study, trial._trial_id)))


def attributes(ledger: Ledger) -> dict[str, object]:
    return dict(ledger.study._storage.get_study_system_attrs(ledger.study._study_id))


def artifacts(ledger: Ledger) -> list[dict[str, str]]:
    found = attributes(ledger).items()
    every = [json.loads(str(value)) for key, value in found if key.startswith("artifacts:")]
    return [each for each in every if each is not None]


def test_graphs_notes_and_files_are_there(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        play(ledger, basin, trials=4)
        assert published(ledger, tmp_path) == []
        graphs = get_plotly_graph_objects(attributes(ledger))
        assert sorted(graphs) == [
            f"sweep-{key}" for key in ("batches", "belief", "response", "steps")
        ]
        assert all("data" in json.loads(graph) for graph in graphs.values())
        note = get_note(ledger.study)
        assert "The best learning rate for batch" in note
        assert "| sqrt |" in note
        assert note_of(ledger, 0) == "**complete**: trained to its end"
        folder = artifact_folder(str(tmp_path / "sweep.db"))
        metas = get_all_artifact_meta(ledger.study)
        texts = {meta.filename: (folder / meta.artifact_id).read_text("utf-8") for meta in metas}
        assert sorted(texts) == ["best.yaml", "report.html"]
        assert "<svg" in texts["report.html"]
        assert "learning_rate" in texts["best.yaml"]


def test_a_second_time_replaces_the_first(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        play(ledger, basin, trials=3)
        published(ledger, tmp_path)
        first = get_note(ledger.study)
        play(ledger, basin, trials=2)
        assert published(ledger, tmp_path) == []
        assert get_note(ledger.study) != first
        assert "5 trials" in get_note(ledger.study)
        names = sorted(each["filename"] for each in artifacts(ledger))
        assert names == ["best.yaml", "report.html"]
        assert len(list((tmp_path / "sweep-artifacts").iterdir())) == 2


def test_what_a_user_wrote_is_kept(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        play(ledger, basin, trials=3)
        trial = ledger.study.get_trials(deepcopy=False)[1]
        save_note(Trial(ledger.study, trial._trial_id), "mine")
        published(ledger, tmp_path)
        assert note_of(ledger, 1) == "mine"
        save_note(ledger.study, "my own words")
        published(ledger, tmp_path)
        assert get_note(ledger.study) == "my own words"


def test_an_unfinished_study_has_no_best_configuration(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        spec = ledger.ask()
        assert spec is not None
        ledger.tell(spec.number, Outcome.FAILED, "failed: no memory left")
        assert ledger.ask() is not None
        assert published(ledger, tmp_path) == []
        assert note_of(ledger, 0) == "**failed**: no memory left"
        assert note_of(ledger, 1) == ""
        assert [each["filename"] for each in artifacts(ledger)] == ["report.html"]


def test_a_failure_is_a_warning(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        play(ledger, basin, trials=1)
        (tmp_path / "sweep-artifacts").write_text("in the way")
        (warning,) = published(ledger, tmp_path)
        assert "nothing new for the dashboard" in warning
        assert "FileExistsError" in warning


@pytest.mark.parametrize("missing", ["optuna_dashboard", "plotly"])
def test_without_the_extra_nothing_is_written(tmp_path: Path, missing: str) -> None:
    with (
        open_ledger(tmp_path) as ledger,
        mock.patch.object(sweep.view.report.dashboard, "NEEDED", (f"no_{missing}",)),
    ):
        play(ledger, basin, trials=1)
        before = attributes(ledger)
        assert published(ledger, tmp_path) == []
        assert attributes(ledger) == before
    assert not (tmp_path / "sweep-artifacts").exists()
