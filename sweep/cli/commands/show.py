"""`sweep show`."""

import json
import sys

import click

from sweep.cli.options import storage_option, study_option


@click.command()
@click.argument("trial", type=int)
@study_option
@storage_option
@click.option("--json", "json_lines", is_flag=True, help="Write one JSON object.")
def command(trial: int, study: str | None, storage: str | None, json_lines: bool) -> None:
    """Shows one trial: its rate against every rule's, its epochs, how it ended."""
    from rich.console import Console

    from sweep.results.lookup import DEFAULT_STORAGE, find_trial, open_study
    from sweep.results.summary import trial_detail
    from sweep.view.details import print_trial
    from sweep.view.json_objects import finite

    opened = open_study(storage or DEFAULT_STORAGE, study)
    detail = trial_detail(opened, find_trial(opened, trial))
    if json_lines:
        click.echo(json.dumps(finite(detail)))
        return
    print_trial(detail, Console(file=sys.stdout))
