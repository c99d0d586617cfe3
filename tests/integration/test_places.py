"""Where a study's files lie: moved, copied, left behind, or where a stranger would have them."""

import shutil
from pathlib import Path

import pytest
from support import Workspace, refusal

from sweep.orchestration import plan, prepare
from sweep.results.place import place_of
from sweep.results.record import write_study

RUN = ("run", "--trials", 3, "--epochs", 2, "--json")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    """A study of three trials that was killed in its second; to be copied, not changed."""
    workspace = Workspace(tmp_path_factory.mktemp("killed"), english)
    with workspace.start(*RUN) as sweep:
        sweep.until("trial_reported", number=1)
    return workspace


@pytest.fixture
def stopped(killed: Workspace, tmp_path: Path) -> Workspace:
    """The same in a folder of the test's own."""
    return killed.copy_to(tmp_path / "stopped")


@pytest.mark.more
def test_a_moved_folder_goes_on_from_its_checkpoints(stopped: Workspace, tmp_path: Path) -> None:
    before = stopped.path / "runs"
    (name,) = [folder.name for folder in before.iterdir()]
    moved = stopped.copy_to(tmp_path / "moved")
    shutil.rmtree(before)
    events = moved.sweep(*RUN).events
    assert not before.exists(), "the old place is not made again"
    begun = [event["trial"]["number"] for event in events if event["event"] == "trial_started"]
    assert begun[0] == 1
    assert next(e for e in events if e["event"] == "trial_started")["trial"]["step"] > 0
    assert place_of(moved.study()) == moved.path / "runs" / name
    exported = moved.invoke("export", "-o", "best.yaml")
    assert exported.code == 0
    assert str(moved.path / "runs" / name) in (moved.path / "best.yaml").read_text()


@pytest.mark.more
def test_what_a_lost_database_left_is_neither_used_nor_touched(stopped: Workspace) -> None:
    (left,) = (stopped.path / "runs").iterdir()
    before = {path: path.read_bytes() for path in left.rglob("*") if path.is_file()}
    for file in stopped.path.glob("sweep.db*"):
        file.unlink()
    said = stopped.sweep(*RUN)
    assert "is another study's: this one's files go to" in said.out
    assert {path: path.read_bytes() for path in left.rglob("*") if path.is_file()} == before
    assert place_of(stopped.study()) == left.with_name(f"{left.name}-2")
    assert stopped.states() == ["COMPLETE"] * 3


@pytest.mark.parametrize("place", ["../elsewhere", "runs/../../elsewhere"])
def test_a_strangers_database_does_not_choose_where_files_are_written(
    stopped: Workspace, place: str
) -> None:
    write_study(stopped.study(), directory=place)
    assert "lies outside the database's" in refusal(stopped.sweep(*RUN, code=2))
    assert not (stopped.path.parent / "elsewhere").exists()


@pytest.mark.more
def test_an_absolute_place_is_followed_only_where_the_user_names_it(
    stopped: Workspace, tmp_path: Path
) -> None:
    (name,) = [folder.name for folder in (stopped.path / "runs").iterdir()]
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere" / name
    write_study(stopped.study(), directory=str(elsewhere))
    stopped.sweep(*RUN)
    assert not elsewhere.exists()
    assert stopped.states() == ["COMPLETE"] * 3


def test_a_folder_of_another_study_is_one_line(stopped: Workspace) -> None:
    (folder,) = (stopped.path / "runs").iterdir()
    (folder / ".study").write_text("another\n")
    said = refusal(stopped.sweep(*RUN, code=2))
    assert "holds the checkpoints of another study" in said


@pytest.mark.more
def test_a_text_spelled_otherwise_goes_on_with_the_same_study(
    tmp_path: Path, english: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path / "work", english)
    (workspace.path / "link").symlink_to(english)
    around = f"{english.parent}/./{english.name}/"
    for number, spelling in enumerate((english, around, "link"), 1):
        workspace.invoke("run", "--data", spelling, "--trials", number, "--epochs", 1)
    assert sum(trial.state.is_finished() for trial in workspace.study().trials) == 3


@pytest.mark.parametrize("version", [pytest.param(0, marks=pytest.mark.more), 1])
def test_a_study_of_an_earlier_version_goes_on(
    tmp_path: Path, english: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    workspace = Workspace(tmp_path / "work", english)
    (workspace.path / "link").symlink_to(english)
    run = ("run", "--data", "link", "--epochs", 1, "--trials")
    with monkeypatch.context() as before:
        fields = lambda made: plan.earlier_fields(made)[version]  # noqa: E731
        before.setattr(prepare, "study_name", lambda made: plan.earlier_names(made)[version])
        before.setattr(prepare, "identity_fields", fields)
        before.setattr(plan, "identity_fields", fields)
        workspace.invoke(*run, 1)
    name = workspace.study().study_name
    assert "data.name" in workspace.study().user_attrs["identity"]
    workspace.invoke(*run, 2)
    assert workspace.study().study_name == name
    assert sum(trial.state.is_finished() for trial in workspace.study().trials) == 2


@pytest.mark.more
def test_a_renamed_text_goes_on_from_its_checkpoints(workspace: Workspace, english: Path) -> None:
    folder = workspace.path / "text"
    shutil.copytree(english, folder)
    run = ("run", "--trials", 2, "--epochs", 3, "--json", "--data")
    with workspace.start(*run, "text") as sweep:
        sweep.until("trial_reported", number=1)
    folder.rename(workspace.path / "novel")
    events = workspace.invoke(*run, "./novel").events
    begun = next(event for event in events if event["event"] == "trial_started")
    assert (begun["trial"]["number"], begun["trial"]["step"] > 0) == (1, True)
    assert workspace.states()[:2] == ["COMPLETE"] * 2
    workspace.invoke("export", "-o", "best.yaml")
    assert "met again" in workspace.invoke("train", "best.yaml").out


@pytest.mark.more
def test_a_terminal_without_every_letter_gets_those_it_has(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    for command in ("list", "status", "report"):
        assert finished.sweep(command).out.isascii()
