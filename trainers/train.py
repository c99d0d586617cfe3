"""THE loop: one generator that the worker, `sweep train`, the tests and Ray all consume.

`train_stepwise` is the loop; what costs time it asks its driver for (`Work`), so that a cohort's
driver can do the same work of several members at once. `train` is the driver of one alone.
"""

import itertools
import logging
import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainers import checkpoint
from trainers.batches import Batch, Batches, batches_of
from trainers.config import TrainConfig
from trainers.data import load_corpus
from trainers.distributed import devices_named, ranks_on
from trainers.errors import TrainerError
from trainers.evaluate import Evaluation, evaluate_all
from trainers.length import length_on
from trainers.member import Member
from trainers.report import Ending, Outcome, Progress, Report, Verdict
from trainers.schedule import check_warmup, trunk_steps
from trainers.steps.cohort import step_together
from trainers.steps.memory import peak_memory_bytes, reset_peak_memory
from trainers.steps.ranks import Ranks

log = logging.getLogger("trainers.train")

PROGRESS_INTERVAL_S = 0.5

Message = Progress | Report
Training = Generator[Message, Verdict | None, Ending]


@dataclass(frozen=True, slots=True)
class Step:
    """Asks for an optimizer step; `first` after a report."""

    member: Member
    batch: Batch
    first: bool


@dataclass(frozen=True, slots=True)
class Scoring:
    """Asks for `evaluate(member.model, batches)`."""

    member: Member
    batches: Batches


Work = Step | Scoring
# Work is answered with its result, a message as `Training`'s is.
Stepwise = Generator[Message | Work, Any, Ending]


def train(
    config: TrainConfig,
    *,
    device: str | torch.device,
    directory: Path,
    trunks: Sequence[Path] = (),
) -> Training:
    """Trains one model; goes on from the directory's checkpoint if it has one, bit for bit.

    Stored reports are yielded again first. Each report's checkpoint is on disk before the report
    is yielded, so a crash loses no report. The consumer answers a report with a verdict; PAUSE is
    also taken at a Progress, where another checkpoint is written.

    Args:
        config: the whole run.
        device: "cpu", "cuda", "cuda:1"; "cuda:2,3" trains on both, see `trainers.distributed`.
        directory: for checkpoints; the corpus is looked for here and in the parent.
        trunks: checkpoints of runs of the same configuration but for their length. A run that has
            none of its own yet begins with the first of them that holds a beginning of it.

    Yields:
        Progress at most twice a second, and before the first step where that is computed in
        parts; a Report at every `evaluate_every` steps and at the end.

    Returns:
        How it ended.

    Raises:
        TrainerError: data, model or checkpoint are not usable; the message says why.
    """
    answer = None
    run = train_stepwise(config, device=device, directory=directory, trunks=trunks)
    with closing(run):
        while True:
            try:
                message = run.send(answer)
            except StopIteration as stop:
                ending: Ending = stop.value
                return ending
            answer = perform([message])[0] if isinstance(message, Work) else (yield message)


def perform(work: Sequence[Work]) -> list[Any]:
    """Does what members ask for, all of one kind, together.

    Returns:
        Each one's answer.
    """
    members = [request.member for request in work]
    ranks = members[0].ranks
    ranks.tell(scoring=isinstance(work[0], Scoring))
    if isinstance(work[0], Scoring):
        return evaluate_all([member.model for member in members], work[0].batches, ranks)
    batches = [request.batch for request in work if isinstance(request, Step)]
    return step_together(members, batches)


def train_stepwise(
    config: TrainConfig,
    *,
    device: str | torch.device,
    directory: Path,
    trunks: Sequence[Path] = (),
) -> Stepwise:
    """The loop itself; arguments, messages and return as of `train`, with Work between."""
    devices = devices_named(device)
    directory.mkdir(parents=True, exist_ok=True)
    with ranks_on(devices, config, directory) as ranks:
        member, training, validation = begin(config, devices[0], directory, ranks, trunks)
        return (yield from _from_here(member, training, validation, directory))


def begin(
    config: TrainConfig,
    device: torch.device,
    directory: Path,
    ranks: Ranks,
    trunks: Sequence[Path] = (),
) -> tuple[Member, Batches, Batches]:
    """What a run begins with, or goes on with from its checkpoint.

    Args:
        config, directory, trunks: as of `train`.
        device: this process's.
        ranks: that train together.

    Returns:
        The member, its training text and its validation text.

    Raises:
        TrainerError: as of `train`.
    """
    corpus = load_corpus(config.data, directory)
    training, validation = batches_of(corpus.train, device), batches_of(corpus.validation, device)
    if config.batch_size > len(training):
        raise TrainerError(
            f"batch_size {config.batch_size} is over the {len(training)} training sequences of "
            f"{corpus.source}: take a smaller batch or more data"
        )
    reset_peak_memory(device)
    length = length_on(config, corpus.train)
    check_warmup(config, length)
    member = Member(
        config,
        corpus.vocabulary_size,
        length,
        device,
        text=corpus.fingerprint,
        separator=corpus.separator,
        ranks=ranks,
    )
    if not member.restore(directory):
        _begin_with_one_of(trunks, member, directory)
    return member, training, validation


