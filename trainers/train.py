"""THE loop: one generator that the worker, `sweep train`, the tests and Ray all consume.

`course` is the loop; what costs time it asks its driver for (`Work`), so that a cohort's driver can
do the same work of several members at once. `train` is the driver of one alone.
"""

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainers.batches import Batch, Batches, batches_of
from trainers.config import TrainConfig
from trainers.data import load_corpus
from trainers.errors import TrainerError
from trainers.evaluate import Evaluation, evaluate_all
from trainers.member import Member
from trainers.report import Ending, Outcome, Progress, Report, Verdict
from trainers.schedule import check_warmup
from trainers.steps.cohort import step_together
from trainers.steps.memory import peak_memory_bytes, reset_peak_memory

PROGRESS_INTERVAL_S = 0.5

Said = Progress | Report
Training = Generator[Said, Verdict | None, Ending]


@dataclass(frozen=True, slots=True)
class Step:
    """Asks for an optimizer step; `first` in the epoch."""

    member: Member
    batch: Batch
    first: bool


@dataclass(frozen=True, slots=True)
class Scoring:
    """Asks for `evaluate(member.model, batches)`."""

    member: Member
    batches: Batches


Work = Step | Scoring
# Work is answered with its result, what was said as `Training` is.
Course = Generator[Said | Work, Any, Ending]


def train(config: TrainConfig, *, device: str | torch.device, directory: Path) -> Training:
    """Trains one model, epoch by epoch; goes on from the directory's checkpoint if it has one.

    Stored reports are yielded again first. Each report's checkpoint is on disk before the report
    is yielded, so a crash loses no epoch. The consumer answers a report with a verdict; PAUSE is
    also taken at a Progress, and the interrupted epoch is then repeated bit for bit on resume.

    Args:
        config: the whole run.
        device: "cpu", "cuda", "cuda:1".
        directory: for checkpoints; the corpus is looked for here and in the parent.

    Yields:
        Progress at most twice a second, and before the first step where that is computed in
        parts; a Report after every epoch.

    Returns:
        How it ended.

    Raises:
        TrainerError: data, model or checkpoint are not usable; the message says why.
    """
    run, answer = course(config, device=device, directory=directory), None
    while True:
        try:
            said = run.send(answer)
        except StopIteration as stop:
            ending: Ending = stop.value
            return ending
        answer = perform([said])[0] if isinstance(said, Work) else (yield said)


def perform(work: Sequence[Work]) -> list[Any]:
    """Does what members ask for, all of one kind, together.

    Returns:
        Each one's answer.
    """
    members = [asked.member for asked in work]
    if isinstance(work[0], Scoring):
        return evaluate_all([member.model for member in members], work[0].batches)
    return step_together(members, [asked.batch for asked in work if isinstance(asked, Step)])


def course(config: TrainConfig, *, device: str | torch.device, directory: Path) -> Course:
    """The loop itself; arguments, words and return as of `train`, with Work between."""
    device = torch.device(device)
    directory.mkdir(parents=True, exist_ok=True)
    corpus = load_corpus(config.data, directory)
    training, validation = batches_of(corpus.train, device), batches_of(corpus.validation, device)
    if config.batch_size > len(training):
        raise TrainerError(
            f"batch_size {config.batch_size} is over the {len(training)} training sequences of "
            f"{corpus.source}: take a smaller batch or more data"
        )
    reset_peak_memory(device)
    steps = math.ceil(len(training) / config.batch_size)
    check_warmup(config, steps)
    member = Member(
        config,
        corpus.vocabulary_size,
        steps,
        device,
        text=corpus.fingerprint,
        separator=corpus.separator,
    )
    member.restore(directory)

    for report in member.history:
        if ending := _obey((yield report)):
            return ending
    # Said before the first step, in which most of those are killed that take too much memory.
    rows, left = member.rows_that_fit(1), config.epochs - len(member.history)
    if left > 0 and rows < config.batch_size:
        began = Progress(len(member.history) * steps, steps * config.epochs, rows=rows)
        if ending := _obey((yield began)):
            return ending
    while len(member.history) < config.epochs:
        if member.patience_spent():
            return Ending(Outcome.EARLY_STOPPED)
        epoch = Epoch(member, training, steps)
        ending = yield from epoch.run()
        if ending:
            return ending
        evaluation = yield Scoring(member, validation)
        report = epoch.report(evaluation)
        if what := _diverged(report, member):
            return Ending(Outcome.DIVERGED, f"diverged in epoch {epoch.number}: {what}")
        member.finish_epoch(report, directory)
        if ending := _obey((yield report)):
            return ending
    stopped = member.patience_spent()
    return Ending(Outcome.EARLY_STOPPED if stopped else Outcome.COMPLETED)


