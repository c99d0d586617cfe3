"""Databases behind a server: PostgreSQL, or another that SQLAlchemy has a driver for."""

from typing import Any

import sqlalchemy
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, PendingRollbackError

CONNECT_S, SILENCE_S = 10, 30
"""Seconds for a connection to be made, and for a sent packet to be acknowledged."""
_PASSING = ("08", "40", "53300", "57")
"""PostgreSQL's error codes (its manual, appendix A) for what is over after a while: a connection
that broke, a deadlock, too many connections, a server that stops or starts."""


def engine_arguments(url: str) -> dict[str, Any]:
    """What SQLAlchemy's engine takes for a server: a broken connection is noticed and replaced."""
    if make_url(url).drivername != "postgresql+psycopg":
        return {"pool_pre_ping": True}
    # Prepared statements stay on one of the server's connections; behind PgBouncer the next
    # transaction may have another one.
    connection = {
        "connect_timeout": CONNECT_S,
        "tcp_user_timeout": SILENCE_S * 1000,
        "prepare_threshold": None,
    }
    return {"pool_pre_ping": True, "connect_args": connection}


def tables_on_server(url: str) -> set[str]:
    """The tables of a database; it is left as it is.

    Raises:
        ImportError, sqlalchemy.exc.SQLAlchemyError: no driver, no server, or no such database.
    """
    engine = sqlalchemy.create_engine(url, **engine_arguments(url))
    try:
        return set(sqlalchemy.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def away(error: BaseException | None) -> bool:
    """Whether a server that answered before is away for now, so that waiting may help."""
    if isinstance(error, PendingRollbackError):  # Optuna had gone on in a transaction that broke
        return True
    if not isinstance(error, DBAPIError) or type(error.orig).__module__.startswith("sqlite3"):
        return False
    code = getattr(error.orig, "sqlstate", None)
    if code:
        return error.connection_invalidated or str(code).startswith(_PASSING)
    return error.connection_invalidated or type(error.orig).__name__ == "OperationalError"
