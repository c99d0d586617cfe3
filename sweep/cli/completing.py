"""What a shell is offered behind an option; reads the database by sqlite3 alone: Tab is quick."""

import contextlib
import sqlite3
from pathlib import Path

import click
from click.shell_completion import CompletionItem

DEFAULT = "sqlite:///sweep.db"


def study_completions(
    context: click.Context, _option: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The studies of the database that the command line names so far."""
    storage = context.params.get("storage") or DEFAULT
    return [CompletionItem(name) for name in _names(storage) if name.startswith(incomplete)]


def _names(storage: str) -> list[str]:
    path = Path(storage.removeprefix("sqlite:///"))
    if not path.is_file():
        return []
    query = "SELECT study_name FROM studies ORDER BY study_id DESC"
    # Whatever is wrong with the file, a completion has nothing to say about it.
    with contextlib.suppress(sqlite3.Error):
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, 1.0, uri=True)) as connection:
            return [name for (name,) in connection.execute(query)]
    return []
