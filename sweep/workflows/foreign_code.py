"""Code that a file or a database names: it is run only where the user names it as well."""

from collections.abc import Set

from sweep.execution.protocol import SHARED_TRAINER
from trainers.config import TrainConfig
from trainers.naming import is_function


def foreign_code(train: TrainConfig, trainer: str, *, allowed: Set[str]) -> tuple[str, str] | None:
    """The first code that a configuration names and the user does not.

    Args:
        train: perhaps a stranger's.
        trainer: likewise.
        allowed: import paths on the command line or in the user's own sweep.toml.

    Returns:
        The flag that names it, and its import path; None where there is none.
    """
    named = [("--model", train.model.name)] if ":" in train.model.name else []
    if trainer != SHARED_TRAINER:
        named.append(("--trainer", trainer))
    named += [
        ("--data", name) for name in (train.data.name, train.data.fallback) if is_function(name)
    ]
    return next(((flag, path) for flag, path in named if path not in allowed), None)
