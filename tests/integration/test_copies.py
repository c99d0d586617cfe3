"""Copies of a database, and one that can only be read."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import Workspace, refusal

pytestmark = pytest.mark.more  # whole sweeps for each of its cases

RUN = ("run", "--trials", 3, "--epochs", 2, "--json")
READERS = ("status", "list", "report", "show 0", "predict --batch 128", "export -o {}/best.yaml")


def test_a_plain_copy_holds_every_trial_that_has_ended(workspace: Workspace) -> None:
    with workspace.start(*RUN) as sweep:
        sweep.until("trial_started", number=2)
        shutil.copy(workspace.path / "sweep.db", workspace.path / "copy.db")
    assert workspace.states("copy.db")[:2] == ["COMPLETE"] * 2
    after_the_kill = workspace.path / "killed.db"
    shutil.copy(workspace.path / "sweep.db", after_the_kill)
    assert workspace.states("killed.db")[:2] == ["COMPLETE"] * 2


def test_a_backup_beside_a_sweep_is_whole(workspace: Workspace) -> None:
    with workspace.start(*RUN) as sweep:
        sweep.until("trial_reported", number=1)
        said = workspace.sweep("backup", "copy.db")
    assert said.out == "copy.db: a copy of sqlite:///sweep.db\n"
    assert workspace.states("copy.db")[0] == "COMPLETE"
    assert "is there already" in refusal(workspace.sweep("backup", "copy.db", code=2))
    assert workspace.sweep("list", "--storage", "copy.db").code == 0


def test_a_backup_of_nothing_is_one_line(workspace: Workspace) -> None:
    assert "there is no database" in refusal(workspace.sweep("backup", "copy.db", code=2))
    assert not (workspace.path / "copy.db").exists()


@pytest.fixture(scope="module")
def read_only(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished study in a folder that cannot be written to."""
    copied = finished.copy_to(tmp_path_factory.mktemp("read") / "only")
    for file in copied.path.glob("sweep.db*"):
        if file.name != "sweep.db":
            file.unlink()  # the whole study is in the file: nothing runs
    (copied.path / "sweep.db").chmod(0o444)
    copied.path.chmod(0o555)
    return copied


def restricted() -> list[str]:
    """What takes from a command the right to write where its permissions do not let it."""
    if os.geteuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root without setpriv can write everywhere")
    rights = "-dac_override,-dac_read_search"
    return ["setpriv", "--bounding-set", rights, "--inh-caps", rights]


def without_rights(workspace: Workspace, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command that may write only where the permissions let it."""
    return subprocess.run(
        [*restricted(), sys.executable, "-m", "sweep", *arguments],
        cwd=workspace.path,
        env=workspace.environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("reader", READERS)
def test_what_can_only_be_read_can_be_read(
    read_only: Workspace, tmp_path: Path, reader: str
) -> None:
    done = without_rights(read_only, *reader.format(tmp_path).split())
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in read_only.path.glob("sweep.db*")) == ["sweep.db"]


def test_what_writes_into_it_is_refused_in_one_line(read_only: Workspace) -> None:
    done = without_rights(read_only, "add", "--rate", "1e-3", "--perplexity", "9")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
