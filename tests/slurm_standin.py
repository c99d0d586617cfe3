"""Slurm's commands as a test needs them: a folder for the queue, and the jobs as processes here.

As real Slurm does: the batch script runs in a session of its own, `scancel` sends SIGTERM and later
SIGKILL to all of a job's processes, a warning goes to the script's own process, and a requeued job
waits again, under its number.
"""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from support import wait_for

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "srun")

SCRIPT = """\
    import os, re, signal, subprocess, sys, time
    from pathlib import Path
    import psutil

    QUEUE = Path(__file__).resolve().parent / "queue"
    KILL_WAIT_S = 3.0

    def set_state(job, state):
        part = job / "state.part"
        part.write_text(state)
        part.rename(job / "state")

    def state(job):
        return (job / "state").read_text()

    def end(job):
        root = psutil.Process(int((job / "pid").read_text()))
        processes = [root, *root.children(recursive=True)]
        for number, wait_s in ((signal.SIGTERM, KILL_WAIT_S), (signal.SIGKILL, 10.0)):
            for process in processes:
                try:
                    process.send_signal(number)
                except psutil.Error:
                    pass
            psutil.wait_procs(processes, wait_s)

    def sbatch(script):
        if (QUEUE / "refuses").exists():
            sys.exit("sbatch: error: " + (QUEUE / "refuses").read_text())
        number = str(100 + len(list(QUEUE.glob("[0-9]*"))))
        job = QUEUE / number
        job.mkdir()
        (job / "script").write_text(Path(script).read_text())
        (job / "environment").write_text(" ".join(os.environ))
        set_state(job, "PENDING")
        subprocess.Popen(
            [sys.executable, __file__, "run", number], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        print(f"Submitted batch job {number}")

    def run(number):
        job = QUEUE / number
        script = job / "script"
        script.chmod(0o755)
        said = dict(re.findall(r"^#SBATCH --(output|error)=(.*)$", script.read_text(), re.M))
        out, err = (said[name].strip("'").replace("%j", number) for name in ("output", "error"))
        while state(job) == "PENDING":
            if (QUEUE / "full").exists():
                time.sleep(0.05)
                continue
            environment = os.environ | {"SLURM_JOB_ID": number, "SLURM_PROCID": "0"}
            with open(out, "a") as stdout, open(err, "a") as stderr:
                process = subprocess.Popen(
                    [script], start_new_session=True, env=environment, stdout=stdout, stderr=stderr
                )
                (job / "pid").write_text(str(process.pid))
                set_state(job, "RUNNING")
                code = process.wait()
            if state(job) == "CANCELLED":
                return
            requeued = job / "requeued"
            if requeued.exists():
                requeued.rename(job / "was-requeued")
                set_state(job, "PENDING")
            elif (job / "oom").exists():
                set_state(job, "OUT_OF_MEMORY")
            else:
                set_state(job, "FAILED" if code else "COMPLETED")

    def squeue(*options):
        if (QUEUE / "silent").exists():
            sys.exit("slurm_load_jobs error: Unable to contact slurm controller")
        (wanted,) = (each.partition("=")[2] for each in options if each.startswith("--jobs="))
        jobs = [QUEUE / number for number in wanted.split(",") if (QUEUE / number).is_dir()]
        if not jobs:
            sys.exit("slurm_load_jobs error: Invalid job id specified")
        for job in jobs:
            print(f"{job.name}|{state(job)}")

    def scancel(number):
        job = QUEUE / number
        before = state(job)
        if before in ("PENDING", "RUNNING"):
            set_state(job, "CANCELLED")
        if before == "RUNNING":
            end(job)

    def scontrol(verb, number):
        assert verb == "requeue"
        (QUEUE / number / "requeued").touch()

    name, *arguments = [Path(sys.argv[0]).name, *sys.argv[1:]]
    if name.endswith(".py"):
        name, *arguments = arguments
    globals()[name](*arguments)
"""


class Slurm:
    """A cluster; its commands are on the PATH of this process and of those it starts.

    Args:
        folder: of its own.
        patch: puts them there.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.queue = folder / "queue"
        self.queue.mkdir(parents=True)
        code = folder / "standin.py"
        code.write_text(f"#!{sys.executable} -I\n{textwrap.dedent(SCRIPT)}")
        code.chmod(0o755)
        for name in COMMANDS:
            launcher = folder / name
            launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -I {code} {name} "$@"\n')
            launcher.chmod(0o755)
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    @property
    def jobs(self) -> list[str]:
        """The numbers of all jobs, the first first."""
        return sorted(path.name for path in self.queue.glob("[0-9]*"))

    def state(self, job: str) -> str:
        """A job's state, as `squeue` has it."""
        return (self.queue / job / "state").read_text()

    def script(self, job: str) -> str:
        """What was submitted."""
        return (self.queue / job / "script").read_text()

    def pid(self, job: str) -> int:
        """The process of a running job."""
        return int((self.queue / job / "pid").read_text())

    def wait(self, job: str, state: str) -> None:
        """Waits until a job is in a state."""
        wait_for(lambda: job in self.jobs and self.state(job) == state)

    def warn(self, job: str) -> None:
        """Sends Slurm's warning before a job's time is over."""
        os.kill(self.pid(job), signal.SIGUSR2)

    def cancel(self, job: str) -> None:
        """Cancels a job from outside."""
        subprocess.run(["scancel", job], check=True)

    def kill(self, job: str) -> None:
        """Kills a job's process."""
        os.kill(self.pid(job), signal.SIGKILL)

    def kill_for_memory(self, job: str) -> None:
        """Ends a job as the kernel does that finds no memory."""
        (self.queue / job / "oom").touch()
        self.kill(job)

    def end(self) -> None:
        """Ends whatever still runs."""
        (self.queue / "full").touch()
        roots = [self.pid(job) for job in self.jobs if (self.queue / job / "pid").exists()]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                runs_one = str(self.queue.parent / "standin.py") in process.cmdline()
                if runs_one or process.pid in roots:
                    for each in (process, *process.children(recursive=True)):
                        each.kill()
