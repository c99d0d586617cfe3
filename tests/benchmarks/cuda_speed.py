"""The trainer's speed on a CUDA device, beside a plain loop; `cuda.sh` calls it.

    PYTHONPATH=tests python tests/benchmarks/cuda_speed.py context_vector gpt plain >> speeds.jsonl
    PYTHONPATH=tests python tests/benchmarks/cuda_speed.py table < speeds.jsonl

Each line is a measurement; what cannot be measured is a line that says why. `--smoke` does the same
with tiny models on the CPU.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from trainers.config import DataConfig, ModelConfig, PrecisionName, TrainConfig
from trainers.kernels.graphs import recordings
from trainers.measuring.speed import measure_speed, product_flops_per_second
from trainers.models import parameter_count

PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "tf32", "bf16", "fp16")
GPT = {"width": 768, "layers": 12, "heads": 12, "context": 1024, "dropout": 0.0}
SMALL_GPT = {"width": 32, "layers": 2, "heads": 2, "context": 32, "dropout": 0.0}
WORDS, SMALL_WORDS = 50257, 100
ROWS, SMALL_ROWS = 16, 4
COLUMNS = ("model", "batch", "precision", "cohort", "ms", "tokens/s", "TFLOP/s", "of peak", "GiB")
Line = dict[str, Any]


def context_vector(smoke: bool, device: torch.device) -> Iterator[Callable[[], Line]]:
    """The full model of the CUDA profile."""
    options = {"embed": 16, "hidden": 32, "layers": 2, "context": 16} if smoke else {}
    for precision in PRECISIONS:
        for rows, cohort in ((32, 1), (32, 4), (64 if smoke else 2048, 1)):
            config = TrainConfig(
                learning_rate=1e-3,
                batch_size=rows,
                precision=precision,
                model=ModelConfig(options=options),
            )
            yield partial(ours, config, cohort, device)


def gpt(smoke: bool, device: torch.device) -> Iterator[Callable[[], Line]]:
    """GPT-2's small size, its head untied; without dropout, and with it in BF16."""
    kinds: tuple[tuple[PrecisionName, float, bool], ...] = (
        ("bf16", 0.0, False),
        ("bf16", 0.0, True),
        ("fp16", 0.0, False),
        ("tf32", 0.0, False),
        ("fp32", 0.0, False),
        ("bf16", 0.1, False),
    )
    for precision, dropout, compiled in kinds:
        window = 32 if smoke else 1024
        config = TrainConfig(
            learning_rate=1e-3,
            batch_size=SMALL_ROWS if smoke else ROWS,
            precision=precision,
            optimizer="adamw",
            model=ModelConfig(
                name="gpt",
                options=(SMALL_GPT if smoke else GPT)
                | {"dropout": dropout, "compile_blocks": compiled},
            ),
            data=DataConfig(
                window=window, stride=window // 2, vocabulary_size=SMALL_WORDS if smoke else WORDS
            ),
        )
        yield partial(ours, config, 1, device)


def plain(smoke: bool, device: torch.device) -> Iterator[Callable[[], Line]]:
    """The same model as nanoGPT trains it."""
    for compiled in (False, True):
        yield partial(by_hand, smoke, device, compiled)


def ours(config: TrainConfig, cohort: int, device: torch.device) -> Line:
    """A measurement of `sweep bench`."""
    dropout = config.model.options.get("dropout")
    compiled = ", compiled" if config.model.options.get("compile_blocks") else ""
    name = config.model.name + (f" dropout {dropout}" if dropout else "") + compiled
    try:
        return {**asdict(measure_speed(config, cohort, device)), "model": name}
    except Exception as error:
        return failed(name, config.batch_size, config.precision, cohort, error)


