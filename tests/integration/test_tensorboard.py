"""Event files as TensorBoard itself reads them, of a sweep that was stopped and gone on with."""

import io
import math
import sys
from pathlib import Path

import optuna
import pytest
from support import Workspace, refusal

from studies.objective import Objective
from sweep.results.types import TrialRow
from sweep.view import make_view
from trainers.report import Progress

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    """Trial 0 was paused after its first epoch, and trained on by a second command."""
    workspace = Workspace(tmp_path_factory.mktemp("written"), english)
    run = ("run", "--trials", 2, "--set", "study.tensorboard=events", "--json")
    with workspace.start(*run) as live:
        live.until("trial_reported", epoch=1)
        live.process.terminate()
        live.end(3)
    workspace.invoke(*run)
    return workspace


def events(workspace: Workspace, trial: optuna.trial.FrozenTrial) -> "accumulator.EventAccumulator":
    (folder,) = workspace.path.glob(f"events/*/{trial.number:04d}-lr-*")
    found = accumulator.EventAccumulator(str(folder))
    found.Reload()
    return found


def test_every_epoch_is_there_once_as_it_is_stored(written: Workspace) -> None:
    trials = [trial for trial in written.study().trials if trial.state.is_finished()]
    assert len(trials) == 2
    for trial in trials:
        scalars = events(written, trial).Scalars("perplexity/validation")
        assert [each.step for each in scalars] == list(trial.intermediate_values)
        assert len(scalars) == 3
        stored = list(trial.intermediate_values.values())
        assert [each.value for each in scalars] == pytest.approx(stored, rel=1e-6)


def test_loss_and_perplexity_agree(written: Workspace) -> None:
    found = events(written, written.study().trials[0])
    losses = [each.value for each in found.Scalars("loss/validation")]
    perplexities = [each.value for each in found.Scalars("perplexity/validation")]
    assert [math.exp(loss) for loss in losses] == pytest.approx(perplexities, rel=1e-5)
    assert {"loss/training", "optimizer/learning_rate"} <= set(found.Tags()["scalars"])


def test_the_table_of_hyperparameters_has_the_best(written: Workspace) -> None:
    trial = written.study().trials[1]
    (best,) = events(written, trial).Scalars("best_perplexity")
    assert best.value == pytest.approx(trial.value, rel=1e-6)


def test_a_trial_whose_events_cannot_be_written_is_trained(
    written: Workspace, tmp_path: Path
) -> None:
    workspace = written.copy_to(tmp_path / "copy")
    (folder,) = (workspace.path / "events").iterdir()
    for rate in ("3.00e-2", "4.24e-2", "6.00e-2"):  # the rules' own
        (folder / f"0002-lr-{rate}").write_text("a file")
    workspace.invoke("run", "--trials", 3, "--set", "study.tensorboard=events", "--json")
    assert workspace.states() == ["COMPLETE"] * 3
    (log,) = workspace.path.glob("runs/*/sweep.log")
    assert "trial 2 is shown in TensorBoard no more" in log.read_text()


def test_a_file_is_no_folder_for_events(workspace: Workspace) -> None:
    workspace.write("events", "a file")
    run = ("run", "--trials", 1, "--set", "study.tensorboard=events")
    line = refusal(workspace.invoke(*run, code=2))
    assert "study.tensorboard" in line
    assert "cannot be made a folder" in line


def test_without_tensorboard_the_line_says_what_to_install(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = ("run", "--trials", 1, "--set", "study.tensorboard=events")
    assert "pip install 'lr-sweep[tensorboard]'" in refusal(workspace.invoke(*run, code=2))


def test_a_step_s_loss_and_gradient_norm_are_there_between_reports(tmp_path: Path) -> None:
    row = TrialRow(0, "running", 1e-2, "sqrt", 1.0, None, 0, "", objective=Objective())
    stream = io.StringIO()
    with make_view(json_lines=True, stream=stream, tensorboard=str(tmp_path)) as view:
        view.trial_started(row)
        for step in (3, 7):
            view.progressed(0, Progress(step, 9, train_loss=step / 2, gradient_norm=step / 4))
        view.progressed(0, Progress(8, 9))  # of a trainer that says neither
    found = accumulator.EventAccumulator(str(tmp_path / "0000-lr-1.00e-2"))
    found.Reload()
    for tag, part in (("loss/step", 0.5), ("optimizer/gradient_norm", 0.25)):
        scalars = [(each.step, each.value) for each in found.Scalars(tag)]
        assert scalars == [(3, 3 * part), (7, 7 * part)]
    assert '"gradient_norm": 1.75' in stream.getvalue()
