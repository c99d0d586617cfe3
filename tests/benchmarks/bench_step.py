"""A training step of the CPU profile's small model, and what share of an epoch validation takes.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_step.py

Run by hand, on a quiet machine. The text is the profile's own; precisions take turns, so that a
load from elsewhere strikes both alike; medians.
"""

import dataclasses
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch

from sweep.config.load import load
from trainers.batches import Batch, Batches
from trainers.config import PrecisionName
from trainers.data import build_corpus
from trainers.evaluate import evaluate
from trainers.length import length_of
from trainers.member import Member
from trainers.models import parameter_count
from trainers.steps.cohort import step_alone

CPU = torch.device("cpu")
SIZES = (32, 256, 2048)
NAMES: tuple[PrecisionName, ...] = ("fp32", "fp16")
SECONDS = 12.0  # of steps, a batch size
ROW = "{:>6} {:>5} {:>9.1f} {:>10,.0f} {:>8} {:>8.2f} {:>8.2f} {:>10.1%}"


def endless(training: Batches, size: int) -> Iterator[Batch]:
    """Full batches, epoch after epoch."""
    for epoch in itertools.count(1):
        for batch in training.shuffled(size, 0, epoch):
            if len(batch.lengths_B) == size:
                yield batch


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def steps_of(
    members: dict[str, Member], batches: Iterator[Batch]
) -> tuple[dict[str, float], float]:
    """Seconds a step of each precision, and targets a step."""
    for member in members.values():
        step_alone(member, next(batches))
    taken: dict[str, list[float]] = {name: [] for name in members}
    targets: list[int] = []
    ends = time.perf_counter() + SECONDS
    while time.perf_counter() < ends or len(targets) < 5:
        batch = next(batches)
        targets.append(batch.targets)
        for name, member in members.items():
            taken[name].append(timed(lambda member=member, batch=batch: step_alone(member, batch)))
    return {name: statistics.median(all_) for name, all_ in taken.items()}, statistics.mean(targets)


def main() -> None:
    config = load(None, profile="cpu", cuda=False).trainer
    corpus = build_corpus(config.data)
    training, validation = Batches(corpus.train, CPU), Batches(corpus.validation, CPU)
    members = {
        name: Member(
            dataclasses.replace(config, precision=name),
            len(corpus.vocabulary),
            length_of(config, 1),
            CPU,
        )
        for name in NAMES
    }
    model = members["fp32"].model
    evaluate(model, validation)
    evaluation_s = statistics.median(timed(lambda: evaluate(model, validation)) for _ in range(5))
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; "
        f"{parameter_count(model):,} parameters, {len(training):,} training sequences, "
        f"{corpus.train.targets / len(training):.1f} targets each; validation of "
        f"{corpus.validation.scored:,} tokens takes {evaluation_s:.2f} s"
    )
    print(" batch  type   ms/step   tokens/s    steps  train s  epoch s validation")
    for size in SIZES:
        seconds, targets = steps_of(members, endless(training, size))
        steps = math.ceil(len(training) / size)
        for name, step_s in seconds.items():
            train_s = corpus.train.targets / (targets / step_s)
            epoch_s = train_s + evaluation_s
            print(
                ROW.format(
                    size,
                    name,
                    step_s * 1e3,
                    targets / step_s,
                    steps,
                    train_s,
                    epoch_s,
                    evaluation_s / epoch_s,
                )
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
