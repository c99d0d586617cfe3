"""What the orchestrator and an executor say to each other, keyed by trial number."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from trainers.config import TrainConfig
from trainers.report import Outcome, Progress, Report, Verdict

SHARED_TRAINER = "trainers.train:train"
"""The trainer of this tool; a user's own is named in the same way."""


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """One trial to train.

    Attributes:
        number: Optuna's trial number.
        config: the whole training run.
        directory: where its checkpoints go; the study's corpus lies in the parent.
        attempt: 1, and one more for each time its worker was lost or ran out of memory.
        only_trial: nothing else may run beside it.
        trainer: "package.module:function" of a generator with `trainers.train.train`'s signature.
        trunks: what the shared trainer may begin with, the longest first.
    """

    number: int
    config: TrainConfig
    directory: Path
    attempt: int = 1
    only_trial: bool = False
    trainer: str = SHARED_TRAINER
    trunks: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Progressed:
    """A trial lives; where it is queued, it waits for a place to run, and its time does not."""

    number: int
    progress: Progress
    queued: bool = False


@dataclass(frozen=True, slots=True)
class Reported:
    """A trial said what it has come to, and waits for a verdict."""

    number: int
    report: Report


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial ended; its executor has room again."""

    number: int
    outcome: Outcome
    message: str


Event = Progressed | Reported | Ended

GO = "go"
"""To a worker that said reports or endings: whatever follows from them has been sent."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What an executor may use.

    Attributes:
        devices: one worker each: "cuda:0", "cuda:1"; "cpu" once for each worker there is to be;
            "cuda:0,1" for trials of two GPUs. On a cluster one: as which a trial finds its own.
        cohort: trials that a worker trains side by side.
        address: of a Ray cluster; "auto" finds it, "local" starts one. "local" is for Slurm jobs
            that are processes on this machine.
        gpus, cpus: that a trial takes on a cluster; 0.5 GPUs: two trials share one.
        jobs: trials at once, where a cluster does not say how many it has room for.
        job: what a batch system is told of each: "time", "partition".
    """

    devices: tuple[str, ...] = ("cpu",)
    cohort: int = 1
    address: str = "auto"
    gpus: float = 1.0
    cpus: float = 1.0
    jobs: int = 1
    job: Mapping[str, Any] = field(default_factory=dict)


class Executor(Protocol):
    """Runs trials somewhere. A context manager: leaving it ends every worker that it started.

    Every submitted trial ends in exactly one `Ended`, whatever happens to its worker. A `Reported`
    trial waits until `reply`; a `Verdict.PAUSE` may be sent at any time and takes effect at the
    trial's next sign of life. Trials that run together also wait, after a report or an end, for
    the next call of `events`: what is submitted before it joins them there.
    """

    @property
    def capacity(self) -> int:
        """How many trials may run at once."""
        ...

    def submit(self, spec: TrialSpec) -> None:
        """Starts a trial.

        Raises:
            RuntimeError: as many trials as the capacity run already.
        """
        ...

    def reply(self, number: int, verdict: Verdict) -> None:
        """Answers a report, or asks a running trial to pause. Unknown numbers are ignored."""
        ...

    def sharing_worker(self, number: int) -> frozenset[int]:
        """The trials that share this one's worker, itself included; none where it does not run."""
        ...

    def kill(self, number: int) -> None:
        """Ends a trial's worker with all that it started; whoever shares it is LOST."""
        ...

    def events(self, timeout_s: float) -> list[Event]:
        """Waits up to `timeout_s` seconds for events; an empty list where there was none."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