def by_hand(smoke: bool, device: torch.device, compiled: bool) -> Line:
    """A measurement of the plain loop: autocast to BF16, fused AdamW, all logits at once."""
    name, rows = "plain loop" + (", compiled" if compiled else ""), SMALL_ROWS if smoke else ROWS
    window = 32 if smoke else 1024
    words = SMALL_WORDS if smoke else WORDS
    try:
        torch.manual_seed(0)
        model: nn.Module = Plain(words, **(SMALL_GPT if smoke else GPT)).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
        called = torch.compile(model) if compiled else model
        tokens_BT = torch.randint(4, words, (rows, window), device=device)

        def step(network: Callable[..., Tensor] = called) -> None:
            with torch.autocast(device.type, torch.bfloat16):
                loss = network(tokens_BT)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        with FlopCounterMode(display=False) as counter:
            step(model)
        step_s = fastest(step, device)
        flops = counter.get_total_flops() / step_s
        config = TrainConfig(learning_rate=1.0, precision="bf16")
        return {
            "model": name,
            "parameters": parameter_count(model),
            "batch_size": rows,
            "precision": "bf16",
            "cohort": 1,
            "step_s": step_s,
            "tokens_per_second": rows * (window - 1) / step_s,
            "flops_per_second": flops,
            "share_of_peak": flops / product_flops_per_second(config, device),
            "peak_memory_bytes": peak(device),
        }
    except Exception as error:
        return failed(name, rows, "bf16", 1, error)


class Plain(nn.Module):
    """nanoGPT's model in a few lines."""

    def __init__(
        self, words: int, width: int, layers: int, heads: int, context: int, dropout: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.embedding, self.positions = nn.Embedding(words, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.LayerNorm(width),
                    nn.Linear(width, 3 * width),
                    nn.Linear(width, width),
                    nn.LayerNorm(width),
                    nn.Linear(width, 4 * width),
                    nn.Linear(4 * width, width),
                ]
            )
            for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        inputs_BT, targets_BT = tokens_BT[:, :-1], tokens_BT[:, 1:]
        rows, length = inputs_BT.shape
        x_BTW = self.embedding(inputs_BT) + self.positions.weight[:length]
        for norm, qkv, out, mlp_norm, wide, narrow in self.blocks:
            split = qkv(norm(x_BTW)).view(rows, length, 3, self.heads, -1).transpose(1, 3)
            mixed = F.scaled_dot_product_attention(*split.unbind(2), is_causal=True)
            x_BTW = x_BTW + out(mixed.transpose(1, 2).reshape(rows, length, -1))
            x_BTW = x_BTW + narrow(F.gelu(wide(mlp_norm(x_BTW))))
        logits_NV = self.head(self.norm(x_BTW)).flatten(0, 1)
        return F.cross_entropy(logits_NV, targets_BT.flatten())


def fastest(step: Callable[[], None], device: torch.device) -> float:
    """Seconds of the fastest step within three seconds, after one to warm up (and to compile)."""
    step()
    seconds: list[float] = []
    ends = time.perf_counter() + 3
    while len(seconds) < 3 or time.perf_counter() < ends:
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def peak(device: torch.device) -> int:
    """Bytes."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else 0


def failed(model: str, rows: int, precision: str, cohort: int, error: Exception) -> Line:
    """What stands in a measurement's place."""
    why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    about = {"batch_size": rows, "precision": precision, "cohort": cohort}
    return {"model": model, **about, "failed": why}


def table() -> None:
    """Prints the lines of stdin under each other."""
    shape = "{:<20} {:>5} {:>9} {:>6} {:>8} {:>11} {:>8} {:>8} {:>6}"
    print(shape.format(*COLUMNS))
    for line in map(json.loads, sys.stdin):
        about = [line[name] for name in ("model", "batch_size", "precision", "cohort")]
        if "failed" in line:
            print(f"{' '.join(map(str, about))}: {line['failed']}")
            continue
        numbers = (
            f"{1e3 * line['step_s']:.1f}",
            f"{line['tokens_per_second']:,.0f}",
            f"{line['flops_per_second'] / 1e12:.1f}",
            f"{line['share_of_peak']:.0%}",
            f"{line['peak_memory_bytes'] / 2**30:.1f}",
        )
        print(shape.format(*about, *numbers))


GROUPS = {"context_vector": context_vector, "gpt": gpt, "plain": plain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="+", choices=[*GROUPS, "table"])
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.what == ["table"]:
        return table()
    device = torch.device("cpu" if arguments.smoke else "cuda")
    for name in arguments.what:
        for measured in GROUPS[name](arguments.smoke, device):
            recordings.clear()
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            print(json.dumps(measured()), flush=True)
    return None


if __name__ == "__main__":
    main()
