"""gpt in the trainer against a plain nanoGPT-like loop, on full windows. Run by hand.

    OMP_NUM_THREADS=1 PYTHONPATH=tests:tests/benchmarks python tests/benchmarks/bench_gpt.py

All sides take turns on the same tokens, AdamW and clipping on both; the least time of each counts.
The bound is the time of the step's matrix products alone, in that precision: no loop of the same
model takes less, whatever its other operations take.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from bench_trainer import in_turns
from cuda_speed import Plain
from torch import nn

from trainers.batches import Batch
from trainers.config import DataConfig, ModelConfig, PrecisionName, TrainConfig
from trainers.length import length_of
from trainers.member import Member
from trainers.steps.cohort import step_alone

CPU = torch.device("cpu")
WORDS, WINDOW = 1000, 64
TYPES: dict[PrecisionName, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
SIZE = {"width": 256, "layers": 4, "heads": 4, "context": WINDOW, "dropout": 0.0}


def ours(tokens_BT: torch.Tensor, precision: PrecisionName) -> Callable[[], object]:
    """A step of the trainer."""
    rows = len(tokens_BT)
    config = TrainConfig(
        learning_rate=1e-3,
        batch_size=rows,
        precision=precision,
        optimizer="adamw",
        weight_decay=0.1,
        decayed="matrices",
        clip_schedule=((0, 1.0),),
        model=ModelConfig(name="gpt", options=SIZE),
        data=DataConfig(window=WINDOW, stride=WINDOW // 2),
    )
    member = Member(config, WORDS, length_of(config, 1), CPU)
    batch = Batch(tokens_BT, torch.full((rows,), WINDOW), torch.zeros(rows, dtype=torch.int64))
    return lambda: step_alone(member, batch)


def plain(tokens_BT: torch.Tensor, precision: PrecisionName) -> Callable[[], object]:
    """A step by hand: autocast, all logits at once, fused AdamW."""
    model = Plain(WORDS, **SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(tokens_BT)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def products(rows: int, precision: PrecisionName) -> Callable[[], object]:
    """The matrix products of a step, forward and backward, one after another, and nothing else."""
    width, layers, heads = SIZE["width"], SIZE["layers"], SIZE["heads"]
    of_type = {"dtype": TYPES[precision]}
    positions, calls = rows * (WINDOW - 1), []
    sides = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)] * layers
    for inputs, outputs in [*sides, (width, WORDS)]:
        x, weight = (
            torch.randn(positions, inputs, **of_type),
            torch.randn(outputs, inputs, **of_type),
        )
        y = torch.randn(positions, outputs, **of_type)  # its gradient in the backward pass
        for left, right in ((x, weight.mT), (y, weight), (y.mT, x)):
            calls.append(partial(torch.mm, left, right))
    for _ in range(layers):
        all_heads = (rows * heads, WINDOW - 1, width // heads)
        query, key, value, mixed = (torch.randn(all_heads, **of_type) for _ in range(4))
        scores = torch.randn(rows * heads, WINDOW - 1, WINDOW - 1, **of_type)
        forward = ((query, key.mT), (scores, value))
        backward = ((mixed, value.mT), (scores.mT, mixed), (scores, key), (scores.mT, query))
        for left, right in forward + backward:
            calls.append(partial(torch.bmm, left, right))

    def step() -> None:
        for call in calls:
            call()

    return step


def main() -> None:
    """Prints a line a batch size and precision, and what BF16 gains at each batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each comparison")
    seconds = parser.parse_args().seconds
    torch.manual_seed(0)
    for rows in (32, 256):
        tokens_BT = torch.randint(4, WORDS, (rows, WINDOW))
        sides = {}
        for precision in TYPES:
            sides |= {
                f"ours {precision}": ours(tokens_BT, precision),
                f"plain {precision}": plain(tokens_BT, precision),
                f"bound {precision}": products(rows, precision),
            }
        least = in_turns(sides, 2 * seconds)
        for precision in TYPES:
            here, there, bound = (least[f"{it} {precision}"] for it in ("ours", "plain", "bound"))
            print(
                f"batch {rows:3} {precision}: {rows * (WINDOW - 1) / here:7,.0f} tokens/s, "
                f"{there / here:.2f} times plain's {rows * (WINDOW - 1) / there:7,.0f}; "
                f"the products alone are {bound / here:.0%} of a step, "
                f"{there / bound:.2f} times plain's at most",
                flush=True,
            )
        gains = {it: least[f"{it} fp32"] / least[f"{it} bf16"] for it in ("ours", "plain", "bound")}
        shown = ", ".join(f"{it} {gain:.2f}" for it, gain in gains.items())
        print(f"batch {rows:3}: BF16 over FP32: {shown}", flush=True)


if __name__ == "__main__":
    main()
