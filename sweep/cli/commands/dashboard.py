"""`sweep dashboard`."""

import socket

import click

from sweep.cli.options import database_option
from sweep.url import StorageUrl


@click.command()
@database_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
def command(storage: StorageUrl, host: str, port: int) -> None:
    """Serves optuna-dashboard on a database, to this machine alone unless told otherwise."""
    from optuna.artifacts import FileSystemArtifactStore

    from sweep.errors import SweepError
    from sweep.storage.connect import open_storage
    from sweep.view.report.dashboard import artifact_folder

    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise SweepError(
            "optuna-dashboard is not installed: pip install 'lr-sweep[dashboard]'"
        ) from None
    opened = open_storage(storage, create=False)
    _check_address(host, port)
    click.echo(f"{storage} on http://{host}:{port}/ (Ctrl-C ends it; it can change studies)")
    # The report and best.yaml of every study; the page of a study links to them.
    folder = artifact_folder(storage)
    folder.mkdir(exist_ok=True)
    run_server(opened, host=host, port=port, artifact_store=FileSystemArtifactStore(folder))


def _check_address(host: str, port: int) -> None:
    """Refuses before the server says that it starts."""
    from sweep.errors import SweepError

    if not host.strip():
        raise SweepError("--host is empty: name an address, such as 127.0.0.1")
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise SweepError(
            f"port {port} on {host} cannot be used ({error.strerror}): "
            "choose another --port or --host"
        ) from error
