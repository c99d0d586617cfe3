"""What is installed comes before the working folder's own files, in processes started here too."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

SAFE_PATH = "PYTHONSAFEPATH"
OWN = "sweep"


@contextmanager
def installed_first() -> Iterator[None]:
    """Python processes started inside do not look into the working folder as they begin.

    `multiprocessing` starts them by `python -c`, for which a `queue.py` there is the real one.
    """
    if SAFE_PATH in os.environ:
        yield
        return
    os.environ[SAFE_PATH] = OWN
    try:
        yield
    finally:
        del os.environ[SAFE_PATH]


def as_the_user_set_it() -> None:
    """Spares what a worker starts the setting that was meant for itself."""
    if os.environ.get(SAFE_PATH) == OWN:
        del os.environ[SAFE_PATH]
