"""`sweep init`."""

from pathlib import Path

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("sweep.toml"))
def command(path: Path) -> None:
    """Writes a commented sweep.toml with every default."""
    from sweep.config.load import default_text
    from sweep.errors import SweepError
    from sweep.outputs import write_output

    if path.exists():
        raise SweepError(
            f"{path} exists already and is left as it is: name another, sweep init PATH"
        )
    write_output(path, default_text())
    click.echo(f"{path} written: every key with its default")
