"""Learning-rate and clipping schedules."""

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from trainers.config import TrainConfig


def lr_scheduler(config: TrainConfig, optimizer: Optimizer, steps_per_epoch: int) -> LambdaLR:
    """The rate as a closed form of the steps taken, so a resumed run continues it exactly.

    Linear warm-up to the config's rate, then constant, or half a cosine down to zero at the
    horizon (Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts).
    """
    horizon = (config.lr_schedule.horizon_epochs or config.epochs) * steps_per_epoch
    return LambdaLR(
        optimizer, _factor(config.lr_schedule.name, config.lr_schedule.warmup_steps, horizon)
    )


def _factor(name: str, warmup: int, horizon: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if name == "constant":
            return 1.0
        done = min(1.0, (step - warmup) / max(1, horizon - warmup))
        return 0.5 * (1 + math.cos(math.pi * done))

    return factor


def clip_norm(schedule: Sequence[tuple[int, float]], epochs_done: int) -> float:
    """The largest gradient norm once `epochs_done` epochs are behind; no limit before the first."""
    norms = [norm for start, norm in sorted(schedule) if start <= epochs_done]
    return norms[-1] if norms else math.inf
