"""`sweep backup`."""

from pathlib import Path

import click

from sweep.cli.options import database_option
from sweep.url import StorageUrl


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@database_option
def command(file: Path, storage: StorageUrl) -> None:
    """Copies an SQLite database, also while a sweep runs on it."""
    from sweep.storage.backup import backup

    backup(storage, file)
    click.echo(f"{file}: a copy of {storage}")
