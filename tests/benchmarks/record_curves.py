"""Records dense response curves: 24 learning rates from 1e-5 to 1, every epoch's validation loss.

    OMP_NUM_THREADS=1 python tests/benchmarks/record_curves.py [--set short|long|...]
                                              [--to FOLDER] [--text FILE] [--near 4]

The real trainer on real text, eight rates side by side. One part is one file of FOLDER: a slice
(what is trained), a batch size and a seed. Parts that are there are skipped, so the recording can
be stopped at any time and goes on where it was. What is held fixed stands in `SETS`, `EPOCHS` and
`config_of`; each file holds its whole configuration, the text's fingerprint and what it took. The
short runs (0.46 million tokens, in `curves`) took 26 minutes of one core: with so few steps at
batch 2048 they learn little more than word frequencies; only one of them, in FP16, diverged. The
long ones (1.94 million, in `curves-long`) took 79 minutes of one core. The held-out ones differ in
model, text, optimizer and schedule (`curves-held-out`; --text names a folder with the raw text of
WikiText-2's validation and test splits) and took 47 minutes of one core; the packed ones, of
subwords end to end and with a stable rate before its decay (`curves-packed`), 15; those of bytes
(`curves-bytes`) 25. Nobody looks at such a set before the search is done.

`--near` trains the rates that may be the best of each setting at so many more seeds, and keeps what
they came to in `near.json`: which rate is the best by a percent cannot be told of one to three runs
that differ by as much. Nothing is searched on those seeds. With four seeds that took 35 minutes of
one core for the held-out and for the long ones, 15 for those of bytes, 10 for the short ones, 9 for
the packed ones.
"""

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recorded import parts_in
from seed_runs import Part

from trainers.batches import Batches
from trainers.config import DataConfig, LRSchedule, ModelConfig, TrainConfig
from trainers.data import load_corpus
from trainers.data.files import write_atomically
from trainers.evaluate import evaluate_all
from trainers.length import length_of
from trainers.lockstep import Lockstep
from trainers.member import Member
from trainers.models import build_model, parameter_count
from trainers.report import Ending, Report
from trainers.steps.cohort import step_together
from trainers.train import train_stepwise

RATES = [float(f"{10 ** (-5 + 5 * n / 23):.4g}") for n in range(24)]
EPOCHS = 10
COHORT = 8
NEAR, FIRST_NEAR_SEED = 0.05, 10  # nats
MEASURED_COHORTS, MEASURED_STEPS = (1, 4, 8), 6
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Slice:
    """What is trained, but for batch size, seed and rate; `settings` are TrainConfig's others."""

    model: dict[str, int]
    settings: dict[str, Any] = field(default_factory=dict)
    batches: tuple[int, ...] = (128, 2048)
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class CurveSet:
    """A folder's curves: how many sequences of which text, and the slices, the main one first."""

    folder: str
    sequences: int
    validation: int
    slices: dict[str, Slice]
    text: str = "docstrings"
    model: str = "context_vector"
    window: int = 12
    data: dict[str, Any] = field(default_factory=dict)


TINY = {"embed": 16, "hidden": 32, "layers": 2, "context": 16}
SLICES = {
    "small": Slice(TINY, batches=(32, 128, 512, 2048), seeds=(0, 1, 2)),
    "cosine": Slice(TINY, {"lr_schedule": LRSchedule(name="cosine")}),
    "fp16": Slice(TINY, {"precision": "fp16"}),
    "larger": Slice({"embed": 32, "hidden": 64, "layers": 2, "context": 32}),
}
# As GPTs are trained (Brown et al. 2020, arXiv 2005.14165, appendix B), but for the line.
GPT = {"width": 32, "layers": 2, "heads": 2}
ADAMW: dict[str, Any] = {
    "optimizer": "adamw",
    "betas": (0.9, 0.95),
    "weight_decay": 0.1,
    "lr_schedule": LRSchedule(name="linear", warmup_share=0.1),
}
HELD_OUT = {
    "small": Slice(GPT, ADAMW, batches=(32, 128, 256), seeds=(0, 1, 2)),
    "fp16": Slice(GPT, {**ADAMW, "precision": "fp16"}, batches=(256,)),
    "larger": Slice({"width": 48, "layers": 2, "heads": 2}, ADAMW, batches=(128,)),
}
WSD = {**ADAMW, "lr_schedule": LRSchedule(name="wsd", warmup_share=0.1)}
PACKED = {
    "small": Slice(GPT, WSD, batches=(32, 128), seeds=(0, 1)),
    "muon": Slice(GPT, {**WSD, "optimizer": "muon"}, batches=(32,)),
}
BYTES = {
    "small": Slice(GPT, ADAMW, batches=(32, 128, 256), seeds=(0, 1)),
    "wide": Slice({"width": 64, "layers": 1, "heads": 2}, ADAMW, batches=(64,)),
}
SETS = {
    "short": CurveSet("curves", 4352, 1000, SLICES),  # batch 2048: 30 steps in all
    "long": CurveSet("curves-long", 18432, 2000, SLICES),  # 90
    "held-out": CurveSet(
        "curves-held-out", 6144, 1500, HELD_OUT, text="wikitext-2", model="gpt", window=16
    ),  # batch 256: 240
    "packed": CurveSet(
        "curves-packed",
        1536,
        500,
        PACKED,
        model="gpt",
        window=32,
        data={"tokenizer": "bpe", "pack": True},
    ),  # batch 128: 120
    "bytes": CurveSet(
        "curves-bytes",
        2560,
        500,
        BYTES,
        model="gpt",
        window=32,
        data={"tokenizer": "bytes", "pack": True},
    ),  # batch 256: 100
}


