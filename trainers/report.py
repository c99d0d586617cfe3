"""What a trainer says while it runs and when it ends."""

import math
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life inside an epoch, at most twice a second.

    Attributes:
        epoch: the epoch that runs now, counted from 1.
        step: optimizer steps tried in this epoch so far.
        steps: optimizer steps in one epoch.
        tokens_per_second: training tokens a second since the epoch began.
        rows: of a batch, that are computed at once; 0 where the trainer does not say.
    """

    epoch: int
    step: int
    steps: int
    tokens_per_second: float = 0.0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one finished epoch came to.

    Attributes:
        epoch: counted from 1.
        train_loss: nats a token, over every non-padding target of the epoch.
        validation_loss: nats a token, in FP32, each validation token scored once.
        accuracy: share of validation tokens whose most likely prediction is right, 0 to 1.
        learning_rate: the rate of the epoch's last step.
        tokens_per_second: training tokens a second, validation apart.
        peak_memory_bytes: CUDA's peak allocation, or the process's peak resident set on CPU.
        micro_batch: rows of a batch computed at once, where more had no room; 0: no limit.
        skipped_steps: steps of this epoch that the gradient scaler skipped.
        metrics: whatever else a trainer measures, by its name.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    accuracy: float
    learning_rate: float
    tokens_per_second: float
    peak_memory_bytes: int
    skipped_steps: int
    micro_batch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def perplexity(self) -> float:
        """exp(validation_loss); infinity where that overflows."""
        try:
            return math.exp(self.validation_loss)
        except OverflowError:
            return math.inf


class Verdict(StrEnum):
    """The consumer's answer to an EpochReport (PAUSE also answers a Progress)."""

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
    Outcome.COMPLETED: "trained all its epochs",
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
