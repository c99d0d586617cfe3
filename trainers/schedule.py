"""Learning-rate and clipping schedules."""

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from trainers.config import TrainConfig
from trainers.errors import TrainerError


def lr_scheduler(config: TrainConfig, optimizer: Optimizer, steps_per_epoch: int) -> LambdaLR:
    """The rate as a closed form of the steps taken, so a resumed run continues it exactly.

    Linear warm-up to the config's rate, then constant, or down to zero at the horizon: half a
    cosine (Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts) or a line.
    """
    warmup = warmup_steps(config, steps_per_epoch)
    return LambdaLR(
        optimizer, _factor(config.lr_schedule.name, warmup, _horizon(config, steps_per_epoch))
    )


def warmup_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """The steps of the warm-up; a share is rounded up, as transformers does."""
    schedule = config.lr_schedule
    share = schedule.warmup_share * _horizon(config, steps_per_epoch)
    # Rounded first: 0.07 x 100 is a little over 7.
    return schedule.warmup_steps or math.ceil(round(share, 6))


def check_warmup(config: TrainConfig, steps_per_epoch: int) -> None:
    """Refuses a warm-up that would never reach the rate.

    Raises:
        TrainerError: it takes more steps than the run has, or than those up to the horizon.
    """
    steps = warmup_steps(config, steps_per_epoch)
    most = min(_horizon(config, steps_per_epoch), config.epochs * steps_per_epoch)
    if steps > most:
        raise TrainerError(
            f"the warm-up takes {steps} steps and the run only {most}: take a smaller "
            "lr_schedule.warmup_steps or warmup_share, or more epochs"
        )


def _horizon(config: TrainConfig, steps_per_epoch: int) -> int:
    return (config.lr_schedule.horizon_epochs or config.epochs) * steps_per_epoch


def _factor(name: str, warmup: int, horizon: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if name == "constant":
            return 1.0
        done = min(1.0, (step - warmup) / max(1, horizon - warmup))
        if name == "linear":
            return 1.0 - done
        return 0.5 * (1 + math.cos(math.pi * done))

    return factor


def clip_norm(schedule: Sequence[tuple[int, float]], epochs_done: int) -> float:
    """The largest gradient norm once `epochs_done` epochs are behind; no limit before the first."""
    norms = [norm for start, norm in sorted(schedule) if start <= epochs_done]
    return norms[-1] if norms else math.inf
