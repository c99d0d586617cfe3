"""`sweep init`."""

from pathlib import Path

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("sweep.toml"))
def command(path: Path) -> None:
    """Writes a commented sweep.toml with every default."""
    from sweep.config.load import default_text
    from sweep.errors import SweepError

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(default_text())
    except FileExistsError:
        raise SweepError(
            f"{path} exists already and is left as it is: name another, sweep init PATH"
        ) from None
    except OSError as error:
        raise SweepError(f"{path} cannot be written: {error.strerror}") from error
    click.echo(f"{path} written: every key with its default")
