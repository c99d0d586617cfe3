"""What a finished study leaves on the disk."""

from pathlib import Path

import pytest
from support import Workspace

from sweep.results.belief import recommended

pytestmark = pytest.mark.more

BEST = ("--set", "study.keep=best")


def checkpoints(workspace: Workspace) -> dict[int, list[str]]:
    """By trial."""
    folders = [file.parent for file in workspace.path.glob("runs/*/*/*") if file.is_file()]
    names = ("last.pt", "previous.pt", "best.pt")
    return {
        int(folder.name): [name for name in names if (folder / name).exists()]
        for folder in sorted(set(folders))
    }


@pytest.fixture
def copy(finished: Workspace, tmp_path: Path) -> Workspace:
    return finished.copy_to(tmp_path / "copy")


def test_the_checkpoints_of_the_recommended_and_the_best_trial_are_left(copy: Workspace) -> None:
    before = checkpoints(copy)
    assert all(before.values())
    done = copy.invoke("run", "--trials", 6, *BEST)
    study = copy.study()
    kept = {study.best_trial.number, recommended(study)[0]}
    assert {number: names for number, names in checkpoints(copy).items() if names} == {
        number: before.get(number, ["last.pt", "previous.pt", "best.pt"]) for number in kept
    }
    said = " ".join(done.out.split())
    assert "MB freed" in said
    assert f"of {6 - len(kept)} other trials are deleted" in said
    assert copy.states() == ["COMPLETE"] * 6


def test_all_else_goes_on_as_before(copy: Workspace) -> None:
    copy.invoke("run", *BEST, "--trials", 5)
    assert "freed" not in copy.invoke("run", *BEST, "--trials", 5).out, "there is no more"
    copy.invoke("run", *BEST, "--trials", 6)
    assert copy.states() == ["COMPLETE"] * 6
    copy.invoke("export")
    copy.invoke("train", "best.yaml", "--resume", "--epochs", 4)
    copy.invoke("confirm", "--top", 1, "--seeds", 1)


def test_what_is_not_the_tools_own_stays(copy: Workspace, tmp_path: Path) -> None:
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    (treasure / "last.pt").write_text("mine")
    (place,) = copy.path.glob("runs/*")
    study = copy.study()
    spare = min(set(range(5)) - {recommended(study)[0], study.best_trial.number})
    link, notes = copy.folder(spare) / "best.pt", copy.folder(spare) / "notes.pt"
    link.unlink()
    link.symlink_to(treasure / "last.pt")
    notes.write_text("mine")
    (place / "0042").symlink_to(treasure)
    copy.invoke("run", *BEST, "--trials", 5)
    assert not (copy.folder(spare) / "last.pt").exists()
    assert link.is_symlink()
    assert notes.exists()
    assert (treasure / "last.pt").read_text() == "mine"


@pytest.mark.parametrize("token", [None, "another study"])
def test_a_folder_without_the_studys_mark_is_left_alone(copy: Workspace, token: str | None) -> None:
    before = checkpoints(copy)
    (mark,) = copy.path.glob("runs/*/.study")
    if token is None:
        mark.unlink()
    else:
        mark.write_text(token)
    copy.invoke("run", *BEST, "--trials", 5, code=0 if token is None else 2)
    assert checkpoints(copy) == before
