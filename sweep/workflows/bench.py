"""`sweep bench`: the trainer's speed for each precision, batch size and cohort size."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import torch

from sweep.config.schema import SweepConfig
from sweep.execution.isolated import call_in_process
from trainers.config import PrecisionName, TrainConfig
from trainers.measuring.speed import Speed, measure_speed


def bench(
    config: SweepConfig,
    batches: Sequence[int],
    precisions: Sequence[PrecisionName],
    cohorts: Sequence[int],
) -> Iterator[Speed]:
    """Measures every combination, each in a process of its own: peak memory is a process's.

    Args:
        config: model, data and device; its batch size and precision are replaced.
        batches, precisions, cohorts: what is combined.

    Raises:
        SweepError: a measurement failed; the message says which one and why.
    """
    for precision, batch_size, cohort in product(precisions, batches, cohorts):
        train = replace(config.trainer, batch_size=batch_size, precision=precision)
        yield _measured(train, cohort, config.device)


def _measured(train: TrainConfig, cohort: int, device: str) -> Speed:
    what = f"batch {train.batch_size}, {train.precision}, cohort {cohort}"
    return call_in_process(measure_speed, train, cohort, torch.device(device), what=what)
