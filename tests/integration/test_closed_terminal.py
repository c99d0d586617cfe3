"""A terminal that goes while a sweep runs in it, as a lost connection under `setsid` leaves it."""

import os
import select
import subprocess
import sys

import pytest
from support import WAIT_S, Workspace

pytestmark = pytest.mark.more  # whole sweeps, one for each view

HELD = """\
    import time
    from pathlib import Path
    from trainers.report import Ending, Outcome, Progress, Report

    def train(config, *, device, directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "begun").touch()
        for epoch in (1, 2, 3):
            while Path("hold").exists():
                yield Progress(epoch)
                time.sleep(0.05)
            yield Report(epoch=epoch, validation_loss=4.0 - epoch / 10)
        return Ending(Outcome.COMPLETED)
"""


MORE = pytest.mark.more  # the streams' own ends are tests/unit/sweep/view/test_lasting.py's


@pytest.mark.parametrize(
    "view", ["live", pytest.param("plain", marks=MORE), pytest.param("json", marks=MORE)]
)
def test_the_sweep_trains_on_to_its_end_and_its_log_says_so(
    workspace: Workspace, view: str
) -> None:
    workspace.write("held.py", HELD)
    hold = workspace.write("hold", "")
    words = ("run", "--trainer", "held:train", "--trials", "3", "--set", f"study.view={view}")
    terminal, own = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sweep", *words],
        cwd=workspace.path,
        env={**workspace.environment, "TERM": "xterm"},
        stdin=own,
        stdout=own,
        stderr=own,
        start_new_session=True,
    )
    os.close(own)
    try:
        shown = b""
        while not any(workspace.path.glob("runs/*/0000/begun")):
            assert process.poll() is None, shown.decode()
            if select.select([terminal], [], [], 0.05)[0]:
                shown += os.read(terminal, 65536)
        assert shown
        os.close(terminal)
        hold.unlink()
        assert process.wait(WAIT_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert workspace.states() == ["COMPLETE"] * 3
    (log,) = workspace.path.glob("runs/*/sweep.log")
    (line,) = [line for line in log.read_text().splitlines() if "nothing is shown" in line]
    assert line.endswith("nothing is shown any more (Input/output error), and the work goes on")
