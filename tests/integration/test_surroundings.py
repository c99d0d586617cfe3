"""Files, kernels, users and signals that a sweep may meet, and what it does all the same."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support import Workspace, gone, wait_for

pytestmark = pytest.mark.more

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
FOREIGN = ("queue", "datasets", "click", "optuna", "torch", "random", "trainers/__init__")
RUN = ("run", "--trials", 1, "--epochs", 1, "--json")

STEPS = """\
    import os, time
    from pathlib import Path
    from trainers.report import Ending, Report, Outcome, Progress

    def train(config, *, device, directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "pid").write_text(str(os.getpid()))
        for epoch in (1, 2, 3):
            while (directory.parents[2] / "hold").exists():
                if (yield Progress(epoch)) == "pause":
                    return Ending(Outcome.PAUSED)
                time.sleep(0.05)
            yield Report(epoch=epoch, validation_loss=4.0 - epoch / 10)
        return Ending(Outcome.COMPLETED)
"""

# Lets `pidfd_open`, 434 on every machine, fail for this process and all that it starts.
WITHOUT_PIDFD = """\
    import ctypes, os, struct, sys
    code = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 434,
                       6, 0, 0, 0x50000 | int(sys.argv[1]), 6, 0, 0, 0x7FFF0000)
    held = ctypes.create_string_buffer(code)
    program = ctypes.create_string_buffer(struct.pack("HL", 4, ctypes.addressof(held)))
    call = ctypes.CDLL(None, use_errno=True).prctl
    call.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    if call(38, 1, 0, 0, 0) or call(22, 2, ctypes.addressof(program), 0, 0):
        sys.exit(77)
    try:
        os.pidfd_open(os.getpid())
    except OSError as error:
        assert error.errno == int(sys.argv[1])
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def command(
    workspace: Workspace, *words: object, **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(word) for word in words],
        cwd=workspace.path,
        env={**workspace.environment, "PYTHONPATH": os.pathsep.join(sys.path[1:]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("way", ["script", "module"])
def test_no_file_of_the_working_folder_is_taken_for_an_installed_one(
    workspace: Workspace, way: str
) -> None:
    (workspace.path / "trainers").mkdir()
    for name in (*FOREIGN, *(["sweep"] if way == "script" else [])):
        workspace.write(f"{name}.py", f"open('ran', 'a').write('{name} ')\n")
    workspace.write("mine.py", "from trainers.train import train\n")
    code = "import sys; sys.path.pop(0); from sweep.cli import main; main()"
    how = ("-c", code) if way == "script" else ("-m", "sweep")
    done = command(workspace, sys.executable, *how, *RUN, "--trainer", "mine:train")
    assert done.returncode == 0, done.stderr
    assert not (workspace.path / "ran").exists()


@LINUX
@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="of these machines")
@pytest.mark.parametrize("number", [38, 1], ids=["ENOSYS", "EPERM"])
def test_workers_live_and_are_ended_without_pidfd_open(workspace: Workspace, number: int) -> None:
    workspace.write("steps.py", STEPS)
    hold = workspace.write("hold", "")
    launcher = textwrap.dedent(WITHOUT_PIDFD)
    run = ["-m", "sweep", *map(str, RUN), "--trainer", "steps:train"]
    live = subprocess.Popen(
        [sys.executable, "-c", launcher, str(number), *run],
        cwd=workspace.path,
        env=workspace.environment,
        stdout=subprocess.DEVNULL,
    )
    wait_for(lambda: any(workspace.path.glob("runs/*/0000/pid")) or live.poll() is not None)
    if live.returncode == 77:
        pytest.skip("this system lets nobody forbid a call")
    worker = int((workspace.folder(0) / "pid").read_text())
    os.kill(worker, signal.SIGSTOP)  # it cannot see by itself that its orchestrator is gone
    live.kill()
    live.wait()
    assert gone(worker)
    hold.unlink()
    assert workspace.sweep(*RUN, "--trainer", "steps:train").code == 0


@LINUX
@pytest.mark.skipif(
    os.name == "nt" or os.getuid() != 0 or shutil.which("setpriv") is None, reason="needs root"
)
def test_a_user_that_the_system_does_not_know_has_a_home(workspace: Workspace) -> None:
    workspace.path.chmod(0o777)
    able = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")
    user = ("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", *able)
    code = (
        "import getpass; from pathlib import Path; from sweep.cli import main\n"
        "try: main(['init', 'made.toml'])\n"
        "finally: print(Path.home(), getpass.getuser())"
    )
    path = f"PYTHONPATH={os.pathsep.join(sys.path[1:])}"
    done = command(
        workspace,
        "env",
        "-i",
        path,
        f"PATH={os.environ['PATH']}",
        *user,
        sys.executable,
        "-c",
        code,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{workspace.path} 12345"


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2],
    ids=lambda each: each.name,
)
def test_a_warning_to_every_process_twice_is_one_pause(
    workspace: Workspace, number: signal.Signals
) -> None:
    workspace.write("steps.py", STEPS)
    workspace.write("hold", "")
    with workspace.start("run", "--trainer", "steps:train", "--trials", 1, "--json") as live:
        live.until("trial_progressed", number=0)
        worker = int((workspace.folder(0) / "pid").read_text())
        for _ in range(2):
            os.killpg(worker, number)
            live.signal(number, group=True)
        done = live.end(3)
    assert not [event for event in done.events if event["event"] == "warning"]
    assert workspace.states()[0] == "RUNNING"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 3), (signal.SIGINT, 130)])
def test_a_signal_while_torch_loads_is_one_line(
    workspace: Workspace, number: signal.Signals, code: int
) -> None:
    with workspace.start(*RUN) as live:
        maps = Path(f"/proc/{live.process.pid}/maps")
        wait_for(lambda: "libtorch" in maps.read_text())
        live.signal(number, group=True)
        done = live.end(code)
    assert done.err.startswith("sweep: stopped ")
    assert done.err.count("\n") == 1


def test_a_signal_while_a_step_is_measured_is_a_pause(workspace: Workspace) -> None:
    workspace.write(
        "sweep.toml", (workspace.path / "sweep.toml").read_text().replace("cohort = 1", "")
    )
    with workspace.start("run", "--trials", 6, "--json") as live:
        live.until("study_started")
        wait_for(lambda: len(children(live.process.pid)) > 1)
        live.signal(signal.SIGTERM, group=True)
        done = live.end(3)
    assert not [event for event in done.events if event["event"] == "warning"]


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
