"""A trial as a batch job: what runs on the node, and how it and the orchestrator speak.

The nodes of a cluster share a file system and often nothing else. So each submission has a folder
of its own in the trial's, with two files of JSON lines to which one side appends each: what the
trial says, and the verdicts. `current.json` above it names the submission that is to train.
"""

import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from submitit.core.utils import DelayedSubmission
from submitit.slurm.slurm import SlurmJobEnvironment

from sweep.execution.paths import as_the_user_set_it
from sweep.execution.protocol import Ended, Event, Progressed, Reported, TrialSpec
from sweep.execution.signals import leave_to_the_command
from sweep.execution.worker import consume, log_to
from trainers.program.reports import Tail
from trainers.report import Outcome, Progress, Report, Verdict

FOLDER, CURRENT = "slurm", "current.json"
EVENTS, VERDICTS = "events.jsonl", "verdicts.jsonl"

WARNING = SlurmJobEnvironment.USR_SIG
"""What submitit has Slurm send before a job's time is over: "USR2"."""

ANSWER_LOOK_S = 0.05
WANTED_LOOK_S = 2.0
ORPHANED_S = 900.0
"""A job that the orchestrator has given no sign of life for so long ends itself."""


@dataclass(frozen=True, slots=True)
class Submission:
    """The folder of one submission, and its mark as the one that is to train.

    Attributes:
        trial: the trial's folder.
        cluster: where its job runs: "slurm", "local".
        name: the submission's.
    """

    trial: Path
    cluster: str
    name: str

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.trial / FOLDER / self.name

    def make_current(self, job: str = "") -> None:
        """Has every other submission's job end itself, should it still run.

        Args:
            job: its job's number, once there is one.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / VERDICTS).touch()
        path = self.folder / CURRENT
        fields = {"submission": self.name, "cluster": self.cluster, "job": job}
        path.write_text(json.dumps(fields), encoding="utf-8")
        shutil.move(path, self.trial / FOLDER / CURRENT)

    def is_current(self) -> bool:
        """Whether this one is to train; one whose folder was deleted is not."""
        return current(self.trial).get("submission") == self.name

    def say(self, event: Event) -> None:
        """Appends what the trial says."""
        _append(self.folder / EVENTS, _fields(event))

    def answer(self, verdict: Verdict) -> None:
        """Appends a verdict."""
        _append(self.folder / VERDICTS, {"verdict": verdict})

    def beat(self) -> None:
        """Gives the job a sign of life."""
        os.utime(self.folder / VERDICTS)


def current(trial: Path) -> dict[str, Any]:
    """What was last submitted for a trial: its submission's name, cluster and job; {}: nothing."""
    try:
        found = json.loads((trial / FOLDER / CURRENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def heard(number: int, lines: Iterator[str]) -> Iterator[Event]:
    """What a trial said; a line that is none, as of a disk that was full, is left out."""
    for line in lines:
        try:
            said = json.loads(line)
            kind, fields = said.pop("event"), said
            if kind == "progress":
                yield Progressed(number, Progress(**fields))
            elif kind == "report":
                yield Reported(number, Report(**fields))
            elif kind == "end":
                yield Ended(number, Outcome(fields["outcome"]), str(fields["message"]))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue


def _fields(event: Event) -> dict[str, Any]:
    if isinstance(event, Progressed):
        return {"event": "progress", **asdict(event.progress)}
    if isinstance(event, Reported):
        return {"event": "report", **asdict(event.report)}
    return {"event": "end", "outcome": event.outcome, "message": event.message}


def _append(path: Path, fields: dict[str, Any]) -> None:
    # Closed each time: only then is another node sure to see it.
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")


@dataclass(frozen=True)
class TrialJob:
    """What submitit calls on the node.

    At Slurm's warning before the time is over the trial pauses, and submitit requeues the job.

    Attributes:
        spec: the trial.
        device: as it is seen on the node.
        threads: of the CPU.
        working_folder: where relative paths and the user's own modules mean what they mean.
        submission: its own.
    """

    spec: TrialSpec
    device: str
    threads: int
    working_folder: str
    submission: Submission

    def __call__(self) -> None:
        """Trains the trial to its end, to the end of the job's time, or until it is not wanted."""
        as_the_user_set_it()
        warning = signal.Signals[f"SIG{WARNING}"]
        requeue, held = signal.getsignal(warning), signal.sigpending()
        leave_to_the_command()
        signals = _Signals(warning)
        signals.warned = warning in held
        os.chdir(self.working_folder)
        torch.set_num_threads(self.threads)
        log_to(self.spec.directory)
        logging.getLogger("submitit").setLevel(logging.WARNING)  # the log is the trial's
        ended = _Talk(self.submission, self.spec.number, signals).hold(
            consume(self.spec, self.device)
        )
        if ended is not None:
            self.submission.say(ended)
        elif signals.warned and not signals.terminated:
            if self._can_go_on() and callable(requeue):
                requeue(warning, None)
            message = (
                "lost: the time of its job was over, and the program cannot go on where it was: "
                "program.resume says how, or slurm.time gives it more"
            )
            self.submission.say(Ended(self.spec.number, Outcome.LOST, message))

    def checkpoint(self) -> DelayedSubmission:
        """What the requeued job calls: the same."""
        return DelayedSubmission(self)

    def _can_go_on(self) -> bool:
        program = self.spec.config.program
        return bool(program.resume or not program.command)


class _Signals:
    """What Slurm has told the job."""

    def __init__(self, warning: signal.Signals) -> None:
        self.warned = self.terminated = False
        signal.signal(warning, self._warn)
        signal.signal(signal.SIGTERM, self._terminate)

    def __bool__(self) -> bool:
        return self.warned or self.terminated

    def _warn(self, number: int, frame: FrameType | None) -> None:
        self.warned = True

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True


class _Talk:
    """The talk about a trial. A requeued job takes it up: what was said and answered stands."""

    def __init__(self, submission: Submission, number: int, signals: _Signals) -> None:
        self._submission, self._number, self._signals = submission, number, signals
        self._verdicts = Tail(submission.folder / VERDICTS)
        self._answers = 0
        self._final: Verdict | None = None
        said = Tail(submission.folder / EVENTS).lines()
        reports = [each for each in heard(number, said) if isinstance(each, Reported)]
        self._reports = len(reports)
        self._step = reports[-1].report.step if reports else -1
        self._looked = self._beat_at = time.monotonic()
        self._beat, self._is_wanted = 0, True

    def hold(self, trial: Any) -> Ended | None:
        """Drives a trial.

        Args:
            trial: what `consume` returns.

        Returns:
            Its end; None where that is the job's alone and the trial is to go on elsewhere.
        """
        verdict: Verdict | None = None
        leaves = False
        while True:
            event: Event = trial.send(verdict)
            if isinstance(event, Ended):
                # Slurm signals the program too: how that ended then says nothing.
                unsaid = (Outcome.PAUSED, Outcome.LOST, Outcome.FAILED)
                return None if leaves and event.outcome in unsaid else event
            if isinstance(event, Reported):
                self._report(event)
            else:
                self._submission.say(event)
            self._read()
            leaves = leaves or bool(self._signals) or not self._wanted()
            answered = Verdict.CONTINUE if isinstance(event, Reported) else None
            verdict = Verdict.PAUSE if leaves else self._final or answered

    def _report(self, event: Reported) -> None:
        """Says a report, unless that was done before, and waits until all are answered."""
        if event.report.step > self._step:
            self._step = event.report.step
            self._reports += 1
            self._submission.say(event)
        self._read()
        while not (self._final or self._answers >= self._reports):
            if self._signals or not self._wanted():
                return
            time.sleep(ANSWER_LOOK_S)
            self._read()

    def _read(self) -> None:
        for line in self._verdicts.lines():
            verdict = Verdict(json.loads(line)["verdict"])
            if verdict is Verdict.CONTINUE:
                self._answers += 1
            else:
                self._final = verdict

    def _wanted(self) -> bool:
        """Whether this submission is still to train, and the orchestrator lives."""
        now = time.monotonic()
        if now - self._looked < WANTED_LOOK_S:
            return self._is_wanted
        self._looked = now
        try:
            beat = (self._submission.folder / VERDICTS).stat().st_mtime_ns
        except OSError:
            beat = self._beat
        if beat != self._beat:
            self._beat, self._beat_at = beat, now
        self._is_wanted = self._submission.is_current() and now - self._beat_at < ORPHANED_S
        return self._is_wanted