def _begin_with_one_of(trunks: Sequence[Path], member: Member, directory: Path) -> None:
    for trunk in trunks:
        try:
            state = member.read_trunk(trunk)
        except TrainerError as error:
            log.warning("%s: this run does not begin with it", error)
        else:
            # Other processes that train it together find it in the run's own checkpoint.
            member.begin_with(state, directory)
            return


def _from_here(member: Member, training: Batches, validation: Batches, directory: Path) -> Stepwise:
    """The loop from the member's step on."""
    length = member.length
    for report in member.history:
        if ending := _obey((yield report)):
            return ending
    # Said before the first step, in which most of those are killed that take too much memory.
    rows = member.rows_that_fit(1)
    if member.step < length.steps and rows < member.ranks.rows(member.config.batch_size):
        began = Progress(member.step, length.steps, rows=rows)
        if ending := _obey((yield began)):
            return ending
    if member.step < length.steps and not member.patience_spent():
        member.ranks.join(member.model)
    batches = batches_from(member, training)
    while member.step < length.steps:
        if member.patience_spent():
            return Ending(Outcome.EARLY_STOPPED)
        stretch = _Running(member, directory)
        if ending := (yield from stretch.run(batches)):
            return ending
        evaluation = yield Scoring(member, validation)
        report = stretch.report(evaluation)
        if what := _diverged(report, member):
            return Ending(Outcome.DIVERGED, f"diverged by step {member.step}: {what}")
        member.add_report(report, directory)
        if ending := _obey((yield report)):
            return ending
    stopped = member.patience_spent()
    return Ending(Outcome.EARLY_STOPPED if stopped else Outcome.COMPLETED)


def batches_from(member: Member, training: Batches) -> Iterator[Batch]:
    """The training batches from the member's next step on, epoch after epoch."""
    config = member.config
    epoch, first = divmod(member.step, member.length.per_epoch)
    for number in itertools.count(epoch + 1):
        yield from training.shuffled(config.batch_size, config.seed, number, first)
        first = 0


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


class _Running:
    """The steps from where the member is to its next report.

    Args:
        member: what is trained.
        directory: for checkpoints.
    """

    def __init__(self, member: Member, directory: Path) -> None:
        self._member = member
        self._directory = directory
        # A resumed stretch took time before; what it counts goes on from there.
        self._started = time.monotonic() - member.stretch.seconds
        self._spoke = time.monotonic()
        self._train_loss = math.nan
        self._keeps_at = trunk_steps(member.config, member.length) * member.config.keep_trunk

    def run(self, batches: Iterator[Batch]) -> Generator[Progress | Step, Any, Ending | None]:
        """Asks for every step; says Progress on the way.

        Returns:
            None when the next report is due, otherwise why it was left.
        """
        member, length = self._member, self._member.length
        begins = member.step - len(member.stretch.targets)
        due = length.next_report(begins)
        while member.step < due:
            if member.step == self._keeps_at > 0:
                self._save(checkpoint.TRUNK)
            member.stretch.learning_rate = member.learning_rate
            batch = next(batches)
            loss, stepped = yield Step(member, batch, first=member.step == begins)
            member.stretch.add(loss, batch.targets, stepped=stepped)
            if not stepped and member.precision.overflowed:
                return Ending(Outcome.OVERFLOW)
            if time.monotonic() - self._spoke >= PROGRESS_INTERVAL_S:
                self._spoke = time.monotonic()
                # FP16's scaler skips such a step; in the others the parameters are spoilt.
                if stepped and not math.isfinite(float(loss)):
                    what = f"diverged by step {member.step}: its loss is not finite"
                    return Ending(Outcome.DIVERGED, what)
                if (yield self._progress(float(loss) / batch.targets)) is Verdict.PAUSE:
                    self._save()
                    return Ending(Outcome.PAUSED)
            if length.is_checkpoint(member.step) and member.step < due:
                self._save()
        self._train_loss = member.stretch.mean_loss()  # waits for the device: the time is true
        member.stretch.seconds = time.monotonic() - self._started
        return None

    def report(self, evaluation: Evaluation) -> Report:
        """The stretch in numbers; the one place where metrics cross to the host."""
        member, stretch = self._member, self._member.stretch
        earlier = member.history[-1].tokens if member.history else 0
        return Report(
            step=member.step,
            steps=member.length.steps,
            tokens=earlier + stretch.tokens,
            epoch=member.step // member.length.per_epoch,
            train_loss=self._train_loss,
            validation_loss=evaluation.loss,
            accuracy=evaluation.accuracy,
            metrics=evaluation.metrics,
            learning_rate=stretch.learning_rate,
            tokens_per_second=stretch.tokens / stretch.seconds,
            peak_memory_bytes=peak_memory_bytes(member.device),
            skipped_steps=stretch.skipped,
            trunk=member.trunk,
            micro_batch=member.row_limit,
        )

    def _progress(self, train_loss: float) -> Progress:
        member = self._member
        return Progress(
            member.step,
            member.length.steps,
            tokens_per_second=member.stretch.tokens / (self._spoke - self._started),
            rows=member.rows,
            train_loss=train_loss,
            gradient_norm=float(member.gradient_norm),
        )

    def _save(self, name: str = checkpoint.LAST) -> None:
        self._member.stretch.seconds = time.monotonic() - self._started
        self._member.save(self._directory, name)