def _obey(verdict: Verdict | None) -> Ending | None:
    """PRUNE and PAUSE end the run; anything else goes on."""
    if verdict is Verdict.PRUNE:
        return Ending(Outcome.PRUNED)
    if verdict is Verdict.PAUSE:
        return Ending(Outcome.PAUSED)
    return None


def _diverged(report: Report, member: Member) -> str:
    """What is not finite, '' where all is well."""
    if not member.finite():
        return "the parameters are not finite"
    if not math.isfinite(report.perplexity):
        return "the perplexity is not finite"
    if not math.isfinite(report.train_loss):
        return "no step had a finite training loss"
    return ""


class Epoch:
    """One pass over the training data.

    Args:
        member: what is trained.
        training: the training split.
        steps: optimizer steps in the epoch.
    """

    def __init__(self, member: Member, training: Batches, steps: int) -> None:
        self.number = len(member.history) + 1
        self._member = member
        self._training = training
        self._steps = steps
        self._skipped = 0
        self._targets: list[int] = []
        # Nats of each step, on the device, so that the loop does not wait for it.
        self._nats = torch.zeros(steps, dtype=torch.float64, device=member.device)
        self._started = self._spoke = time.monotonic()
        self._seconds = 0.0
        self._before = steps * (self.number - 1)
        self._rate = member.learning_rate

    def run(self) -> Generator[Progress | Step, Any, Ending | None]:
        """Asks for every step; says Progress on the way.

        Returns:
            None when the epoch is done, otherwise why it was left.
        """
        member = self._member
        member.begin_epoch(self.number)
        batches = self._training.shuffled(member.config.batch_size, member.config.seed, self.number)
        for step, batch in enumerate(batches, 1):
            self._rate = member.learning_rate
            loss, stepped = yield Step(member, batch, first=step == 1)
            self._nats[step - 1] = loss
            self._targets.append(batch.targets)
            if not stepped:
                self._skipped += 1
                if member.precision.overflowed:
                    return Ending(Outcome.OVERFLOW)
            if time.monotonic() - self._spoke >= PROGRESS_INTERVAL_S:
                self._spoke = time.monotonic()
                # FP16's scaler skips such a step; in the others the parameters are spoilt.
                if stepped and not math.isfinite(float(loss)):
                    what = f"the loss of step {step} is not finite"
                    return Ending(Outcome.DIVERGED, f"diverged in epoch {self.number}: {what}")
                verdict = yield self._progress(step)
                if verdict is Verdict.PAUSE:
                    return Ending(Outcome.PAUSED)
        self._nats = self._nats.cpu()  # waits for the device: the epoch's time is complete
        self._seconds = time.monotonic() - self._started
        return None

    def _progress(self, step: int) -> Progress:
        rows = self._member.rows
        return Progress(self._before + step, self._whole, self._speed(), rows=rows)

    def report(self, evaluation: Evaluation) -> Report:
        """The finished epoch in numbers; the one place where metrics cross to the host."""
        earlier = self._member.history[-1].tokens if self._member.history else 0
        return Report(
            step=self._before + self._steps,
            steps=self._whole,
            tokens=earlier + sum(self._targets),
            epoch=self.number,
            train_loss=self._mean_loss(),
            validation_loss=evaluation.loss,
            accuracy=evaluation.accuracy,
            metrics=evaluation.metrics,
            learning_rate=self._rate,
            tokens_per_second=sum(self._targets) / self._seconds,
            peak_memory_bytes=peak_memory_bytes(self._member.device),
            skipped_steps=self._skipped,
            micro_batch=self._member.row_limit,
        )

    @property
    def _whole(self) -> int:
        return self._steps * self._member.config.epochs

    def _mean_loss(self) -> float:
        """Nats a target; a step that FP16 skipped may have an infinite loss, and does not count."""
        total, counted = 0.0, 0
        for nats, targets in zip(self._nats.tolist(), self._targets, strict=True):
            if math.isfinite(nats):
                total += nats
                counted += targets
        return total / counted if counted else math.nan

    def _speed(self) -> float:
        return sum(self._targets) / (self._spoke - self._started)
