"""`sweep status`."""

import json
import sys

import click

from sweep.cli.options import database_option, stored_study_option
from sweep.url import StorageUrl


@click.command()
@stored_study_option
@database_option
@click.option("--json", "json_lines", is_flag=True, help="Write one JSON object.")
def command(study: str | None, storage: StorageUrl, json_lines: bool) -> None:
    """Shows a study: its trials, its best rate, how each rule's rate did."""
    from rich.console import Console

    from sweep.results.lookup import open_study
    from sweep.results.summary import summarise
    from sweep.view.json_objects import study_object
    from sweep.view.tables import print_header, print_summary

    summary = summarise(open_study(storage, study), storage)
    if json_lines:
        click.echo(json.dumps(study_object(summary)))
        return
    console = Console(file=sys.stdout)
    print_header(summary, console)
    print_summary(summary, console)
