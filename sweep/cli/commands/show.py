"""`sweep show`."""

import json
import sys
from pathlib import Path

import click

from sweep.cli.options import database_option, stored_study_option
from sweep.url import StorageUrl


@click.command()
@click.argument("trial", type=int)
@stored_study_option
@database_option
@click.option("--json", "json_lines", is_flag=True, help="Write one JSON object.")
@click.option("--log", is_flag=True, help="Print what the trial printed, and nothing else.")
def command(
    trial: int, study: str | None, storage: StorageUrl, json_lines: bool, log: bool
) -> None:
    """Shows one trial: its rate against every rule's, its reports, how it ended."""
    from rich.console import Console

    from sweep.results.lookup import find_trial, open_study
    from sweep.results.summary import read_log, trial_detail
    from sweep.view.details import print_trial
    from sweep.view.json_objects import finite

    opened = open_study(storage, study)
    detail = trial_detail(opened, find_trial(opened, trial))
    if log:
        click.echo(read_log(Path(detail["directory"])), nl=False)
        return
    if json_lines:
        click.echo(json.dumps(finite(detail)))
        return
    print_trial(detail, Console(file=sys.stdout))
