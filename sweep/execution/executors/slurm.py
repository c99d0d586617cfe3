"""Trials as jobs of Slurm, submitted by submitit: each waits in the queue, and trains on its nodes.

The study's folder must be on storage that every node sees under the same path, and this package be
installed there. A job whose time is over is requeued, and its trial goes on.
"""

import contextlib
import logging
import time
import uuid
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

try:
    import submitit  # noqa: F401
except ImportError as error:
    from sweep.errors import SweepError

    raise SweepError(
        "the slurm executor needs submitit, which is not installed: pip install 'lr-sweep[slurm]'"
    ) from error

from submitit.core.utils import FailedJobError, FailedSubmissionError

from sweep.errors import SweepError
from sweep.execution.executors._clusters import GONE, Cluster, Local, Slurm
from sweep.execution.executors._job import (
    EVENTS,
    Submission,
    TrialJob,
    current,
    heard,
)
from sweep.execution.paths import installed_first
from sweep.execution.protocol import Ended, Event, Progressed, Reported, Resources, TrialSpec
from trainers.naming import OUTPUT_FILE
from trainers.program.reports import Tail
from trainers.report import Outcome, Progress, Verdict

log = logging.getLogger(__name__)

LOOK_S = 0.05
BEAT_S = 20.0
SETTLE_S = 3.0  # that a shared file system may take to show a job's last words
QUEUED = frozenset(
    """
    PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT SUSPENDED
    STOPPED
    """.split()  # noqa: SIM905
)
ALIVE = QUEUED | {"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "RESIZING"}
UNKNOWN = ""
LAST_LINES, SHOWN = 3, 400


class _Trial:
    """What the executor knows of a trial."""

    def __init__(self, spec: TrialSpec) -> None:
        self.spec = spec
        self.submission: Submission | None = None
        self.job = self.earlier = ""
        self.state = UNKNOWN
        self.progress = Progress()
        self.waits = self.pauses = self.killed = False
        self.gone_at = 0.0

    def began(self, submission: Submission, job: str) -> None:
        """Its job was submitted."""
        self.submission, self.job, self.state = submission, job, UNKNOWN
        self._said = Tail(submission.folder / EVENTS)

    def hear(self) -> list[Event]:
        """What it has said since; an end is the last."""
        events: list[Event] = []
        if self.submission is not None:
            for event in heard(self.spec.number, self._said.lines()):
                events.append(event)
                if isinstance(event, Progressed):
                    self.progress = event.progress
                self.waits = isinstance(event, Reported)
                if isinstance(event, Ended):
                    break
        return events


class SlurmExecutor:
    """One job a trial.

    Args:
        resources: how many jobs at once, and what each takes.

    Raises:
        SweepError: there is no Slurm here.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.capacity = resources.jobs
        self._cluster: Cluster = Local() if resources.address == "local" else Slurm()
        self._trials: dict[int, _Trial] = {}
        self._accepted = False
        self._looked_at = self._beat_at = float("-inf")
        # It writes on stdout by itself, which is the view's.
        logging.getLogger("submitit").handlers.clear()

    def submit(self, spec: TrialSpec) -> None:
        """Submits a trial's job; where one of an earlier run is still alive, once that is gone.

        Raises:
            SweepError: Slurm refuses the first job of all.
        """
        if len(self._trials) >= self.capacity:
            raise RuntimeError(f"{len(self._trials)} trials still run, which is the capacity")
        trial = self._trials[spec.number] = _Trial(spec)
        before = current(spec.directory)
        if before.get("cluster") == self._cluster.name:
            trial.earlier = str(before.get("job", ""))
        if trial.earlier and self._cluster.states([trial.earlier]).get(trial.earlier) != GONE:
            self._cluster.cancel(trial.earlier)
        self._looked_at = float("-inf")
        if not trial.earlier:
            self._start(trial)

    def _start(self, trial: _Trial) -> None:
        spec = trial.spec
        name = f"{spec.attempt}-{uuid.uuid4().hex[:8]}"
        submission = Submission(spec.directory, self._cluster.name, name)
        submission.make_current()
        job = TrialJob(
            spec,
            self._resources.devices[0],
            max(1, int(self._resources.cpus)),
            str(Path.cwd()),
            submission,
        )
        try:
            with installed_first():
                number = self._cluster.submit(submission.folder, job, self._resources)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            message = f"Slurm refuses a job: {_shortened(str(error).splitlines())}"
            if not self._accepted:
                raise SweepError(message) from error
            log.warning("trial %d: %s; it is tried again", spec.number, message)
            return
        self._accepted = True
        submission.make_current(number)
        trial.began(submission, number)

    def reply(self, number: int, verdict: Verdict) -> None:
        """Passes a verdict on; a trial whose job still waits in the queue pauses there."""
        trial = self._trials.get(number)
        if trial is None:
            return
        if verdict is Verdict.PAUSE:
            trial.pauses, self._looked_at = True, float("-inf")
        if trial.submission is not None and (trial.waits or verdict is Verdict.PAUSE):
            trial.waits = False
            trial.submission.answer(verdict)

    def sharing_worker(self, number: int) -> frozenset[int]:
        """The trial alone: it shares its job with none."""
        return frozenset({number} & self._trials.keys())

    def kill(self, number: int) -> None:
        """Cancels the trial's job; `events` then says that it was lost."""
        if trial := self._trials.get(number):
            trial.killed, self._looked_at = True, float("-inf")
            if trial.job:
                self._cluster.cancel(trial.job)

    def events(self, timeout_s: float) -> list[Event]:
        """Waits for what any trial says, or for the end of its job."""
        deadline = time.monotonic() + timeout_s
        while self._trials:
            self._beat()
            looks = time.monotonic() - self._looked_at >= self._cluster.every_s
            if looks:
                self._look()
            events = [
                event for trial in list(self._trials.values()) for event in self._said(trial, looks)
            ]
            for event in events:
                if isinstance(event, Ended):
                    del self._trials[event.number]
            if events or time.monotonic() >= deadline:
                return events
            time.sleep(LOOK_S)
        return []

    def _beat(self) -> None:
        if time.monotonic() - self._beat_at < BEAT_S:
            return
        self._beat_at = time.monotonic()
        for trial in self._trials.values():
            if trial.submission is not None:
                with contextlib.suppress(OSError):
                    trial.submission.beat()

    def _look(self) -> None:
        """Asks for the jobs' states; submits those whose earlier job is gone."""
        self._looked_at = time.monotonic()
        trials = self._trials.values()
        jobs = {trial.job or trial.earlier for trial in trials} - {""}
        states = self._cluster.states(jobs) if jobs else {}
        for trial in trials:
            if trial.job:
                trial.state = states.get(trial.job, trial.state)
            elif trial.pauses or trial.killed:
                continue
            elif not trial.earlier or states.get(trial.earlier, "RUNNING") not in ALIVE:
                self._start(trial)

    def _said(self, trial: _Trial, looked: bool) -> list[Event]:
        """What a trial said, or is to be said of it."""
        number = trial.spec.number
        events = trial.hear()
        if events:
            trial.gone_at = 0.0
            return events
        if not trial.job or (trial.state in QUEUED and trial.pauses):
            return self._withdrawn(trial, looked)
        if trial.state in QUEUED and looked:
            # To wait in the queue is to live.
            return [Progressed(number, replace(trial.progress, alive=True), queued=True)]
        if trial.state in ALIVE or trial.state == UNKNOWN:
            trial.gone_at = 0.0
            return []
        trial.gone_at = trial.gone_at or time.monotonic()
        if not trial.killed and time.monotonic() - trial.gone_at < SETTLE_S:
            return []
        return [Ended(number, *_fault(trial))]

    def _withdrawn(self, trial: _Trial, looked: bool) -> list[Event]:
        """A trial whose job never began, or waits once more."""
        number = trial.spec.number
        if trial.killed:
            return [Ended(number, Outcome.LOST, "lost: it was stopped before its job began")]
        if trial.pauses:
            if trial.job:
                self._cluster.cancel(trial.job)
            return [Ended(number, Outcome.PAUSED, Outcome.PAUSED.sentence)]
        return [Progressed(number, trial.progress)] if looked else []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for trial in self._trials.values():
            if trial.job:
                self._cluster.cancel(trial.job)
        self._trials.clear()
        self._cluster.close()


def _fault(trial: _Trial) -> tuple[Outcome, str]:
    """How a trial ended that could not say so itself."""
    if trial.state == "OUT_OF_MEMORY":
        return Outcome.KILLED, f"ran out of memory: Slurm ended its job {trial.job}"
    assert trial.submission is not None
    how = "is gone" if trial.state == GONE else f"is {trial.state}"
    errors = trial.submission.folder / f"{trial.job}_0_log.err"
    for path in (errors, trial.spec.directory / OUTPUT_FILE):
        lines = [line.strip() for line in Tail(path).lines(whole=True)]
        if lines:
            return Outcome.LOST, f"lost: its job {trial.job} {how}: {_shortened(lines)}"
    return Outcome.LOST, f"lost: its job {trial.job} {how}"


def _shortened(lines: list[str]) -> str:
    said = " | ".join(line for line in lines[-LAST_LINES:] if line)
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}..."


def create(resources: Resources) -> SlurmExecutor:
    """Makes the executor."""
    return SlurmExecutor(resources)
