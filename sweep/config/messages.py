"""What is wrong with a setting, in one line: its key and flag, what it must be, what it was."""

from typing import TYPE_CHECKING

from trainers.refusals import refusal

if TYPE_CHECKING:
    from pydantic import ValidationError

# Each flag that stands for a key of sweep.toml.
FLAGS = {
    "batch": "trainer.batch_size",
    "precision": "trainer.precision",
    "metric": "trainer.metric",
    "direction": "trainer.direction",
    "epochs": "trainer.epochs",
    "steps": "trainer.steps",
    "tokens": "trainer.tokens",
    "pattern": "program.pattern",
    "seed": "trainer.seed",
    "optimizer": "trainer.optimizer",
    "device": "device",
    "model": "model",
    "data": "data.name",
    "study": "study.name",
    "storage": "study.storage",
    "trials": "study.trials",
    "until": "study.until",
    "timeout": "study.timeout",
    "trial-timeout": "study.trial_timeout",
    "hang-timeout": "study.hang_timeout",
    "range": "study.range",
    "rates": "study.rates",
    "with": "study.with",
    "decay-range": "study.decay_range",
    "workers": "study.workers",
    "devices": "study.devices",
    "executor": "study.executor",
    "ray-address": "study.ray_address",
    "gpus-per-trial": "study.gpus_per_trial",
    "trainer": "study.trainer",
}


def describe(error: "ValidationError", prefix: str = "") -> str:
    """The first thing that a validation found wrong.

    Args:
        error: of pydantic.
        prefix: what stands before the key in sweep.toml ("trainer.").
    """
    key, words = refusal(error)
    return f"{named(prefix + key)} {words}" if key else words


def named(key: str) -> str:
    """A key, with the flag that sets it where there is one."""
    flags = [flag for flag, whole in FLAGS.items() if f"{key}.".startswith(f"{whole}.")]
    return f"{key} (--{flags[0]})" if flags else key
