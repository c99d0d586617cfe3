"""Where trials run. An executor is a module with `create(resources)`, found by its file.

A module with a leading underscore is only a part of some. Installed packages add executors by entry
points of the group `sweep.executors`; a user's own `create` is named "package.module:create".
"""

from sweep.execution.protocol import Executor, Resources
from trainers.finding import Kind, files_of

EXECUTORS = Kind(
    "executor", "sweep.executors", files_of(__name__, __path__, "create"), contract=Executor
)


def make_executor(name: str, resources: Resources | None = None) -> Executor:
    """Makes an executor by name.

    Args:
        name: one of `EXECUTORS.names()`, or an import path.
        resources: what it may use; None for one worker on the CPU.

    Raises:
        TrainerError: there is none of the name, or it is from outside and cannot be made.
    """
    executor: Executor = EXECUTORS.find(name)(resources or Resources())
    return executor
