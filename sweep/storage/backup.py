"""A sound copy of an SQLite database, also while sweeps write to it."""

import contextlib
import os
import sqlite3
from pathlib import Path

from sweep.errors import SweepError
from sweep.storage.connect import check_storage, sqlite_path
from sweep.storage.retry import BUSY_TIMEOUT_S
from sweep.url import StorageUrl


def backup(storage: StorageUrl | str, target: Path) -> None:
    """Copies a database as it is at one moment, by SQLite's own backup.

    Args:
        storage: the database, as the user names it.
        target: the copy; it is there whole or not at all.

    Raises:
        SweepError: there is no such database, it is a server's, or the copy cannot be made.
    """
    if sqlite_path(storage) is None:
        raise SweepError(
            f"{StorageUrl(storage)} is a server's database: its own tools copy it, such as pg_dump"
        )
    path = check_storage(storage, create=False)
    assert path is not None
    if target.exists():
        raise SweepError(f"{target} is there already: name another file")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with (
            contextlib.closing(sqlite3.connect(path, BUSY_TIMEOUT_S)) as source,
            contextlib.closing(sqlite3.connect(unfinished)) as copy,
        ):
            source.backup(copy)
        unfinished.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise SweepError(f"{target} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
