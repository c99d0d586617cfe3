"""`sweep status`."""

import json
import sys

import click

from sweep.cli.options import storage_option, study_option


@click.command()
@study_option
@storage_option
@click.option("--json", "json_lines", is_flag=True, help="Write one JSON object.")
def command(study: str | None, storage: str | None, json_lines: bool) -> None:
    """Shows a study: its trials, its best rate, how each rule's rate did."""
    from rich.console import Console

    from sweep.results.lookup import DEFAULT_STORAGE, open_study
    from sweep.results.summary import summarise
    from sweep.view.json_objects import study_object
    from sweep.view.tables import print_header, print_summary

    where = storage or DEFAULT_STORAGE
    summary = summarise(open_study(where, study), where)
    if json_lines:
        click.echo(json.dumps(study_object(summary)))
        return
    console = Console(file=sys.stdout)
    print_header(summary, console)
    print_summary(summary, console)
