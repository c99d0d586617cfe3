"""`sweep bench`: the trainer's speed for each precision, batch size and cohort size."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import product

import torch

from sweep.config import SweepConfig
from sweep.errors import SweepError
from trainers.config import PrecisionName, TrainConfig
from trainers.faults import ending_of
from trainers.speed import Speed, measure_speed


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
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        try:
            return pool.submit(measure_speed, train, cohort, torch.device(device)).result()
        except BrokenProcessPool as error:
            raise SweepError(
                f"{what}: the measuring process died, for want of memory perhaps: take a smaller "
                "--batch or --cohort"
            ) from error
        except Exception as error:
            raise SweepError(f"{what}: {ending_of(error).message}") from error
