"""A full disk in the middle of a trial: one line, nothing stored is lost, and it goes on."""

import contextlib
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Workspace, refusal

pytestmark = pytest.mark.more

# The shared trainer; after its first epoch a trial waits for as long as the file `hold` is there.
HELD = """\
    import time
    from pathlib import Path
    from trainers import train as shared
    from trainers.report import Report

    def train(config, *, device, directory):
        training, verdict = shared.train(config, device=device, directory=directory), None
        while True:
            try:
                said = training.send(verdict)
            except StopIteration as stop:
                return stop.value
            verdict = yield said
            while isinstance(said, Report) and said.epoch == 1 and Path("hold").exists():
                time.sleep(0.1)
"""
SIZE = 16 * 2**20


@pytest.fixture
def disk(workspace: Workspace) -> Iterator[Path]:
    """A disk of 16 MiB; mounting one takes root."""
    folder = workspace.path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leaves no room on it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


@pytest.mark.parametrize("what", ["checkpoints", "database"])
def test_a_full_disk_stops_the_sweep_in_one_line_and_the_same_command_goes_on(
    workspace: Workspace, disk: Path, finished: Workspace, what: str
) -> None:
    workspace.write("held.py", HELD)
    where = {"checkpoints": workspace.path / "runs", "database": workspace.path / "sweep.db"}
    where[what] = disk / where[what].name
    run = (
        "run", "--trainer", "held:train", "--trials", 2, "--json", "--set",
        f'study.directory="{where["checkpoints"]}"', "--storage", where["database"],
    )  # fmt: skip
    hold = workspace.write("hold", "")
    with workspace.start(*run) as live:
        live.until("trial_reported", number=0, epoch=1)
        filler = fill(disk)
        hold.unlink()
        line = refusal(live.end(2))
    database = str(where["database"].relative_to(workspace.path))
    filler.unlink()
    words = {"checkpoints": "No space left on device", "database": "disk is full"}
    assert words[what] in line
    assert "kept" in line or "the same command goes on" in line
    assert workspace.states(database)[0] == "RUNNING"
    assert list(workspace.curves(database)[0]) == [1]

    workspace.invoke(*run)

    assert workspace.states(database)[:2] == ["COMPLETE", "COMPLETE"]
    curves = finished.curves()
    assert [workspace.curves(database)[number] for number in range(2)] == [curves[0], curves[1]]


def test_a_file_that_may_not_grow_is_a_full_disk(workspace: Workspace) -> None:
    """A quota, or `ulimit -f`: the checkpoint is what does not fit."""
    workspace.write("held.py", HELD)
    run = ("run", "--trainer", "held:train", "--trials", 1, "--json")
    hold = workspace.write("hold", "")
    with workspace.start(*run) as live:
        live.until("trial_reported", number=0, epoch=1)
        worker = worker_of(live.process.pid)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        hold.unlink()
        line = refusal(live.end(2))
    assert "last.pt cannot be written: File too large" in line or "best.pt cannot" in line
    assert line.endswith("make room, then the same command goes on")
    workspace.invoke(*run)
    assert workspace.states()[0] == "COMPLETE"


def worker_of(orchestrator: int) -> int:
    """The process that multiprocessing spawned."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == orchestrator and b"spawn_main" in (folder / "cmdline").read_bytes():
                return int(folder.name)
    raise AssertionError("there is no worker")
