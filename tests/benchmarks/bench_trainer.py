"""The trainer against its plain form and against what matrix products allow. Run by hand.

    export OMP_PROC_BIND=spread OMP_PLACES=cores GOMP_SPINCOUNT=30000
    PYTHONPATH=tests python tests/benchmarks/bench_trainer.py speed precision cohort memory outside

On a quiet machine, its threads bound as in training (`execution.threads`). What is compared takes
turns, so that a load from elsewhere strikes all sides alike; the least time of each counts. The
bound is the time that the same products take by `torch.mm`, measured in the same turns (on CUDA in
a graph, without a launch each): products of a position's rows where the recurrence forces them,
products over all positions elsewhere.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import islice

import torch
from plain_context_vector import PlainContextVector

from trainers.batches import Batch, Batches
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.data import Sequences
from trainers.evaluate import evaluate
from trainers.kernels.graphs import recordings
from trainers.length import length_of
from trainers.member import Member
from trainers.models import parameter_count
from trainers.steps.cohort import step_alone, step_together
from trainers.stretch import Stretch
from trainers.train import batches_from

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
VOCABULARY = 1000
MODELS = {
    "full": ({"embed": 256, "hidden": 512, "layers": 6, "context": 256}, 64),
    "small": ({"embed": 64, "hidden": 128, "layers": 2, "context": 64}, 16),
}
Product = tuple[int, int, int]
OPERATIONS = {"cpu": 2e8, "cuda": 2e10}
"""Of the products that are timed together."""


def batch_of(rows: int, window: int) -> Batch:
    """Full windows of random tokens."""
    tokens_BT = torch.randint(4, VOCABULARY, (rows, window), device=DEVICE)
    return Batch(tokens_BT, torch.full((rows,), window), torch.zeros(rows, dtype=torch.int64))


def member_of(model: str, rows: int, precision: str = "fp32") -> Member:
    options, window = MODELS[model]
    config = TrainConfig(
        learning_rate=1e-3,
        batch_size=rows,
        precision=precision,
        model=ModelConfig(options=options),
        data=DataConfig(window=window, stride=window // 2),
    )
    return Member(config, VOCABULARY, length_of(config, 1), DEVICE)


def plain_step(model: str, rows: int) -> Callable[[], None]:
    """The same step by the plain form and torch's own loop."""
    options, window = MODELS[model]
    plain = PlainContextVector(VOCABULARY, **options).to(DEVICE)
    optimizer = torch.optim.Adam(plain.parameters(), 1e-3)
    tokens_BT = batch_of(rows, window).tokens_BT

    def step() -> None:
        optimizer.zero_grad()
        (plain.nats(tokens_BT) / (rows * (window - 1))).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()

    return step


def products(model: str, rows: int) -> dict[Product, int]:
    """Each product (n, k, m) of a step, and how often: forward, input and weight gradients."""
    o, window = MODELS[model]
    embed, hidden, layers, context = (o[k] for k in ("embed", "hidden", "layers", "context"))
    positions = window - 1
    every = rows * positions
    found: dict[Product, int] = {}

    def add(shape: Product, times: int) -> None:
        found[shape] = found.get(shape, 0) + times

    inner = [(hidden, hidden)] * (layers - 1) + [(context, hidden), (hidden, 3 * context)]
    for k, m in inner:
        add((rows, k, m), positions)  # forward
        add((rows, m, k), positions)  # the input's gradient
        add((k, every, m), 1)  # the weight's, over all positions
    for k, m in ((embed, hidden), (hidden, VOCABULARY)):
        add((every, k, m), 1)
        add((every, m, k), 1)
        add((k, every, m), 1)
    return found


