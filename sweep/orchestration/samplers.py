"""Samplers by name: the search's own, Optuna's, and those from outside."""

from optuna.samplers import BaseSampler

from studies.peers import PEERS, Build
from studies.sampler import LEARNING_RATE
from trainers.finding import Kind

SAMPLERS = Kind(
    "sampler",
    "sweep.samplers",
    {
        LEARNING_RATE: "studies.sampler:LearningRateSampler",
        **{name: f"studies.peers:{name}" for name in PEERS},
    },
    contract=BaseSampler,
)


def named_sampler(name: str) -> str | Build:
    """What `studies.sampler.make_sampler` takes for a name.

    Args:
        name: one of `SAMPLERS.names()`, or an import path.

    Returns:
        A built-in name as it is; else a function (seed, startup) that makes an Optuna sampler.

    Raises:
        TrainerError: there is none of the name, or it cannot be loaded.
    """
    return name if name in SAMPLERS.built_in else SAMPLERS.find(name)
