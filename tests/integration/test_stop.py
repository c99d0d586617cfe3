"""Ctrl-C where a step takes an hour: once waits for its end, twice does not."""

import signal

from support import Workspace, gone, wait_for

SILENT = """\
    import os, time
    from pathlib import Path
    from trainers.report import Report, Progress

    def train(config, *, device, directory):
        directory.mkdir(parents=True, exist_ok=True)
        for epoch in (1, 2, 3):
            yield Progress(epoch)
            if epoch == 2 and Path("hold").exists():
                (directory / "pid").write_text(str(os.getpid()))
                time.sleep(3600)  # one step that takes an hour
            yield Report(epoch=epoch, validation_loss=4.0 - epoch / 10)
"""


def test_the_first_waits_the_second_stops_at_once_and_the_same_command_goes_on(
    workspace: Workspace,
) -> None:
    workspace.write("silent.py", SILENT)
    hold = workspace.write("hold", "")
    run = ("run", "--trainer", "silent:train", "--trials", 1, "--json")
    with workspace.start(*run) as live:
        live.until("trial_reported", number=0, epoch=1)
        wait_for(lambda: any(workspace.path.glob("runs/*/0000/pid")))
        live.signal(signal.SIGINT, group=True)
        live.until("note", text="asked to stop: waiting for the running trial's next sign of life")
        assert live.process.poll() is None
        live.signal(signal.SIGINT, group=True)
        done = live.end(130)
    assert done.err.strip() == "sweep: stopped at once; the same command goes on"
    assert gone(int((workspace.folder(0) / "pid").read_text()))
    assert workspace.states()[0] == "RUNNING"
    hold.unlink()
    again = workspace.invoke(*run)
    reported = [event["report"]["epoch"] for event in again.events if "report" in event]
    assert reported == [2, 3]
