"""Finds the learning rate: orchestrates trials of the shared trainer under an Optuna study."""

TYPE_CHECKING = False  # as type checkers take it; `typing` would take longer than the client
if TYPE_CHECKING:
    from sweep.api import Sweep, SweepResult

__all__ = ["Sweep", "SweepResult"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Loads the Python interface where it is asked for: a program's `sweep.client` needs none."""
    if name in __all__:
        from sweep import api

        found: object = getattr(api, name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
