"""`sweep list`."""

import json
import sys

import click

from sweep.cli.options import storage_option


@click.command()
@storage_option
@click.option("--json", "json_lines", is_flag=True, help="Write one JSON line a study.")
def command(storage: str | None, json_lines: bool) -> None:
    """Lists the studies of a database."""
    from rich.console import Console

    from sweep.results.lookup import DEFAULT_STORAGE, open_all
    from sweep.results.summary import summarise
    from sweep.storage.url import without_password
    from sweep.view.details import studies_table
    from sweep.view.json_objects import study_object

    where = storage or DEFAULT_STORAGE
    summaries = [summarise(study, where) for study in open_all(where, fixed=True)]
    if json_lines:
        for summary in summaries:
            click.echo(json.dumps(study_object(summary)))
        return
    if not summaries:
        click.echo(f"{without_password(where)} holds no study of sweep: `sweep run` makes one")
        return
    Console(file=sys.stdout).print(studies_table(summaries))
