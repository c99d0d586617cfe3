"""TaskSet's learning curves (Metz et al. 2020, arXiv 2002.11887): Adam whose rate alone varies.

One file holds what was trained on one task, `TASK/adam1p_wide_grid_1k_10000_replica5.npz`:

- `optimizers`: 1,000 names, "adam1p_wide_grid_seedN". N gives the rate: between 1e-8 and 10,
  drawn as TaskSet's `optimizers/adam.py` draws it.
- `xs`: the steps at which a run was judged, 0, 200 ... 10,000.
- `ys`: losses over (optimizer, replica, step, split); the splits are training, validation (inner),
  validation (outer) and test. A replica is a seed. What diverged is not finite.

Only language models are read: their losses are nats a token. What a model without context reaches
is not told. A tenth of the steps is an epoch here, so that searches cost what they do elsewhere.
"""

from pathlib import Path

import numpy as np
from recorded import Curve
from seed_runs import Part

NAME = "adam1p_wide_grid_1k_10000_replica5.npz"
LANGUAGE_MODELS = ("char_rnn_language_model", "word_rnn_language_model", "FixedLM")
LOWEST, HIGHEST = 1e-8, 10.0
FIRST_SEED = 4123  # of the rates' generators
VALIDATION = 1  # the inner split
EPOCHS = 10


def files(folder: Path) -> list[Path]:
    """TaskSet's files of language models anywhere under a folder."""
    found = sorted(folder.rglob(f"*{NAME}"))
    return [path for path in found if _task(path).startswith(LANGUAGE_MODELS)]


def read(folder: Path) -> list[Curve]:
    """Reads the first replica of each file as one seed's curve, scored by all replicas."""
    parts = [_parts(path) for path in files(folder)]
    return [Curve(each[0], each) for each in parts]


def rate(optimizer: str) -> float:
    """The learning rate of "adam1p_wide_grid_seedN"."""
    seed = int(optimizer.rpartition("seed")[2])
    drawn = np.random.RandomState(seed + FIRST_SEED).uniform(np.log(LOWEST), np.log(HIGHEST))
    return float(np.exp(drawn))


def _task(path: Path) -> str:
    """Its name: the folder's, or what stands before the file's."""
    return path.name.removesuffix(NAME).rstrip("-_") or path.parent.name


def _parts(path: Path) -> list[Part]:
    with np.load(path) as stored:
        names = [each.decode() if isinstance(each, bytes) else str(each) for each in
                 stored["optimizers"]]  # fmt: skip
        steps, losses = stored["xs"], np.asarray(stored["ys"][..., VALIDATION], float)
    rates = np.log([rate(name) for name in names])
    order = rates.argsort()
    losses = losses[order]
    ends = np.searchsorted(steps, np.linspace(0, steps[-1], EPOCHS + 1)[1:])
    untrained = float(np.nanmean(np.where(np.isfinite(losses[:, :, 0]), losses[:, :, 0], np.nan)))
    losses = np.where(np.isfinite(losses), losses, np.nan)
    # From where it diverged on, a run is lost, whatever was stored after that.
    losses = np.where(np.maximum.accumulate(np.isnan(losses), axis=2), np.nan, losses)
    return [
        Part(
            kind=_task(path),
            batch=0,
            seed=replica,
            rates=rates[order],
            losses=losses[:, replica, ends],
            parameters=0,
            nothing=untrained,
            baseline=None,
            constant_rate=True,
            steps=int(steps[-1]),
        )
        for replica in range(losses.shape[1])
    ]
