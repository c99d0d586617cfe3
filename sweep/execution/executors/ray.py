"""Trials on a Ray cluster: each in an actor of its own, on whatever node has room.

The study's folder must be on storage that every node sees under the same path, and this package be
installed on each: a trial whose node is lost goes on from its checkpoint on another one.
"""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

try:
    import ray
except ImportError as error:
    from sweep.errors import SweepError

    raise SweepError(
        "the ray executor needs Ray, which is not installed: pip install 'lr-sweep[ray]'"
    ) from error

from sweep.errors import SweepError
from sweep.execution.protocol import Ended, Event, Reported, Resources, TrialSpec
from sweep.execution.worker import consume, log_to
from trainers.report import Outcome, Verdict

ANSWER_S = 10.0


class _Actor:
    """A trial on its node: driven to its next event by each call."""

    def __init__(self, spec: TrialSpec, device: str, threads: int, folder: str) -> None:
        os.chdir(folder)  # the user's own modules and relative paths mean what they mean there
        torch.set_num_threads(threads)
        log_to(spec.directory)
        self._trial: Generator[Event, Verdict | None, None] = consume(spec, device)

    def next(self, verdict: Verdict | None) -> Event:
        """Answers what the trial said last, and waits for what it says then."""
        return self._trial.send(verdict)


class _Running:
    """What the executor knows of a trial."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.said = actor.next.remote(None)  # a generator's first step takes no verdict
        self.verdict: Verdict | None = None
        self.waits = False

    def go_on(self) -> None:
        """Passes the verdict on."""
        self.said = self.actor.next.remote(self.verdict)
        self.verdict, self.waits = None, False


class RayExecutor:
    """One trial a GPU, or a share of one; on a cluster without, one for each `cpus`.

    Args:
        resources: the cluster's address, the device, and what a trial takes.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._cuda = resources.devices[0].startswith("cuda")
        self._trials: dict[int, _Running] = {}
        self._mine = False
        self._quiet = contextlib.ExitStack()

    @property
    def capacity(self) -> int:
        """How many trials there is room for now: nodes may come and go."""
        takes = {"CPU": self._resources.cpus}
        if self._cuda:
            takes["GPU"] = self._resources.gpus
        there = ray.cluster_resources()
        return int(min(there.get(name, 0.0) / each + 1e-9 for name, each in takes.items()))

    def submit(self, spec: TrialSpec) -> None:
        """Starts a trial in a new actor; the cluster finds the node."""
        if len(self._trials) >= max(1, self.capacity):
            raise RuntimeError(f"{len(self._trials)} trials still run, which is the capacity")
        options = ray.remote(_Actor).options(
            num_cpus=self._resources.cpus, num_gpus=self._resources.gpus if self._cuda else 0
        )
        threads = max(1, int(self._resources.cpus))
        # An actor's GPUs are all of one node: several need no placement group.
        self._trials[spec.number] = _Running(
            options.remote(spec, self._resources.devices[0], threads, str(Path.cwd()))
        )

    def reply(self, number: int, verdict: Verdict) -> None:
        """Passes a verdict on with the trial's next step."""
        if trial := self._trials.get(number):
            trial.verdict = verdict
            if trial.waits:
                trial.go_on()

    def sharing_worker(self, number: int) -> frozenset[int]:
        """The trial alone: it shares its actor with none."""
        return frozenset({number} & self._trials.keys())

    def kill(self, number: int) -> None:
        """Ends the trial's actor; `events` then says that it was lost."""
        if trial := self._trials.get(number):
            if trial.waits:  # so that there is something to fail
                trial.go_on()
            ray.kill(trial.actor)

    def events(self, timeout_s: float) -> list[Event]:
        """Waits for what any trial says, or for the loss of its actor."""
        asked = {trial.said: number for number, trial in self._trials.items() if not trial.waits}
        if not asked:
            return []
        ready, _ = ray.wait(list(asked), num_returns=1, timeout=timeout_s)
        if ready:  # and whatever else has arrived meanwhile
            ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=0)
        return [self._take(asked[said], said) for said in ready]

    def _take(self, number: int, said: Any) -> Event:
        trial = self._trials[number]
        try:
            event: Event = ray.get(said)
        except ray.exceptions.RayError as error:
            event = Ended(number, *_fault(error))
        if isinstance(event, Ended):
            ray.kill(trial.actor)
            del self._trials[number]
        elif isinstance(event, Reported):
            trial.waits = True
        else:
            trial.go_on()
        return event

    def __enter__(self) -> Self:
        if not ray.is_initialized():
            self._connect()
        if not self.capacity:
            self.__exit__(None, None, None)
            raise SweepError(
                f"the Ray cluster has no room for a trial: it needs {self._needs()}, and there "
                f"are {ray_words(ray.cluster_resources() if ray.is_initialized() else {})}"
            )
        return self

    def _connect(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        host, colon, port = self._resources.address.rpartition(":")
        try:
            if colon and port.isdecimal():  # Ray itself would try for five minutes
                socket.create_connection((host, int(port)), ANSWER_S).close()
            # Ray lets its processes look first into the folder that it is started in.
            with contextlib.chdir("/"):
                ray.init(
                    address=self._resources.address, log_to_driver=False, logging_level="ERROR"
                )
        except (OSError, ValueError) as error:
            raise SweepError(
                f"no Ray cluster at '{self._resources.address}': start one with `ray start "
                "--head`, or name its address with --ray-address; 'local' starts one here"
            ) from error
        self._mine = True
        # What Ray tells the driver, of lost nodes too, is no part of the view's output.
        self._quiet.enter_context(contextlib.redirect_stdout(sys.stderr))
        signal.signal(signal.SIGTERM, before)  # Ray takes it for itself

    def _needs(self) -> str:
        gpus = f" and {self._resources.gpus:g} GPU" if self._cuda else ""
        return f"{self._resources.cpus:g} CPU{gpus}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for trial in self._trials.values():
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(trial.actor)
        self._trials.clear()
        if self._mine:
            ray.shutdown()
            self._quiet.close()
            self._mine = False


def ray_words(resources: dict[str, float]) -> str:
    """The CPUs and GPUs of a cluster."""
    return f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"


def _fault(error: Exception) -> tuple[Outcome, str]:
    """How a trial ended that could not say so itself."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return Outcome.KILLED, "ran out of memory: Ray ended its actor to free some"
    if isinstance(error, ray.exceptions.RayTaskError):
        return Outcome.FAILED, f"failed: {type(error.cause).__name__}: {_line(error.cause)}"
    return Outcome.LOST, f"lost: its Ray actor died ({_line(error)})"


def _line(error: object) -> str:
    return (str(error).splitlines() or ["no message"])[0]


def create(resources: Resources) -> RayExecutor:
    """Makes the executor."""
    return RayExecutor(resources)
