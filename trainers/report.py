"""What a trainer says while it runs and when it ends."""

import math
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life between two reports, at most twice a second.

    Attributes:
        step: optimizer steps of the run that were tried so far.
        steps: of the whole run; 0 where that is unknown.
        tokens_per_second: training tokens a second since the last report.
        alive: whether the trainer has done something since the last one.
        rows: of a batch, that are computed at once; 0 where the trainer does not say.
        train_loss: nats a token of the last step; NaN where the trainer does not say.
        gradient_norm: of the last step, before it was clipped; likewise.
    """

    step: int = 0
    steps: int = 0
    tokens_per_second: float = 0.0
    alive: bool = True
    rows: int = 0
    train_loss: float = math.nan
    gradient_norm: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run had come to at a step.

    Attributes:
        step: optimizer steps that were tried up to here; 0 takes the epoch, for a trainer that
            counts nothing else.
        steps: of the whole run; 0 where that is unknown.
        tokens: training tokens up to here; 0 where they are unknown.
        epoch: finished passes over the training data; 0 where they are not counted.
        validation_loss: nats a token, in FP32, each validation token scored once. NaN where the
            trainer has another measure of its success, among the metrics.
        train_loss: nats a token, over every non-padding target since the last report.
        accuracy: share of validation tokens whose most likely prediction is right, 0 to 1.
        learning_rate: the rate of the last step.
        tokens_per_second: training tokens a second, validation apart.
        peak_memory_bytes: CUDA's peak allocation, or the process's peak resident set on CPU.
        micro_batch: rows of a batch computed at once, where more had no room; 0: no limit.
        skipped_steps: steps since the last report that the gradient scaler skipped.
        trunk: the first steps of the run that were taken over from a shorter one's.
        metrics: whatever else a trainer measures, by its name.
    """

    step: int = 0
    steps: int = 0
    tokens: int = 0
    epoch: int = 0
    validation_loss: float = math.nan
    train_loss: float = math.nan
    accuracy: float = math.nan
    learning_rate: float = math.nan
    tokens_per_second: float = 0.0
    peak_memory_bytes: int = 0
    skipped_steps: int = 0
    micro_batch: int = 0
    trunk: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.step:
            object.__setattr__(self, "step", self.epoch)

    @property
    def perplexity(self) -> float:
        """exp(validation_loss); infinity where that overflows."""
        try:
            return math.exp(self.validation_loss)
        except OverflowError:
            return math.inf


class Verdict(StrEnum):
    """The consumer's answer to a Report (PAUSE also answers a Progress)."""

    CONTINUE = "continue"
    PRUNE = "prune"
    PAUSE = "pause"


class Outcome(StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"
    EARLY_STOPPED = "early stopped"
    PRUNED = "pruned"
    PAUSED = "paused"
    DIVERGED = "diverged"
    OVERFLOW = "overflow"
    OUT_OF_MEMORY = "out of memory"
    KILLED = "killed for memory"
    FAILED = "failed"
    LOST = "lost"
    NO_SPACE = "no space"

    @property
    def sentence(self) -> str:
        """The outcome in a user's words."""
        return _SENTENCES[self]


_SENTENCES = {
    Outcome.COMPLETED: "trained to its end",
    Outcome.EARLY_STOPPED: "validation stopped improving",
    Outcome.PRUNED: "pruned: hopeless beside the other trials",
    Outcome.PAUSED: "paused: goes on from its checkpoint",
    Outcome.DIVERGED: "diverged: the loss or the parameters are no longer finite",
    Outcome.OVERFLOW: "overflowed: FP16 gradients stay infinite at the smallest loss scale",
    Outcome.OUT_OF_MEMORY: "ran out of memory",
    Outcome.KILLED: "ran out of memory: the system killed its worker process to free some",
    Outcome.FAILED: "failed: the trainer raised an error",
    Outcome.LOST: "lost: its worker process died",
    Outcome.NO_SPACE: "found no room on the disk",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """What a trainer returns: its outcome, and what is special about this end ('' = nothing)."""

    outcome: Outcome
    detail: str = ""

    @property
    def message(self) -> str:
        """The reason in words."""
        return self.detail or self.outcome.sentence
