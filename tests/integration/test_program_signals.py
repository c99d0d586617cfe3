"""The signals by which a batch system warns, and a terminal that goes, where a program trains."""

import signal
import sys

import pytest
from support import Workspace, gone

# It goes on at the step that it reported last; its child would outlive it.
PROGRAM = """\
    import os, subprocess, sys, time
    from pathlib import Path
    from sweep.client import report

    folder = Path(sys.argv[2])
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    (folder / "pids").write_text(f"{os.getpid()} {child.pid}")
    begun = len((folder / "reports.jsonl").read_text().splitlines())
    for step in range(begun + 1, 5):
        while step == 3 and not Path("go").exists():
            time.sleep(0.02)
        report(step=step, validation_loss=3 - step / 10)
    child.kill()
"""


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGUSR1,
        pytest.param(signal.SIGHUP, marks=pytest.mark.more),
        pytest.param(signal.SIGUSR2, marks=pytest.mark.more),
    ],
)
def test_it_pauses_leaves_nothing_running_and_goes_on(
    workspace: Workspace, number: signal.Signals
) -> None:
    workspace.write("program.py", PROGRAM)
    run = (
        "run", "--profile", "program", "--trials", 1, "--set", "study.publish=false",
        "--set", 'program.resume=["--resume"]', "--json",
        "--", sys.executable, "program.py", "{learning_rate}", "{directory}",
    )  # fmt: skip
    with workspace.start(*run) as live:
        live.until("trial_reported", number=0, step=2)
        pids = [int(pid) for pid in (workspace.folder(0) / "pids").read_text().split()]
        live.signal(number, group=True)
        live.end(3)
    assert all(map(gone, pids))
    (workspace.path / "go").touch()
    done = workspace.invoke(*run)
    reported = [event["report"]["step"] for event in done.events if "report" in event]
    assert reported == [3, 4]
