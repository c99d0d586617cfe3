"""A training step's time in each precision, and the loss's by chunk. Run by hand.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_half.py [small] [full] [gpt] [chunks]

Precisions take turns, so that a load from elsewhere strikes all of them alike; medians. On a
machine that others use, more than one thread measures their load.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

import trainers.kernels.cross_entropy
from trainers.config import ModelConfig, PrecisionName
from trainers.kernels.cross_entropy import linear_cross_entropy
from trainers.models import build_model
from trainers.precision import Precision
from trainers.steps.loss import sequence_loss

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
VOCABULARY = 1000
NAMES: tuple[PrecisionName, ...] = ("fp32", "fp16", "bf16")
SMALL = ModelConfig(options={"embed": 64, "hidden": 128, "layers": 2, "context": 64})
RUNS = {
    "small": [(SMALL, 32, 16), (SMALL, 2048, 16)],
    "full": [(ModelConfig(), 32, 64), (ModelConfig(), 256, 64)],
    "gpt": [(ModelConfig(name="gpt", options={"width": 64, "layers": 2}), 32, 16)],
}


def batch(rows: int, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random tokens in rows of half a window to a whole one."""
    generator = torch.Generator().manual_seed(0)
    lengths_B = torch.randint(window // 2, window + 1, (rows,), generator=generator)
    tokens_BT = torch.randint(4, VOCABULARY, (rows, window), generator=generator)
    return tokens_BT.to(DEVICE), lengths_B.sort(descending=True).values


def training_step(config: ModelConfig, name: PrecisionName, rows: int, window: int) -> Callable:
    torch.manual_seed(0)
    model = build_model(config, VOCABULARY).to(DEVICE)
    precision = Precision(name, DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    tokens_BT, lengths_B = batch(rows, window)

    def step() -> None:
        optimizer.zero_grad()
        with precision.forward():
            loss = sequence_loss(model, tokens_BT, lengths_B)
        with precision.products():
            precision.scaled(loss.nats / loss.targets).backward()
        precision.unscale(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        precision.step(optimizer)

    return step


def seconds(step: Callable) -> float:
    start = time.perf_counter()
    step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turns(steps: dict[str, Callable], budget: float) -> dict[str, float]:
    """Median seconds of each, after one step to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(taken[next(iter(taken))]) < 3:
        for name, step in steps.items():
            taken[name].append(seconds(step))
    return {name: statistics.median(times) for name, times in taken.items()}


def steps_by_precision(config: ModelConfig, rows: int, window: int) -> None:
    targets = int((batch(rows, window)[1] - 1).sum())
    print(f"{config.name} {config.options or ''} batch {rows}, window {window}")
    times = in_turns({n: training_step(config, n, rows, window) for n in NAMES}, budget=6)
    for name, median in times.items():
        print(
            f"  {name}  {median * 1e3:8.1f} ms  {median / times['fp32']:5.2f} x fp32"
            f"  {targets / median:9,.0f} tokens/s",
            flush=True,
        )


def loss_by_chunk(positions: int, hidden: int, chunks: tuple[int, ...]) -> None:
    print(f"loss of {positions:,} positions, hidden {hidden}: ms by chunk")
    weight = torch.randn(VOCABULARY, hidden, device=DEVICE, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (positions,), device=DEVICE)
    for name in NAMES:
        precision = Precision(name, DEVICE)
        x = torch.randn(positions, hidden, device=DEVICE).requires_grad_()

        def step(chunk: int, precision: Precision = precision, x: torch.Tensor = x) -> None:
            trainers.kernels.cross_entropy.CHUNK[DEVICE.type] = chunk
            with precision.forward():
                nats, _ = linear_cross_entropy(0.01 * x, weight, None, targets)
            with precision.products():
                precision.scaled(nats / positions).backward()

        times = in_turns({str(c): lambda c=c, s=step: s(c) for c in chunks}, budget=4)
        print(
            f"  {name}  " + "  ".join(f"{c}: {t * 1e3:.1f}" for c, t in times.items()), flush=True
        )


if __name__ == "__main__":
    chosen = sys.argv[1:] or [*RUNS, "chunks"]
    print(f"torch {torch.__version__}, {DEVICE}, {torch.get_num_threads()} threads")
    for run in chosen:
        for arguments in RUNS.get(run, []):
            steps_by_precision(*arguments)
    if "chunks" in chosen:
        loss_by_chunk(20_000, 128, (256, 512, 1024, 2048, 4096))
        loss_by_chunk(6_000, 512, (256, 512, 1024, 2048, 4096))
