"""Where jobs run: Slurm, by its commands, or processes of this machine in their place."""

import contextlib
import io
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import psutil
import submitit
from submitit.helpers import clean_env

from sweep.errors import SweepError
from sweep.execution.executors._job import WARNING, TrialJob
from sweep.execution.protocol import Resources, TrialSpec
from sweep.execution.signals import signals_held

ANSWER_S = 30.0
WARNING_S = 60  # beside a program's own grace, from Slurm's warning to the end of a job's time
REQUEUES = 10**6
CONFIGURATION = "SLURM_CONF"
GONE = "GONE"


class Cluster(Protocol):
    """Where jobs run."""

    name: str
    every_s: float

    def submit(self, folder: Path, job: TrialJob, resources: Resources) -> str: ...

    def states(self, jobs: Collection[str]) -> Mapping[str, str]: ...

    def cancel(self, job: str) -> None: ...

    def close(self) -> None: ...


class Slurm:
    """Slurm itself, by its commands."""

    name = "slurm"
    every_s = 5.0  # between two looks at the queue: Slurm's administrators ask for few

    def __init__(self) -> None:
        for command in ("sbatch", "squeue", "scancel", "scontrol", "srun"):
            if shutil.which(command) is None:
                raise SweepError(
                    f"there is no Slurm here: no command {command}; slurm.cluster=local tries "
                    "the jobs out on this machine"
                )

    def submit(self, folder: Path, job: TrialJob, resources: Resources) -> str:
        """Submits a job; its number."""
        # The job is the batch script's own process, which Slurm then warns: `srun` is left to the
        # program, which may want it for its nodes.
        python = f"exec {shlex.quote(sys.executable)}"
        executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES, python=python)
        told, warning_s = resources.job, _warning_s(job.spec, resources)
        executor.update_parameters(
            job_name=f"sweep-{job.spec.number}",
            time=told["time"],
            nodes=told["nodes"],
            cpus_per_task=int(resources.cpus),
            gpus_per_node=int(resources.gpus) or None,
            mem=f"{int(told['memory'] * 1024)}M" if told["memory"] else None,
            partition=told["partition"] or None,
            account=told["account"] or None,
            use_srun=False,
            additional_parameters={
                "requeue": True,
                "signal": f"B:{WARNING}@{warning_s}",
                **told["extra"],
            },
        )
        configuration = {name: os.environ[name] for name in (CONFIGURATION,) if name in os.environ}
        with clean_env(), contextlib.redirect_stderr(io.StringIO()):  # what it raises says it too
            os.environ.update(configuration)  # the one variable of Slurm's that is no job's
            return str(executor.submit(job).job_id)

    def states(self, jobs: Collection[str]) -> Mapping[str, str]:
        """Each job's state; nothing where Slurm does not answer."""
        asked = ("squeue", "--noheader", "--states=all", "--format=%i|%T")
        done = _call(*asked, f"--jobs={','.join(jobs)}")
        if done.returncode and "Invalid job id" not in done.stderr:
            return {}
        rows = [line.strip().split("|") for line in done.stdout.splitlines() if "|" in line]
        return {**dict.fromkeys(jobs, GONE), **{row[0]: row[1] for row in rows}}

    def cancel(self, job: str) -> None:
        """Cancels a job, in the queue or on its nodes."""
        _call("scancel", job)

    def close(self) -> None:
        """Leaves the jobs of trials that have ended to end by themselves."""


class Local:
    """Processes on this machine in their place, by submitit's local executor."""

    name = "local"
    every_s = 0.2

    def __init__(self) -> None:
        self._jobs: dict[str, Any] = {}

    def submit(self, folder: Path, job: TrialJob, resources: Resources) -> str:
        """Starts a job; the number of its process."""
        executor = submitit.LocalExecutor(folder, max_num_timeout=REQUEUES)
        executor.update_parameters(
            timeout_min=resources.job.get("time", 60),
            gpus_per_node=int(resources.gpus) if job.device.startswith("cuda") else 0,
            signal_delay_s=_warning_s(job.spec, resources),
        )
        with signals_held():
            started = executor.submit(job)
        self._jobs[started.job_id] = started
        return str(started.job_id)

    def states(self, jobs: Collection[str]) -> Mapping[str, str]:
        """Each job's state: it runs, or is gone."""
        for job in self._jobs.values():
            job.done()  # collects one that has ended
        return {job: "RUNNING" if _processes(job) else GONE for job in jobs}

    def cancel(self, job: str) -> None:
        """Kills a job's processes."""
        processes = _processes(job)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, 10.0)

    def close(self) -> None:
        """Ends the jobs of trials that have ended, which may take a moment by themselves."""
        for number, job in self._jobs.items():
            self.cancel(number)
            job.done()
        self._jobs.clear()


def _warning_s(spec: TrialSpec, resources: Resources) -> int:
    """Seconds before the end of its time at which a job is warned; at most half of it."""
    half = int(resources.job.get("time", 60) * 60 / 2)
    return max(1, min(half, WARNING_S + int(spec.config.program.grace)))


def _processes(job: str) -> list[psutil.Process]:
    """Those of a local job: submitit's, which its command tells, and all that it started."""
    try:
        process = psutil.Process(int(job))
        if "submitit.local._local" not in process.cmdline():  # its number is another's by now
            return []
        return [process, *process.children(recursive=True)]
    except (psutil.Error, ValueError):
        return []


def _call(*command: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command of Slurm's; one that takes too long has failed."""
    try:
        # In a session of its own: Ctrl-C is for the sweep.
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWER_S,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", "no answer")
