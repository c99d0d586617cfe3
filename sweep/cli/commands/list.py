"""`sweep list`."""

import json
import sys

import click

from sweep.cli.options import database_option
from sweep.url import StorageUrl


@click.command()
@database_option
@click.option("--json", "json_lines", is_flag=True, help="Write one JSON line a study.")
def command(storage: StorageUrl, json_lines: bool) -> None:
    """Lists the studies of a database."""
    from rich.console import Console

    from sweep.results.lookup import open_all
    from sweep.results.summary import summarise
    from sweep.view.details import studies_table
    from sweep.view.json_objects import study_object

    summaries = [summarise(study, storage) for study in open_all(storage, fixed=True)]
    if json_lines:
        for summary in summaries:
            click.echo(json.dumps(study_object(summary)))
        return
    if not summaries:
        click.echo(f"{storage} holds no study of sweep: `sweep run` makes one")
        return
    Console(file=sys.stdout).print(studies_table(summaries))
