"""Large data: what a part of a .jsonl and a file of tokens take, in seconds and in memory.

Run by hand, with room for twice --gigabytes on the disk:
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_large_data.py
"""

import argparse
import json
import os
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from trainers.batches import batches_of
from trainers.config import DataConfig
from trainers.data import build_corpus, docstrings, load_corpus

SIZE, SEQUENCES, BATCHES = 50_257, 1_000, 200


def write_lines(path: Path, size: int) -> None:
    """Real text, a document of some paragraphs a line, over and over."""
    texts = list(docstrings.read().train)
    lines = [json.dumps({"text": "\n".join(texts[k : k + 6])}) for k in range(0, len(texts), 6)]
    block = ("\n".join(lines) + "\n").encode()
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(block)


def write_tokens(folder: Path, size: int) -> None:
    """Random tokens, the same ones over and over."""
    block = np.random.default_rng(0).integers(0, SIZE, 10_000_000).astype("<u2").tobytes()
    with (folder / "train.bin").open("wb") as file:
        while file.tell() < size:
            file.write(block)
    (folder / "val.bin").write_bytes(block[:2_000_000])


def own_mib() -> float:
    """What this process holds of its own: pages of mapped files are not among it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def main() -> None:
    """Prints a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    options = parser.parse_args()
    size = int(options.gigabytes * 1e9)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        (folder / "lines").mkdir()
        (folder / "tokens").mkdir()
        docstrings.read()
        write_lines(folder / "lines" / "train.jsonl", size)
        part = {"train_sequences": SEQUENCES, "validation_sequences": 100}
        for tokenizer in ("words", "bytes", "bpe"):
            asked = DataConfig(
                name=str(folder / "lines"), tokenizer=tokenizer, pack=True, stream=True, **part
            )
            before, began = own_mib(), time.perf_counter()
            build_corpus(asked)
            took = time.perf_counter() - began
            grown = own_mib() - before
            print(f"{tokenizer}: {SEQUENCES} sequences in {took:.1f} s, {grown:+.0f} MiB")
        write_tokens(folder / "tokens", size)
        for window in (64, 1024):
            asked = DataConfig(name=str(folder / "tokens"), vocabulary_size=SIZE, window=window)
            before, began = own_mib(), time.perf_counter()
            corpus = load_corpus(asked, folder / f"study-{window}")
            loaded = time.perf_counter() - began
            batches = batches_of(corpus.train, torch.device("cpu")).shuffled(32, 0, 1)
            began = time.perf_counter()
            next(batches)
            first = time.perf_counter() - began
            began = time.perf_counter()
            for _ in islice(batches, BATCHES):
                pass
            each = (time.perf_counter() - began) / BATCHES
            print(
                f"window {window}: {len(corpus.train):,} windows in {loaded:.1f} s, a first batch "
                f"in {1e3 * first:.1f} ms, each in {1e3 * each:.2f} ms, "
                f"{own_mib() - before:+.0f} MiB"
            )


if __name__ == "__main__":
    main()
