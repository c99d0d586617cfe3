"""Learning-rate and clipping schedules."""

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from trainers.config import TrainConfig
from trainers.errors import TrainerError
from trainers.length import Length


def lr_scheduler(config: TrainConfig, optimizer: Optimizer, length: Length) -> LambdaLR:
    """The rate as a closed form of the steps taken, so a resumed run continues it exactly.

    Linear warm-up to the config's rate, then constant, or down to its floor at the horizon: half a
    cosine (Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts), a line, or constant and a
    line over the last part ("wsd": Hu et al. 2024, arXiv 2404.06395; Haegele et al. 2024,
    arXiv 2405.18392).
    """
    return LambdaLR(optimizer, _factor(config, length))


def warmup_steps(config: TrainConfig, length: Length) -> int:
    """The steps of the warm-up; a share is rounded up, as transformers does."""
    schedule = config.lr_schedule
    share = schedule.warmup_share * length.horizon(schedule)
    # Rounded first: 0.07 x 100 is a little over 7.
    return schedule.warmup_steps or math.ceil(round(share, 6))


def check_warmup(config: TrainConfig, length: Length) -> None:
    """Refuses a warm-up that would never reach the rate.

    Raises:
        TrainerError: it takes more steps than the run has, or than those up to the horizon, or
            up to the decay of "wsd".
    """
    steps = warmup_steps(config, length)
    horizon = length.horizon(config.lr_schedule)
    stable = _decay_begins(config, length)
    if config.lr_schedule.name == "wsd" and steps > stable:
        raise TrainerError(
            f"the warm-up takes {steps} steps and wsd's decay begins after {stable}: take a "
            "smaller lr_schedule.warmup_steps, warmup_share or decay_share, or a longer run"
        )
    most = min(horizon, length.steps)
    if steps > most:
        raise TrainerError(
            f"the warm-up takes {steps} steps and the run only {most}: take a smaller "
            "lr_schedule.warmup_steps or warmup_share, or a longer run"
        )


def trunk_steps(config: TrainConfig, length: Length) -> int:
    """The steps that a run has in common with a longer one: those before the decay of "wsd"."""
    wsd = config.lr_schedule.name == "wsd"
    return min(length.steps, _decay_begins(config, length)) if wsd else 0


def same_course(config: TrainConfig, one: Length, other: Length, steps: int) -> bool:
    """Whether the rate of so many first steps is the same for two lengths of a run."""
    mine, its = _factor(config, one), _factor(config, other)
    return all(mine(step) == its(step) for step in range(steps))


def _decay_begins(config: TrainConfig, length: Length) -> int:
    """The steps before the decay of "wsd"."""
    horizon = length.horizon(config.lr_schedule)
    return horizon - math.ceil(round(config.lr_schedule.decay_share * horizon, 6))


def _factor(config: TrainConfig, length: Length) -> Callable[[int], float]:
    name, floor = config.lr_schedule.name, config.lr_schedule.floor
    warmup = warmup_steps(config, length)
    horizon = length.horizon(config.lr_schedule)
    begins = _decay_begins(config, length) if name == "wsd" else warmup

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if name == "constant":
            return 1.0
        done = min(1.0, max(0, step - begins) / max(1, horizon - begins))
        left = 0.5 * (1 + math.cos(math.pi * done)) if name == "cosine" else 1.0 - done
        return floor + (1 - floor) * left

    return factor


def clip_norm(schedule: Sequence[tuple[int, float]], epochs_done: int) -> float:
    """The largest gradient norm once `epochs_done` epochs are behind; no limit before the first."""
    norms = [norm for start, norm in sorted(schedule) if start <= epochs_done]
    return norms[-1] if norms else math.inf
