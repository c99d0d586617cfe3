"""Where trials run. An executor is a module with `create(resources)`, found by its file."""

import importlib
import pkgutil

from sweep.errors import SweepError
from sweep.execution.protocol import Executor, Resources


def executor_names() -> list[str]:
    """The executors there are; a module with a leading underscore is only a part of some."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in names if not name.startswith("_"))


def check_executor(name: str) -> None:
    """Refuses a name that no executor has.

    Raises:
        SweepError: it is none of `executor_names()`.
    """
    if name not in executor_names():
        raise SweepError(
            f"study.executor (--executor) must be one of {', '.join(executor_names())}, "
            f"got '{name}'"
        )


def make_executor(name: str, resources: Resources | None = None) -> Executor:
    """Makes an executor by name.

    Args:
        name: one of `executor_names()`.
        resources: what it may use; None for one worker on the CPU.
    """
    module = importlib.import_module(f"{__name__}.{name}")
    executor: Executor = module.create(resources or Resources())
    return executor