def parts(curves: CurveSet) -> Iterator[tuple[str, int, int]]:
    """Each (slice, batch size, seed), in the order to record them."""
    for name, each in curves.slices.items():
        for seed in each.seeds:
            yield from ((name, batch, seed) for batch in reversed(each.batches))


def config_of(
    curves: CurveSet, name: str, batch: int, seed: int, rate: float, text: str
) -> TrainConfig:
    """One run: Adam unless the slice says otherwise, no dropout, the usual clipping, no early stop.

    Args:
        curves: the set.
        name: the slice.
        batch: sequences a step.
        seed: of the run.
        rate: its learning rate.
        text: where the set's text is.
    """
    each = curves.slices[name]
    return TrainConfig(
        learning_rate=rate,
        batch_size=batch,
        epochs=EPOCHS,
        patience=EPOCHS,
        seed=seed,
        model=ModelConfig(name=curves.model, options={**each.model, "dropout": 0.0}),
        data=DataConfig(
            name=text,
            vocabulary_size=500,
            window=curves.window,
            stride=curves.window // 2,
            train_sequences=curves.sequences,
            validation_sequences=curves.validation,
            **curves.data,
        ),
        **each.settings,
    )


def train_all(configs: list[TrainConfig], folder: Path) -> list[dict[str, Any]]:
    """Trains some runs side by side; each one's losses in nats a token, and how it ended."""
    lockstep = Lockstep()
    for number, config in enumerate(configs):
        directory = folder / f"{config.learning_rate:g}"
        lockstep.add(number, partial(train_stepwise, config, device=CPU, directory=directory))
    runs: list[dict[str, Any]] = [
        {"rate": config.learning_rate, "losses": [], "skipped": 0} for config in configs
    ]
    while said := lockstep.advance():
        for number, word in said.items():
            if isinstance(word, Report):
                runs[number]["losses"].append(round(word.validation_loss, 5))
                runs[number]["skipped"] += word.skipped_steps
            elif isinstance(word, Ending):
                runs[number]["ending"] = str(word.outcome)
    return runs


def train_cohorts(configs: list[TrainConfig], corpus_folder: Path) -> list[dict[str, Any]]:
    """Trains runs of one seed, `COHORT` side by side."""
    runs: list[dict[str, Any]] = []
    for first in range(0, len(configs), COHORT):
        with tempfile.TemporaryDirectory(dir=corpus_folder) as folder:
            # The runs' directories lie beside the corpus's file: each of them reads that one.
            os.link(corpus_folder / "corpus.safetensors", Path(folder) / "corpus.safetensors")
            runs += train_all(configs[first : first + COHORT], Path(folder))
    return runs


def record_near(curves: CurveSet, to: Path, seeds: int, text: str, corpus_folder: Path) -> None:
    """Adds each setting's finals near its best rate to `near.json`: (seeds, rates), nats."""
    path = to / "near.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    numbers = range(FIRST_NEAR_SEED, FIRST_NEAR_SEED + seeds)
    recorded = parts_in(to)
    for name, batch in dict.fromkeys((part.kind, part.batch) for part in recorded):
        parts_there = [part for part in recorded if (part.kind, part.batch) == (name, batch)]
        setting = parts_there[0].name
        if len(found.get(setting, {}).get("seeds", ())) >= seeds:
            continue
        rates, finals = near_best(parts_there), []
        load_corpus(config_of(curves, name, batch, 0, rates[0], text).data, corpus_folder)
        for seed in numbers:
            configs = [config_of(curves, name, batch, seed, rate, text) for rate in rates]
            runs = train_cohorts(configs, corpus_folder)
            # NaN is no JSON: a run that diverged is null.
            finals.append([_final(run) for run in runs])
        found[setting] = {"rates": rates, "seeds": list(numbers), "finals": finals}
        rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(row)}" for key, row in found.items())
        write_atomically(path, f"{{\n{rows}\n}}\n".encode())
        print(f"{setting}: {len(rates)} rates at {seeds} seeds", flush=True)


