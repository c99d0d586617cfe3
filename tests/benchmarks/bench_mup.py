"""Whether the best rate of gpt stays where its width grows: standard parametrization and muP.

    PYTHONPATH=. python tests/benchmarks/bench_mup.py [--widths 64,128,256,512] [--steps 300]
        [--precision fp32]

Trains on the docstrings at every width and rate of a grid (factor sqrt(2)), AdamW, a warm-up over a
fifth of the steps and a linear decay to zero, and prints the final validation loss, the rate at the
lowest point of a parabola through the best five, and how far the best rates lie apart.
"""

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np

from trainers.config import DataConfig, LRSchedule, ModelConfig, TrainConfig
from trainers.report import Report
from trainers.train import train

BASE, LAYERS, HEADS, BATCH, WINDOW = 64, 2, 2, 32, 32
LOWEST, FACTOR, MOST = 2**-9, math.sqrt(2), 14


def loss_of(rate: float, width: int, kind: str, given: argparse.Namespace, folder: Path) -> float:
    """Final validation loss, nats a token; infinite where it diverges."""
    options = {"width": width, "layers": LAYERS, "heads": HEADS, "dropout": 0.0, "context": WINDOW}
    if kind == "mup":
        options |= {"parametrization": "mup", "base_width": BASE}
    config = TrainConfig(
        learning_rate=rate,
        batch_size=BATCH,
        precision=given.precision,
        steps=given.steps,
        evaluate_every=given.steps,
        optimizer="adamw",
        weight_decay=0.1,
        decayed="matrices",
        lr_schedule=LRSchedule(name="linear", warmup_share=0.2),
        clip_schedule=((0, 1.0),),
        model=ModelConfig(name="gpt", options=options),
        data=DataConfig(name="docstrings", window=WINDOW, stride=WINDOW // 2,
                        train_sequences=40_000, validation_sequences=1000),
    )  # fmt: skip
    run = train(config, device="cpu", directory=folder / f"{kind}-{width}-{rate:.3g}")
    losses = [said.validation_loss for said in run if isinstance(said, Report)]
    return losses[-1] if losses else math.inf


def best_of(rates: list[float], losses: list[float]) -> float:
    """The rate at the lowest point of a parabola through the five runs around the best one."""
    at = int(np.argmin(losses))
    near = slice(max(0, at - 2), at + 3)
    x, y = np.log(rates[near]), np.array(losses[near])
    curve = np.polyfit(x[np.isfinite(y)], y[np.isfinite(y)], 2)
    lowest = -curve[1] / (2 * curve[0]) if curve[0] > 0 else math.log(rates[at])
    return math.exp(min(max(lowest, x[0]), x[-1]))


def sweep(width: int, kind: str, begin: int, given: argparse.Namespace, folder: Path) -> float:
    """Walks from a rate of the grid to the lowest and two rates beyond it on both sides."""
    found: dict[int, float] = {}

    def at(number: int) -> float:
        if number not in found:
            found[number] = loss_of(LOWEST * FACTOR**number, width, kind, given, folder)
        return found[number]

    at(begin)
    while True:
        best = min(found, key=lambda number: found[number])
        missing = [n for n in range(best - 2, best + 3) if n not in found and -8 <= n <= MOST]
        if not missing:
            break
        for number in missing:
            at(number)
    numbers = sorted(found)
    rates = [LOWEST * FACTOR**number for number in numbers]
    best_rate = best_of(rates, [found[number] for number in numbers])
    points = "  ".join(f"{r:.2e} {found[n]:.3f}" for r, n in zip(rates, numbers, strict=True))
    print(f"{kind:9} width {width:4}  best {best_rate:.2e}  {points}", flush=True)
    return best_rate


def main() -> None:
    """Prints a line a width, and the ratio of the best rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", default="64,128,256,512")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()
    widths = [int(width) for width in given.widths.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("standard", "mup"):
            begin, best = 4, []
            for width in widths:
                best.append(sweep(width, kind, begin, given, Path(folder)))
                begin = round(math.log(best[-1] / LOWEST, FACTOR))
            print(f"{kind}: best rates within a factor of {max(best) / min(best):.2f}", flush=True)


if __name__ == "__main__":
    main()
