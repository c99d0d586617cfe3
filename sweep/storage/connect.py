"""Opens the database that holds the studies."""

import contextlib
import os
import re
import sqlite3
import tempfile
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import optuna
from optuna.study import Study
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from sweep.errors import SweepError
from sweep.storage.retry import (
    BUSY_TIMEOUT_S,
    RetryingStorage,
    behind_cache,
    beside_others,
    locked,
    retry,
)
from sweep.storage.server import engine_arguments, tables_on_server
from sweep.url import StorageUrl

OTHERWISE = "name another with --storage"


def storage_url(storage: StorageUrl | str) -> str:
    """A database URL with its password; a plain path means an SQLite file."""
    # psycopg is the driver that this tool's extra installs; SQLAlchemy's own choice is psycopg2.
    whole = StorageUrl(storage).revealed()
    plain = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", whole)
    return plain if "://" in plain else f"sqlite:///{plain}"


def sqlite_path(storage: StorageUrl | str) -> Path | None:
    """The file behind an SQLite URL, None for other databases.

    Raises:
        SweepError: the URL cannot be parsed, or means a database in memory.
    """
    storage = StorageUrl(storage)
    if storage.unescaped:
        raise SweepError(f"storage '{storage}': an @ in the password must be written as %40")
    try:
        url = make_url(storage_url(storage))
    except (ArgumentError, ValueError):  # whose own words may hold the password
        raise SweepError(
            f"storage '{storage}' is no database URL: take one such as sqlite:///sweep.db"
        ) from None
    if not url.drivername.startswith("sqlite"):
        return None
    if url.query:
        raise SweepError(
            f"storage '{storage}': options after '?' are not supported: leave them out"
        )
    if not url.database or url.database == ":memory:":
        raise SweepError(f"storage '{storage}' names no file: take one such as sqlite:///sweep.db")
    return Path(url.database)


def folder_of(study: Study) -> Path:
    """The folder that a study's files lie in: its SQLite file's, else the working folder."""
    url = behind_cache(study._storage).engine.url
    on_disk = url.drivername.startswith("sqlite") and url.database
    return Path(url.database or "").parent.absolute() if on_disk else Path.cwd()


def check_storage(storage: StorageUrl | str, *, create: bool) -> Path | None:
    """Refuses what is no database of studies, and makes none.

    Args:
        storage: a database URL or a path.
        create: whether a missing SQLite file, or a server's missing tables, will be made.

    Returns:
        The SQLite file, None for other databases.

    Raises:
        SweepError: it is missing, a folder, a file of another kind, or a server that does not
            answer.
    """
    storage = StorageUrl(storage)
    path = sqlite_path(storage)
    if path is None:
        with _one_line(storage):
            _check_tables(tables_on_server(storage_url(storage)), str(storage), create=create)
        return None
    if path.is_dir():
        raise SweepError(f"storage {path} is a folder: name a file in it")
    if not path.exists():
        if not create:
            raise SweepError(f"there is no database {path}: `sweep run` makes one")
        if not path.parent.is_dir():
            raise SweepError(f"storage {path}: there is no folder {path.parent}: make it first")
        _check_writable(path)
        return path
    _check_tables(_tables(path), str(path), create=create)
    return path


