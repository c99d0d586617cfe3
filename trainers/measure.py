"""What a step and an evaluation of a configuration cost here, from a few real ones."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch

from trainers.batches import Batches
from trainers.config import TrainConfig
from trainers.data import Corpus
from trainers.evaluate import evaluate
from trainers.member import Member
from trainers.memory import peak_memory_bytes, reset_peak_memory

MEASURED_STEPS = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """Measured on a model that is thrown away.

    Attributes:
        steps: optimizer steps in an epoch.
        step_s: seconds a step, the median of a few after a warm-up.
        evaluation_s: seconds for the whole validation split.
        peak_memory_bytes: CUDA's peak allocation, or this process's peak resident set on CPU.
    """

    steps: int
    step_s: float
    evaluation_s: float
    peak_memory_bytes: int

    @property
    def epoch_s(self) -> float:
        """Seconds an epoch takes."""
        return self.steps * self.step_s + self.evaluation_s


def measure(config: TrainConfig, corpus: Corpus, device: torch.device) -> Cost:
    """Takes a warm-up step, a few timed steps and one evaluation.

    Args:
        config: the run; its model is built and dropped.
        corpus: its text.
        device: where to measure.
    """
    training, validation = Batches(corpus.train, device), Batches(corpus.validation, device)
    reset_peak_memory(device)
    steps = math.ceil(len(training) / config.batch_size)
    member = Member(config, len(corpus.vocabulary), steps, device)
    seconds: list[float] = []
    batches = training.shuffled(config.batch_size, config.seed, 1)
    for batch in islice(batches, MEASURED_STEPS + 1):
        seconds.append(_timed(partial(member.step, batch), device))
    evaluation_s = _timed(partial(evaluate, member.model, validation), device)
    timed = sorted(seconds[1:] or seconds)
    return Cost(steps, timed[len(timed) // 2], evaluation_s, peak_memory_bytes(device))


def _timed(call: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
