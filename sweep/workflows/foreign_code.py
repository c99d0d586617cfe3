"""Code that a file or a database names: it is run only where the user names it as well."""

import shlex
from collections.abc import Set

from sweep.config.schema import SweepConfig
from sweep.execution.protocol import SHARED_TRAINER
from trainers.config import ProgramConfig, TrainConfig
from trainers.importing import is_import_path
from trainers.naming import is_function


def own_code(config: SweepConfig) -> set[str]:
    """All that the user's own configuration names."""
    train, study = config.trainer, config.study
    named = {config.model, study.trainer, train.data.name, train.optimizer}
    return {*named, program_code(train.program)}


def program_code(program: ProgramConfig) -> str:
    """A program as it is allowed: its command and what is appended to it, as one would type it."""
    return shlex.join((*program.command, *program.resume))


def naming(found: tuple[str, str]) -> str:
    """What to add to a command line so that it names the code that was found."""
    flag, path = found
    return f"-- {path}" if flag == "--" else shlex.join(found)


def foreign_code(train: TrainConfig, trainer: str, *, allowed: Set[str]) -> tuple[str, str] | None:
    """The first code that a configuration names and the user does not.

    Args:
        train: perhaps a stranger's.
        trainer: likewise.
        allowed: import paths and programs on the command line or in the user's own sweep.toml.

    Returns:
        The flag that names it, and its import path or command; None where there is none.
    """
    if train.program.command:
        command = program_code(train.program)
        return None if command in allowed else ("--", command)
    named = [("--model", train.model.name)] if ":" in train.model.name else []
    if is_import_path(train.optimizer):
        named.append(("--optimizer", train.optimizer))
    if trainer != SHARED_TRAINER:
        named.append(("--trainer", trainer))
    named += [
        ("--data", name) for name in (train.data.name, train.data.fallback) if is_function(name)
    ]
    return next(((flag, path) for flag, path in named if path not in allowed), None)