def near_best(recorded: list[Part]) -> list[float]:
    """The rates within `NEAR` of the lowest mean over the seeds, and a neighbour on either side."""
    means = np.nan_to_num(np.mean([part.finals for part in recorded], axis=0), nan=np.inf)
    near = means <= means.min() + NEAR
    chosen = np.convolve(near, [1, 1, 1], mode="same") > 0
    return [rate for rate, there in zip(RATES, chosen, strict=True) if there]


def _final(run: dict[str, Any]) -> float | None:
    return min(run["losses"]) if len(run["losses"]) == EPOCHS else None


def record(
    curves: CurveSet, name: str, batch: int, seed: int, text: str, corpus_folder: Path
) -> dict[str, Any]:
    """One part: every rate's run, and what all of them have in common."""
    configs = [config_of(curves, name, batch, seed, rate, text) for rate in RATES]
    corpus = load_corpus(configs[0].data, corpus_folder)
    model = build_model(configs[0].model, len(corpus.vocabulary))
    wall, processor = time.monotonic(), time.process_time()
    runs = train_cohorts(configs, corpus_folder)
    common = asdict(configs[0])
    del common["learning_rate"]
    common["data"]["name"] = curves.text
    return {
        "slice": name,
        "batch": batch,
        "seed": seed,
        "parameters": parameter_count(model),
        "steps": EPOCHS * math.ceil(curves.sequences / batch),
        "tokens_an_epoch": corpus.train.targets,
        "validation_tokens": corpus.validation.scored,
        "unigram_perplexity": round(corpus.unigram_perplexity, 3),
        "fingerprint": corpus.fingerprint,
        "torch": torch.__version__,
        "cohort": COHORT,
        "processor_s": round(time.process_time() - processor, 1),
        "wall_s": round(time.monotonic() - wall, 1),
        "config": common,
        "runs": runs,
    }


def costs(curves: CurveSet, text: str, corpus_folder: Path) -> dict[str, dict[str, float]]:
    """Seconds of a core for an epoch of the main slice's cohorts, validation included."""
    found: dict[str, dict[str, float]] = {}
    main = next(iter(curves.slices))
    for batch in curves.slices[main].batches:
        config = config_of(curves, main, batch, 0, 1e-3, text)
        corpus = load_corpus(config.data, corpus_folder)
        training, validation = Batches(corpus.train, CPU), Batches(corpus.validation, CPU)
        batches = list(
            islice(training.shuffled(batch, 0, 1), min(MEASURED_STEPS, curves.sequences // batch))
        )
        found[str(batch)] = {}
        for size in MEASURED_COHORTS:
            members = [
                Member(config, len(corpus.vocabulary), length_of(config, 1), CPU)
                for _ in range(size)
            ]
            step_s = min(_seconds(step_together, members, [one] * size) for one in batches)
            evaluation_s = _seconds(evaluate_all, [member.model for member in members], validation)
            # By rows: an epoch's last batch may be a small one.
            epoch_s = step_s * curves.sequences / batch + evaluation_s
            found[str(batch)][str(size)] = round(epoch_s, 3)
    return found


def _seconds(call: Callable[..., object], *arguments: object) -> float:
    started = time.process_time()
    call(*arguments)
    return time.process_time() - started


def _text(part: dict[str, Any]) -> str:
    """JSON with a line for each run."""
    runs = ",\n".join(json.dumps(run) for run in part["runs"])
    rest = json.dumps({key: value for key, value in part.items() if key != "runs"})
    return f'{rest[:-1]}, "runs": [\n{runs}\n]}}\n'


def main() -> None:
    """Records what is missing, and says what each part took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--set", choices=SETS, default="short")
    parser.add_argument("--to", type=Path)
    parser.add_argument("--text", help="where the set's text is: a file or folder")
    parser.add_argument("--near", type=int, default=0, help="more seeds of the best rates")
    options = parser.parse_args()
    curves: CurveSet = SETS[options.set]
    text = options.text or curves.text
    to = options.to or Path(__file__).with_name(curves.folder)
    torch.set_num_threads(1)
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, batch, seed in parts(curves):
            path = to / f"{name}-b{batch}-s{seed}.json"
            if path.exists():
                continue
            part = record(curves, name, batch, seed, text, Path(folder))
            write_atomically(path, _text(part).encode())
            print(f"{path.name}: {part['wall_s']} s, {part['processor_s']} s of a core", flush=True)
        if options.near:
            record_near(curves, to, options.near, text, Path(folder))
        path = to / "costs.json"
        if not path.exists():
            measured = {"epoch_s": costs(curves, text, Path(folder))}
            write_atomically(path, (json.dumps(measured) + "\n").encode())


if __name__ == "__main__":
    main()
