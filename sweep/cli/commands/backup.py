"""`sweep backup`."""

from pathlib import Path

import click

from sweep.cli.options import storage_option


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@storage_option
def command(file: Path, storage: str | None) -> None:
    """Copies an SQLite database, also while a sweep runs on it."""
    from sweep.results.lookup import DEFAULT_STORAGE
    from sweep.storage.backup import backup
    from sweep.storage.url import without_password

    source = storage or DEFAULT_STORAGE
    backup(source, file)
    click.echo(f"{file}: a copy of {without_password(source)}")
