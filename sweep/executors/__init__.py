"""Where trials run. An executor is a module with `create(device, capacity)`, found by its file."""

import importlib
import pkgutil

from sweep.protocol import Executor


def executor_names() -> list[str]:
    """The executors there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def make_executor(name: str, device: str, capacity: int = 1) -> Executor:
    """Makes an executor by name.

    Args:
        name: one of `executor_names()`.
        device: "cpu", "cuda", "cuda:1".
        capacity: most trials at once.
    """
    module = importlib.import_module(f"{__name__}.{name}")
    executor: Executor = module.create(device, capacity)
    return executor
