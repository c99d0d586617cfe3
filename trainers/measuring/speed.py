"""How fast the trainer is on this machine, against what its matrix products alone could do."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from trainers.batches import Batch
from trainers.config import TrainConfig
from trainers.data.corpus import NO_SEPARATOR
from trainers.data.vocabulary import END
from trainers.kernels.graphs import recordings
from trainers.length import length_of
from trainers.member import Member
from trainers.models import parameter_count
from trainers.precision import Precision
from trainers.steps.cohort import step_together
from trainers.steps.memory import peak_memory_bytes, reset_peak_memory

LEAST_STEPS, LEAST_S = 2, 2.0
PEAK_SIZE = {"cpu": 1024, "cuda": 8192}
SPECIAL_TOKENS = 4  # padding among them: a full window has none


@dataclass(frozen=True, slots=True)
class Speed:
    """What a cohort's training steps come to.

    Attributes:
        parameters: of one member.
        tokens_per_second: targets of all members.
        flops_per_second: of matrix products, counted by torch on a real step.
        share_of_peak: of the products' speed at their best size, in this precision; 0 to 1.
        peak_memory_bytes: CUDA's peak allocation, or the process's peak resident set on CPU.
    """

    model: str
    parameters: int
    batch_size: int
    precision: str
    cohort: int
    step_s: float
    tokens_per_second: float
    flops_per_second: float
    share_of_peak: float
    peak_memory_bytes: int


def measure_speed(config: TrainConfig, cohort: int, device: torch.device) -> Speed:
    """Times steps on full windows of random tokens, to be called in a process of its own.

    Args:
        config: of every member.
        cohort: members that train together.
        device: where.
    """
    reset_peak_memory(device)
    batch = _full_windows(config, device)
    vocabulary = config.data.vocabulary_size
    separator = END if config.data.pack else NO_SEPARATOR
    members = [
        Member(config, vocabulary, length_of(config, 1), device, separator=separator)
        for _ in range(cohort)
    ]
    step = partial(step_together, members, [batch] * cohort)
    step_s = _best(step, device)
    peak_memory = peak_memory_bytes(device)
    # What a graph launches nobody counts.
    counting = FlopCounterMode(display=False, custom_mapping=_COUNTED)
    with recordings.off(), counting as counter:
        step_together(members[:1], [batch])
    flops_per_second = cohort * counter.get_total_flops() / step_s
    return Speed(
        config.model.name,
        parameter_count(members[0].model),
        config.batch_size,
        config.precision,
        cohort,
        step_s,
        cohort * batch.targets / step_s,
        flops_per_second,
        flops_per_second / product_flops_per_second(config, device),
        peak_memory,
    )


def product_flops_per_second(config: TrainConfig, device: torch.device) -> float:
    """Measure a large square matrix product in the type that the precision multiplies in.

    FP16 on the CPU is multiplied in FP32 (see `trainers.precision.half`).
    """
    halves = {"bf16": torch.bfloat16, **({"fp16": torch.float16} if device.type == "cuda" else {})}
    type_ = halves.get(config.precision)
    size = PEAK_SIZE[device.type]
    left, right = (torch.rand(size, size, device=device, dtype=type_) for _ in range(2))
    with Precision(config.precision, device).products():
        return 2 * size**3 / _best(partial(torch.mm, left, right), device)


def _bmm_flops(left_KAB: Sequence[int], right_KBC: Sequence[int], *_: object, **__: object) -> int:
    """Count as torch does, which stumbles over an `out_dtype`."""
    members, rows, inner = left_KAB
    return 2 * members * rows * inner * right_KBC[2]


def _baddbmm_flops(_: object, *operands: Any, **__: object) -> int:
    """Count a product that is added in place, which torch does not."""
    return _bmm_flops(*operands)


_COUNTED = {torch.ops.aten.bmm: _bmm_flops, torch.ops.aten.baddbmm_: _baddbmm_flops}


def _full_windows(config: TrainConfig, device: torch.device) -> Batch:
    rows, window = config.batch_size, config.data.window
    tokens_BT = torch.randint(SPECIAL_TOKENS, config.data.vocabulary_size, (rows, window))
    lengths_B = torch.full((rows,), window)
    return Batch(tokens_BT.to(device), lengths_B, torch.zeros_like(lengths_B))


def _best(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest call after one to warm up: a load from elsewhere only adds to it."""
    seconds: list[float] = []
    began = time.perf_counter()
    while len(seconds) <= LEAST_STEPS or time.perf_counter() - began < LEAST_S:
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
