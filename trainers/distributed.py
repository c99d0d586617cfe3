"""One training on several devices of this machine: a process each, which share every batch's rows.

This process is rank 0: it alone runs the loop, reports, obeys and writes checkpoints. The others
(`trainers.follower`) do the same work when they are told to, so that every decision is taken once.
Nothing of them outlives a training, nor this process.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import torch
from torch import distributed as dist

from trainers import process_tree
from trainers.config import TrainConfig
from trainers.errors import TrainerError
from trainers.faults import EndedError
from trainers.limits import killed_for_memory
from trainers.models import StackedModel
from trainers.report import Ending, Outcome
from trainers.seeds import seeded
from trainers.steps.loss import sequence_loss
from trainers.steps.ranks import ALONE, Ranks

READY = "ready"
LEAVE_S = 5.0
"""How long the others have to go by themselves, and how long an end may take to be seen."""

_OF_ONE_THREAD = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_SPINCOUNT")
"""Would bind the first thread of every process to the same core."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a follower is started with.

    Attributes:
        config, directory: of the training.
        device: the follower's own.
        rank, count: its place.
        meeting: a file by which the ranks find each other.
    """

    config: TrainConfig
    directory: Path
    device: torch.device
    rank: int
    count: int
    meeting: Path


def devices_named(name: str | torch.device) -> list[torch.device]:
    """The devices of "cuda:2,3", or of one alone; "cpu:0,1" is the CPU for two processes.

    Raises:
        TrainerError: it reads otherwise, or a GPU is named twice.
    """
    kind, _, numbers = str(name).partition(":")
    if "," not in numbers:
        return [torch.device(name)]
    each = numbers.split(",")
    if kind not in ("cpu", "cuda") or not all(map(str.isdecimal, each)) or len({*each}) < len(each):
        raise TrainerError(f"several devices read cuda:0,1 or cpu:0,1, each once: got '{name}'")
    return [torch.device("cpu" if kind == "cpu" else f"cuda:{int(number)}") for number in each]


@contextmanager
def ranks_on(devices: list[torch.device], config: TrainConfig, directory: Path) -> Iterator[Ranks]:
    """The ranks that train on these devices, of which this process is the first.

    Args:
        devices: one for each rank.
        config: of the training.
        directory: likewise.
    """
    if len(devices) == 1:
        yield ALONE
        return
    with Leader(devices, config, directory) as leader:
        yield leader


class Leader(Ranks):
    """Rank 0 and its followers. A context manager: none of them outlives it.

    Args:
        devices: one for each rank.
        config: of the training.
        directory: likewise.

    Raises:
        TrainerError: a batch has fewer rows than there are devices, or this process is already one
            of several that train together.
    """

    def __init__(self, devices: list[torch.device], config: TrainConfig, directory: Path) -> None:
        super().__init__(0, len(devices))
        if config.batch_size < self.count:
            raise TrainerError(
                f"batch_size {config.batch_size} is below the {self.count} devices of a trial, "
                "which share its rows: take a larger batch or fewer devices"
            )
        if dist.is_initialized():
            raise TrainerError(
                "this process trains together with others already (torch.distributed): give each "
                "training of several devices a process of its own"
            )
        self._devices, self._config, self._directory = devices, config, directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self._pipes: list[Connection] = []
        self._around = ExitStack()
        self._joined = self._broken = False

    def __enter__(self) -> Self:
        directory = self._directory
        process_tree.end(directory, grace_s=0)  # of an attempt whose worker and guard were killed
        self._killed_before = killed_for_memory()
        try:
            self._around.enter_context(process_tree.Guard(directory, grace_s=0))
            self._around.callback(process_tree.end, directory, grace_s=0, tick=self._bury)
            environment = {**os.environ, process_tree.DIRECTORY: str(directory.absolute())}
            use(self._devices[0])
            if self._devices[0].type == "cpu":
                environment = self._divided(environment)
            with _signals_blocked():
                for _ in self._devices[1:]:
                    self._start(environment)
        except BaseException:
            self._around.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        if self._joined:
            _leave(broken=self._broken or kind is not None)
        if kind is None and not self._broken:
            deadline = time.monotonic() + LEAVE_S
            with suppress(subprocess.TimeoutExpired):
                for process in self._processes:
                    process.wait(max(0.0, deadline - time.monotonic()))
        self._around.close()
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(LEAVE_S)

    def join(self, model: torch.nn.Module) -> None:
        """Waits until every follower has built its model, and gives it this one's values.

        Raises:
            TrainerError: the model does not train by parts as it does whole.
            EndedError: one of them could not.
        """
        check_divisible(model, self._config.model.name)
        meeting = Path(self._around.enter_context(TemporaryDirectory())) / "ranks"
        for rank, pipe in enumerate(self._pipes, 1):
            device = self._devices[rank]
            task = Task(self._config, self._directory, device, rank, self.count, meeting)
            with suppress(OSError):  # it is gone: that is seen below
                pipe.send(task)
        for pipe in self._pipes:
            try:
                said = pipe.recv()
            except (EOFError, OSError):
                raise self._why() from None
            if said != READY:
                raise EndedError(said)
        meet(meeting, self, self._devices[0])
        self._joined = True
        self.take_first_(values_of(model))

    def tell(self, *, scoring: bool) -> None:
        """Has the followers do the same work."""
        for pipe in self._pipes:
            try:
                pipe.send(scoring)
            except OSError:
                raise self._why() from None

    def failed(self, error: RuntimeError) -> Exception:
        """Why the others could not be reached: how one ended, else the error as it is."""
        deadline = time.monotonic() + LEAVE_S
        while time.monotonic() < deadline:
            if any(process.poll() is not None for process in self._processes):
                return self._why()
            time.sleep(process_tree.LOOK_S)
        return error

    def _why(self) -> EndedError:
        """How a follower ended: by its own word, else by a signal, else by its exit code.

        One that only lost touch with another says no word.
        """
        self._broken = True
        deadline = time.monotonic() + LEAVE_S
        codes = {}
        for rank, (process, pipe) in enumerate(zip(self._processes, self._pipes, strict=True), 1):
            with suppress(EOFError, OSError):
                while pipe.poll():
                    if isinstance(said := pipe.recv(), Ending):
                        return EndedError(said)
            with suppress(subprocess.TimeoutExpired):
                codes[rank] = process.wait(max(0.0, deadline - time.monotonic()))
        if not codes:
            return EndedError(Ending(Outcome.LOST, "lost: a process of the trial does not answer"))
        rank, code = min(codes.items(), key=lambda each: each[1])
        if code == -signal.SIGKILL and killed_for_memory() > self._killed_before:
            return EndedError(Ending(Outcome.KILLED))
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        what = f"lost: process {rank + 1} of the trial's {self.count} {how}"
        return EndedError(Ending(Outcome.LOST, what))

    def _divided(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The CPU's threads, shared out among the ranks."""
        threads = torch.get_num_threads()
        each = max(1, threads // self.count)
        self._around.callback(torch.set_num_threads, threads)
        torch.set_num_threads(each)
        left = {name: it for name, it in environment.items() if name not in _OF_ONE_THREAD}
        return left | {"OMP_NUM_THREADS": str(each)}

    def _bury(self) -> None:
        for process in self._processes:
            process.poll()

    def _start(self, environment: Mapping[str, str]) -> None:
        ours, theirs = Pipe()
        with theirs:
            process = subprocess.Popen(
                (sys.executable, "-P", "-m", "trainers.follower", str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=(theirs.fileno(),),
            )
        self._pipes.append(ours)
        self._processes.append(process)


def check_divisible(model: torch.nn.Module, name: str) -> None:
    """Refuses a model whose rows depend on each other, or on random numbers of its own.

    A stacked model takes its masks from the trainer, which draws the same ones for a part of a
    batch as for the whole; of any other model two forward passes have to be alike.

    Args:
        model: in training mode.
        name: what it is called.

    Raises:
        TrainerError: it draws random numbers in training, or counts what passes through it.
    """
    if isinstance(model, StackedModel):
        return
    device = next(model.parameters()).device
    before = [buffer.clone() for buffer in model.buffers()]
    tokens_BT, lengths_B = torch.ones(4, 8, dtype=torch.int64, device=device), torch.full((4,), 8)
    nats = []
    with torch.no_grad():
        for seed in (0, 1):
            with seeded(seed, device):
                nats.append(sequence_loss(model, tokens_BT, lengths_B).nats)
        counts = not all(map(torch.equal, before, model.buffers()))
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)
    if counts or not torch.equal(*nats):
        what = "keeps statistics of its rows" if counts else "draws its own dropout"
        raise TrainerError(
            f"model {name} {what} in training, so that several devices would not train it as one "
            "does: set its dropout to 0, or train each trial on one device"
        )


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started inside hear no signal that asks a sweep to stop: rank 0 is told to."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name) for name in names})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def use(device: torch.device) -> None:
    """Has CUDA, and so nccl, take this process's own device where none is named."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def meet(meeting: Path, ranks: Ranks, device: torch.device) -> None:
    """Joins the ranks' process group; tensors of the host go by gloo, those of CUDA by nccl.

    Args:
        meeting: a file by which they find each other: no port that others reach is opened.
        ranks: which of them this process is.
        device: its own.
    """
    name = "GLOO_SOCKET_IFNAME"
    # They are all on this machine: no other needs to reach them, and no name to be resolved.
    own = {name: "lo"} if sys.platform == "linux" and name not in os.environ else {}
    os.environ.update(own)
    hook = sys.excepthook  # it would put "[rank0]" before all that this process ever raises
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{meeting}",
            rank=ranks.rank,
            world_size=ranks.count,
        )
    finally:
        sys.excepthook = hook
        for each in own:
            del os.environ[each]


def _leave(*, broken: bool) -> None:
    # Of nccl the one waits for what the others will never do.
    abort = getattr(dist.distributed_c10d, "_abort_process_group", None)
    if broken and abort is not None:
        abort()
    else:
        dist.destroy_process_group()


def values_of(model: torch.nn.Module) -> list[torch.Tensor]:
    """What a model is: its parameters and buffers."""
    return [*model.parameters(), *model.buffers()]