def flops(found: dict[Product, int]) -> float:
    return sum(2.0 * n * k * m * times for (n, k, m), times in found.items())


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turns(calls: dict[str, Callable[[], object]], budget_s: float) -> dict[str, float]:
    """The least seconds of each, after one call to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.perf_counter() + budget_s
    while time.perf_counter() < end or len(next(iter(taken.values()))) < 3:
        for name, call in calls.items():
            taken[name].append(seconds(call))
    return {name: min(times) for name, times in taken.items()}


def product_calls(found: dict[Product, int]) -> dict[str, Callable[[], object]]:
    """`torch.mm` of each shape, by its name."""
    calls: dict[str, Callable[[], object]] = {}
    for n, k, m in found:
        left, right = torch.randn(n, k, device=DEVICE), torch.randn(k, m, device=DEVICE)
        repeat = max(1, int(OPERATIONS[DEVICE.type] / (2 * n * k * m)))
        calls[f"{n} {k} {m} {repeat}"] = recorded(partial(_repeat, repeat, left, right))
    return calls


def recorded(call: Callable[[], None]) -> Callable[[], None]:
    """On CUDA, one launch of all its kernels: a product's time is not the host's."""
    if DEVICE.type != "cuda":
        return call
    call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()

    def replay(_: object = call) -> None:  # the call holds the memory that the graph reads
        graph.replay()

    return replay


def _repeat(times: int, left: torch.Tensor, right: torch.Tensor) -> None:
    for _ in range(times):
        torch.mm(left, right)


def bound_s(found: dict[Product, int], times: dict[str, float]) -> float:
    """What the products alone take."""
    total = 0.0
    for name, taken in times.items():
        n, k, m, repeat = map(int, name.split())
        total += found[n, k, m] * taken / repeat
    return total


def unrecorded(step: Callable[[Batch], object], batch: Batch) -> None:
    """A step whose kernels are launched one by one."""
    with recordings.off():
        step(batch)


def speed(budget_s: float) -> None:
    """The fast form against the plain one and the bound."""
    print("fast and plain form, FP32: ms a step, tokens/s, GFLOP/s, share of the bound")
    for model in MODELS:
        for rows in (32, 256):
            found = products(model, rows)
            member, batch = member_of(model, rows), batch_of(rows, MODELS[model][1])
            sides = {"plain": plain_step(model, rows), "fast": partial(step_alone, member, batch)}
            if DEVICE.type == "cuda":
                sides["unrecorded"] = partial(unrecorded, partial(step_alone, member), batch)
            mms = product_calls(found)
            times = in_turns({**sides, **mms}, budget_s)
            bound = bound_s(found, {name: times[name] for name in mms})
            print(f" {model}, {parameter_count(member.model):,} parameters, batch {rows}")
            for name, taken in {**{n: times[n] for n in sides}, "bound": bound}.items():
                print(
                    f"  {name:10}{taken * 1e3:9.1f} ms {batch.targets / taken:10,.0f} tokens/s"
                    f" {flops(found) / taken / 1e9:7.1f} GFLOP/s {bound / taken:7.0%}"
                )
            print(f"  fast is {times['plain'] / times['fast']:.2f} times as fast", flush=True)


def precision(budget_s: float) -> None:
    """FP16 and, on CUDA, BF16 against FP32 (torch has no fast BF16 on this CPU)."""
    print("precisions: ms a step, against FP32")
    for model in MODELS:
        for rows in (32, 256, 2048):
            batch = batch_of(rows, MODELS[model][1])
            names = ("fp32", "fp16", "bf16") if DEVICE.type == "cuda" else ("fp32", "fp16")
            steps = {n: partial(step_alone, member_of(model, rows, n), batch) for n in names}
            times = in_turns(steps, budget_s)
            parts = [f"{n} {t * 1e3:8.1f} ({t / times['fp32']:.2f})" for n, t in times.items()]
            print(f"  {model:5} batch {rows:5}: " + "  ".join(parts), flush=True)


def cohort(budget_s: float) -> None:
    """K members together against as many in turn, and what the bound leaves to be gained."""
    print("cohorts at batch 32, FP32: tokens/s of 8 in turn, of K together, and the bound")
    for model in MODELS:
        batch, found = batch_of(32, MODELS[model][1]), products(model, 32)
        members = [member_of(model, 32) for _ in range(8)]
        sides: dict[str, Callable[[], object]] = {"1": partial(step_alone, members[0], batch)}
        for size in (2, 4, 8):
            sides[str(size)] = partial(step_together, members[:size], [batch] * size)
        mms = product_calls(found)
        times = in_turns({**sides, **mms}, budget_s)
        bound = bound_s(found, {name: times[name] for name in mms})
        print(f" {model}: in turn {batch.targets / times['1']:,.0f}")
        for size in (2, 4, 8):
            gain = size * times["1"] / times[str(size)]
            rate = size * batch.targets / times[str(size)]
            share = size * bound / times[str(size)]
            print(f"  K={size} {rate:10,.0f}  {gain:.2f} times, {share:.0%} of the bound")
        print(f"  bound {batch.targets / bound:10,.0f}  {times['1'] / bound:.2f} times", flush=True)


def memory(rows: int) -> None:
    """Peak memory of a step at a large batch, each form in a process of its own."""
    print(f"peak memory of a step of the full model at batch {rows}, FP32")
    peaks = {}
    for form in ("none", "512", "fast", "plain"):
        command = [sys.executable, __file__, "--only", form, "--rows", str(rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak, taken = done.stdout.split()
        peaks[form] = int(peak)
        print(f"  {form:5} {peaks[form] / 2**30:6.2f} GiB {float(taken):6.3f} s a step", flush=True)
    for form, words in (("fast", "all rows that fit"), ("512", "512 rows at once")):
        share = (peaks[form] - peaks["none"]) / (peaks["plain"] - peaks["none"])
        print(f"  {words}: {share:.0%} of the plain form's, both without the empty process")


def only(form: str, rows: int) -> None:
    """Steps of one form; prints the peak in bytes, and the seconds of the last step."""
    taken = 0.0
    if form == "plain":
        taken = seconds(plain_step("full", rows))
    elif form != "none":
        member, batch = member_of("full", rows), batch_of(rows, 64)
        if form == "512":
            member.limit_rows(512)
        for _ in range(3):  # on CUDA the second one is recorded
            taken = seconds(partial(step_alone, member, batch))
    if DEVICE.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(peak, taken)


def outside(budget_s: float) -> None:
    """The share of an epoch's time that is spent on batches and bookkeeping, not in the model."""
    print("share of an epoch's time outside the model")
    for model, rows in (("small", 32), ("small", 2048), ("full", 32)):
        window = MODELS[model][1]
        count = 4096 if model == "small" else 256
        tokens = torch.randint(4, VOCABULARY, (count, window))
        one = torch.ones(count, dtype=torch.int64)
        data = Batches(Sequences(tokens, one * window, one), DEVICE)
        member = member_of(model, rows)
        batches = list(data.shuffled(rows, 0, 1))

        def inside(member: Member = member, batches: list[Batch] = batches) -> None:
            for batch in batches:
                step_alone(member, batch)

        def epoch(member: Member = member, data: Batches = data, steps: int = len(batches)) -> None:
            member.stretch = Stretch()
            for batch in islice(batches_from(member, data), steps):
                nats, stepped = step_alone(member, batch)
                member.stretch.add(nats, batch.targets, stepped=stepped)
            member.stretch.mean_loss()

        times = in_turns({"model": inside, "epoch": epoch}, budget_s)
        print(f"  {model:5} batch {rows:5}: {1 - times['model'] / times['epoch']:.1%}", flush=True)
        evaluate(member.model, data)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=["speed", "precision", "cohort", "outside"])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each comparison")
    parser.add_argument("--rows", type=int, default=2048, help="of the memory comparison")
    parser.add_argument("--only", choices=["none", "512", "fast", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        only(options.only, options.rows)
        return
    print(f"torch {torch.__version__}, {DEVICE}, {torch.get_num_threads()} threads")
    for what in options.what:
        if what == "memory":
            memory(options.rows)
        else:
            {"speed": speed, "precision": precision, "cohort": cohort, "outside": outside}[what](
                options.seconds
            )


if __name__ == "__main__":
    main()
