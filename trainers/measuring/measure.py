"""What a step and an evaluation of a configuration cost here, from a few real ones.

And how many trials are best trained side by side, from the same.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch

from trainers.batches import Batches, batches_of
from trainers.config import TrainConfig
from trainers.data import Corpus
from trainers.evaluate import evaluate
from trainers.length import length_of
from trainers.member import Member
from trainers.models import StackedModel
from trainers.steps.cohort import step_alone, step_together
from trainers.steps.memory import peak_memory_bytes, reset_peak_memory

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


def measure(config: TrainConfig, corpus: Corpus, device: torch.device) -> Cost:
    """Takes a warm-up step, a few timed steps and one evaluation.

    Args:
        config: the run; its model is built and dropped.
        corpus: its text.
        device: where to measure.
    """
    training, validation = batches_of(corpus.train, device), batches_of(corpus.validation, device)
    reset_peak_memory(device)
    steps = math.ceil(len(training) / config.batch_size)
    member = Member(
        config, corpus.vocabulary_size, length_of(config, steps), device, separator=corpus.separator
    )
    seconds: list[float] = []
    batches = training.shuffled(config.batch_size, config.seed, 1)
    for batch in islice(batches, MEASURED_STEPS + 1):
        seconds.append(_timed(partial(step_alone, member, batch), device))
    evaluation_s = _timed(partial(evaluate, member.model, validation), device)
    timed = sorted(seconds[1:] or seconds)
    return Cost(steps, timed[len(timed) // 2], evaluation_s, peak_memory_bytes(device))


WORTH = 1.25
"""A cohort's gain in tokens a second below which it is not worth waiting for each other."""
LONG_STEP_S = 0.25
"""So long a step is arithmetic, of which a cohort has as much: what it saves is overhead."""


def cohort_size(config: TrainConfig, corpus: Corpus, device: torch.device, at_most: int) -> int:
    """Measures how many trials side by side give the most tokens a second.

    Args:
        config: one of the runs.
        corpus: its text.
        device: where to measure.
        at_most: the largest size.

    Returns:
        1, a power of two, or `at_most`.
    """
    training = batches_of(corpus.train, device)
    members: list[Member] = []
    best, best_gain, alone_s = 1, WORTH, math.inf
    for size in sorted({1, at_most, *(2**n for n in range(at_most.bit_length()))}):
        while len(members) < size:
            members.append(
                Member(
                    config,
                    corpus.vocabulary_size,
                    length_of(config, 1),
                    device,
                    separator=corpus.separator,
                )
            )
        if not isinstance(members[0].model, StackedModel):
            return 1
        step_s = _cohort_step_s(members, training, device)
        # Once more beside each size: what else runs on the machine must not look like a gain.
        alone_s = min(
            alone_s, step_s if size == 1 else _cohort_step_s(members[:1], training, device)
        )
        gain = size * alone_s / step_s
        if size > 1 and gain > best_gain:
            best, best_gain = size, gain
        if alone_s > LONG_STEP_S:
            return 1
    return best


def _cohort_step_s(members: list[Member], training: Batches, device: torch.device) -> float:
    batch = next(training.shuffled(members[0].config.batch_size, members[0].config.seed, 1))
    step = partial(step_together, members, [batch] * len(members))
    return min(_timed(step, device) for _ in range(MEASURED_STEPS))


def _timed(call: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
