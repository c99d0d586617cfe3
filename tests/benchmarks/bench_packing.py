"""What packing gives: the share of computed positions that are real, and real tokens a second.

Run by hand, alone on the machine: OMP_NUM_THREADS=1 python tests/benchmarks/bench_packing.py
"""

import argparse
import statistics
import time
from itertools import islice

import torch

from trainers.batches import batches_of
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.data import build_corpus
from trainers.length import length_of
from trainers.member import Member
from trainers.steps.cohort import step_alone

WARM_UP = 2


def measured(
    data: DataConfig, batch_size: int, steps: int, device: torch.device
) -> tuple[str, float, float]:
    """How its windows are cut, the share of real positions, and a step's real tokens a second."""
    corpus = build_corpus(data)
    model = ModelConfig(name="gpt", options={"width": 128, "layers": 4, "heads": 4})
    config = TrainConfig(learning_rate=1e-3, batch_size=batch_size, model=model, data=data)
    separator = corpus.separator
    length = length_of(config, 1)
    member = Member(config, corpus.vocabulary_size, length, device, separator=separator)
    batches = batches_of(corpus.train, device)
    real = computed = 0
    for batch in batches.shuffled(batch_size, 0, 1):
        rows, longest = batch.tokens_BT.shape
        real, computed = real + batch.targets, computed + rows * (longest - 1)
    speeds = []
    for batch in islice(batches.shuffled(batch_size, 0, 1), WARM_UP + steps):
        started = time.perf_counter()
        float(step_alone(member, batch)[0])
        speeds.append(batch.targets / (time.perf_counter() - started))
    how = f"packed, {data.attend}" if data.pack else "a document a row"
    return how, real / computed, statistics.median(speeds[WARM_UP:])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="docstrings")
    parser.add_argument("--windows", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(f"{'window':>6}  {'rows':18}{'real positions':>14}{'real tokens/s':>15}")
    for window in options.windows:
        part = {"train_sequences": 4000, "validation_sequences": 100}
        data = {"name": options.data, "window": window, "stride": window // 2, **part}
        for more in ({}, {"pack": True}, {"pack": True, "attend": "window"}):
            device = torch.device(options.device)
            config = DataConfig(**data, **more)
            how, share, speed = measured(config, options.batch, options.steps, device)
            print(f"{window:6}  {how:18}{share:>14.0%}{speed:>15,.0f}", flush=True)


if __name__ == "__main__":
    main()