def open_storage(
    storage: StorageUrl | str, *, create: bool, say: Callable[[str], None] | None = None
) -> RetryingStorage:
    """Opens the database, in WAL mode for SQLite, so that a dashboard may read beside a sweep.

    Args:
        storage: a database URL or a path.
        create: whether a missing SQLite file is made.
        say: told when another program's lock makes it wait, now or later.

    Raises:
        SweepError: missing, unwritable, not a database, or its driver is not installed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = StorageUrl(storage)
    path = check_storage(storage, create=create)
    say = say or RetryingStorage.say
    connect = partial(_connect, storage_url(storage), path)
    if path is not None and not create and not _can_write(path):
        connect = partial(_connect_read_only, storage_url(storage), path)
    with _one_line(storage):
        opened = retry(lambda: beside_others(connect), say, locked)
    opened.say = say
    weakref.finalize(opened, opened.engine.dispose)  # a server's connections are not left open
    return opened


@contextlib.contextmanager
def _one_line(storage: StorageUrl) -> Iterator[None]:
    """Whatever a driver raises, as one line without the password."""
    try:
        yield
    except (ImportError, NoSuchModuleError) as error:
        said = storage.hidden_in(str(error.__cause__ or error))
        raise SweepError(
            f"storage '{storage}' needs a driver that is not installed ({said}): install it, or "
            "take an SQLite file"
        ) from error
    except DBAPIError as error:
        said = storage.hidden_in(" ".join(str(error.orig).split()))
        raise SweepError(f"storage '{storage}' cannot be used ({said}): {OTHERWISE}") from error
    except (SQLAlchemyError, RuntimeError) as error:
        reason = storage.hidden_in(str(error).splitlines()[0])
        raise SweepError(f"storage '{storage}' cannot be used ({reason}): {OTHERWISE}") from error


def _check_tables(tables: set[str], storage: str, *, create: bool) -> None:
    if not tables and not create:
        raise SweepError(f"{storage} holds no study of sweep: `sweep run` makes one")
    if tables and "studies" not in tables:
        raise SweepError(f"storage {storage} is another program's database: {OTHERWISE}")


def _check_writable(path: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=path.parent).close()  # also root cannot write everywhere
    except OSError as error:
        raise SweepError(
            f"storage {path}: the folder {path.parent} cannot be written to ({error.strerror}): "
            f"{OTHERWISE}"
        ) from error


def _tables(path: Path) -> set[str]:
    """The tables of an SQLite file, none where it is empty."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    try:
        with contextlib.closing(_open_read_only(path)) as connection:
            return {name for (name,) in connection.execute(query)}
    except sqlite3.Error as error:
        raise SweepError(f"storage '{path}' cannot be used ({error}): {OTHERWISE}") from error


def _can_write(path: Path) -> bool:
    """Whether an SQLite file can be written: beside it lies its log."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _open_read_only(path: Path) -> sqlite3.Connection:
    """Opens an SQLite file without changing it or anything beside it.

    Where nothing can be written beside it SQLite cannot share it with a program that writes. It is
    then read as a file that does not change, unless a log beside it says more than the file.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    try:
        return _opened(path, "mode=ro")
    except sqlite3.OperationalError:
        log = path.with_name(f"{path.name}-wal")
        if _can_write(path) or (log.exists() and log.stat().st_size):
            raise
    return _opened(path, "immutable=1")


def _opened(path: Path, way: str) -> sqlite3.Connection:
    # as_uri() escapes what has a meaning in a URI.
    uri = f"{path.absolute().as_uri()}?{way}"
    opened = sqlite3.connect(uri, BUSY_TIMEOUT_S, uri=True, check_same_thread=False)
    try:
        opened.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        opened.close()
        raise
    return opened


def _connect_read_only(url: str, path: Path) -> RetryingStorage:
    storage = RetryingStorage(url, engine_kwargs={"creator": partial(_open_read_only, path)})
    storage.read_only = True
    return storage


def _connect(url: str, path: Path | None) -> RetryingStorage:
    if path is None:
        return RetryingStorage(url, engine_kwargs=engine_arguments(url))
    storage = RetryingStorage(url, engine_kwargs={"connect_args": {"timeout": BUSY_TIMEOUT_S}})

    @event.listens_for(storage.engine, "connect")
    def _pragmas(connection, _record) -> None:  # type: ignore[no-untyped-def]  # sqlite3's own
        connection.execute("PRAGMA journal_mode=WAL")
        # In WAL mode NORMAL keeps the database whole over a crash of the program.
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()
    return storage
