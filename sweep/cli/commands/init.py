"""`sweep init`."""

from pathlib import Path

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("sweep.toml"))
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def command(path: Path, force: bool) -> None:
    """Writes a commented sweep.toml with every default."""
    from sweep.config.load import default_text
    from sweep.errors import SweepError
    from sweep.outputs import STDOUT, write_output

    # Edited as it is meant to be, none is known for ours; an empty one holds nothing.
    if path.is_file() and path.stat().st_size and not force:
        raise SweepError(
            f"{path} exists already and is left as it is: name another, sweep init PATH, or "
            "replace it with --force"
        )
    write_output(path, default_text(), force=force)
    if path != STDOUT:
        click.echo(f"{path} written: every key with its default")
