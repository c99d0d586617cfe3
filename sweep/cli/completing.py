"""What a shell is offered behind an option; reads the database by sqlite3 alone: Tab is quick."""

import contextlib
import sqlite3
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from sweep.cli.defaults import study_setting
from sweep.errors import SweepError
from sweep.url import StorageUrl


def study_completions(
    context: click.Context, _option: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The studies of the database that the command line names so far."""
    # Whatever is wrong with sweep.toml, a completion has nothing to say about it.
    with contextlib.suppress(SweepError):
        storage = StorageUrl(context.params.get("storage") or study_setting("storage"))
        names = _names(storage.revealed())
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return []


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
