"""Whether the best rate of gpt stays where its width grows: standard parametrization and muP.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/bench_mup.py
        [--kinds standard,mup] [--widths 64,128,256] [--steps 100] [--seeds 2] [--precision bf16]

Trains on the bytes of the docstrings at rates a factor of two apart, as many seeds of each, side by
side in one cohort: AdamW, a warm-up over a fifth of the steps and a linear decay to zero. A width
begins with three rates around the best of the width before it, and goes on until the lowest loss,
the mean over the seeds, lies between two others. Its best rate is the lowest point of a parabola in
ln rate through these three; the error is that of the seeds. One seed has no error.
"""

import argparse
import math
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from trainers.config import DataConfig, LRSchedule, ModelConfig, TrainConfig
from trainers.data import load_corpus
from trainers.lockstep import Lockstep
from trainers.report import Ending, Outcome, Report
from trainers.train import train_stepwise

BASE, LAYERS, HEADS, BATCH, WINDOW = 256, 1, 2, 64, 32
ENDS = (Outcome.COMPLETED, Outcome.DIVERGED)
FIRST = -9  # the exponent of two of the rate that the narrowest width begins with


def config_of(exponent: int, seed: int, width: int, kind: str, given: argparse.Namespace):
    """A run at a rate of two to the exponent."""
    options = {"width": width, "layers": LAYERS, "heads": HEADS, "dropout": 0.0, "context": WINDOW}
    if kind == "mup":
        options |= {"parametrization": "mup", "base_width": BASE}
    return TrainConfig(
        learning_rate=2.0**exponent,
        batch_size=BATCH,
        precision=given.precision,
        steps=given.steps,
        evaluate_every=given.steps,
        seed=seed,
        optimizer="adamw",
        weight_decay=0.1,
        decayed="matrices",
        lr_schedule=LRSchedule(name="linear", warmup_share=0.2),
        clip_schedule=((0, 1.0),),
        model=ModelConfig(name="gpt", options=options),
        data=DataConfig(name="docstrings", tokenizer="bytes", window=WINDOW, stride=WINDOW // 2,
                        pack=True, attend="window", train_sequences=40_000,
                        validation_sequences=2000),
    )  # fmt: skip


def losses_of(configs: list[TrainConfig], folder: Path) -> list[float]:
    """Final validation losses, nats a byte, of runs side by side; infinite where one diverges."""
    cohort, losses = Lockstep(), [math.inf] * len(configs)
    for number, config in enumerate(configs):
        place = Path(tempfile.mkdtemp(dir=folder))
        cohort.add(number, partial(train_stepwise, config, device="cpu", directory=place))
    while said := cohort.advance():
        for number, word in said.items():
            if isinstance(word, Report):
                losses[number] = word.validation_loss
            if isinstance(word, Ending) and word.outcome not in ENDS:
                raise SystemExit(word.message)
    return losses


def lowest(exponents: list[int], losses: np.ndarray) -> float:
    """Log2 of the rate at the lowest point of the parabola through three neighbours."""
    left, middle, right = losses
    if not np.isfinite(losses).all() or left - 2 * middle + right <= 0:
        return exponents[1]
    return exponents[1] + float(np.clip((left - right) / (left - 2 * middle + right) / 2, -1, 1))


def best_of(width: int, kind: str, begin: int, given: argparse.Namespace, folder: Path) -> float:
    """Log2 of the best rate: its mean over the seeds' parabolas; prints what was found."""
    began, found = time.process_time(), {}
    wanted = [begin - 1, begin, begin + 1]
    while wanted:
        runs = [(exponent, seed) for exponent in wanted for seed in range(given.seeds)]
        configs = [config_of(*run, width, kind, given) for run in runs]
        losses = np.array(losses_of(configs, folder)).reshape(len(wanted), given.seeds)
        found |= dict(zip(wanted, losses, strict=True))
        middle = min(found, key=lambda exponent: found[exponent].mean())
        wanted = [each for each in (middle - 1, middle + 1) if each not in found]
    near = [middle - 1, middle, middle + 1]
    bests = [lowest(near, each) for each in np.array([found[exponent] for exponent in near]).T]
    best = lowest(near, np.array([found[exponent].mean() for exponent in near]))
    error = np.std(bests, ddof=1) / len(bests) ** 0.5 if len(bests) > 1 else 0.0
    known = f", to a factor of {2**error:.2f}" if error else ""
    points = "  ".join(f"{2.0**each:.2e} {found[each].mean():.4f}" for each in sorted(found))
    print(
        f"{kind:9} width {width:4}  best {2**best:.2e}{known}  {points}"
        f"  ({time.process_time() - began:.0f} s of CPU)",
        flush=True,
    )
    return best


def main() -> None:
    """Prints a line a width, and how far the best rates lie apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", default="64,128,256")
    parser.add_argument("--kinds", default="standard,mup")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--precision", default="bf16")
    given = parser.parse_args()
    widths = [int(width) for width in given.widths.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        load_corpus(config_of(FIRST, 0, BASE, "mup", given).data, Path(folder))  # once for all runs
        for kind in given.kinds.split(","):
            begin, best = FIRST, []
            for width in widths:
                best.append(best_of(width, kind, begin, given, Path(folder)))
                begin = round(best[-1])
            apart, moved = 2 ** (max(best) - min(best)), 2 ** (best[-1] - best[0])
            print(f"{kind}: from the narrowest to the widest the best rate moves by {moved:.2f}, "
                  f"all lie within a factor of {apart:.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
