"""gpt in the trainer against a plain nanoGPT-like loop, on full windows. Run by hand.

    export OMP_PROC_BIND=spread OMP_PLACES=cores GOMP_SPINCOUNT=30000
    PYTHONPATH=tests:tests/benchmarks python tests/benchmarks/bench_gpt.py

Both sides take turns on the same tokens, AdamW and clipping on both; the least time of each counts.
"""

import argparse
from collections.abc import Callable

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


def main() -> None:
    """Prints a line a batch size and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each comparison")
    seconds = parser.parse_args().seconds
    torch.manual_seed(0)
    for rows in (32, 256):
        tokens_BT = torch.randint(4, WORDS, (rows, WINDOW))
        for precision in ("fp32", "bf16"):
            sides = {"ours": ours(tokens_BT, precision), "plain": plain(tokens_BT, precision)}
            least = in_turns(sides, seconds)
            speeds = {side: rows * (WINDOW - 1) / taken for side, taken in least.items()}
            print(
                f"batch {rows:3} {precision}: {speeds['ours']:7,.0f} tokens/s, plain "
                f"{speeds['plain']:7,.0f}: {speeds['ours'] / speeds['plain']:.2f} times",
                flush=True,
            )


if __name__ == "__main__":
    main()
