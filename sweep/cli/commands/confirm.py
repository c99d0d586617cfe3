"""`sweep confirm`."""

import json
import sys
from typing import Any

import click

from sweep.cli.options import (
    ProgramCommand,
    config_options,
    load_config,
    program_argument,
    same_command,
    storage_option,
    study_option,
    warn,
)
from sweep.execution.signals import PAUSED

UNCONFIRMED = 1


@click.command(cls=ProgramCommand)
@click.option(
    "--top", type=click.IntRange(min=1), default=3, show_default=True, help="Of the best trials."
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="New seeds a rate."
)
@study_option
@storage_option
@click.option("--device", help="cpu, cuda, cuda:1; by default as found.")
@click.option("--model", help="Allow the study's own model, package.module:factory.")
@click.option("--trainer", help="Allow the study's own trainer, package.module:function.")
@click.option("--data", help="Allow the study's own source of text, package.module:function.")
@click.option("--optimizer", help="Allow the study's own optimizer, package.module:Class.")
@config_options
@click.option("--json", "json_lines", is_flag=True, help="Write JSON lines.")
@program_argument
def command(
    top: int,
    seeds: int,
    study: str | None,
    model: str | None,
    trainer: str | None,
    data: str | None,
    optimizer: str | None,
    json_lines: bool,
    **flags: Any,
) -> None:
    """Trains the best rates of a finished sweep over new seeds, and says which one holds."""
    from rich.console import Console

    from sweep.results.lookup import open_study
    from sweep.view import study_view
    from sweep.view.confirmation import print_confirmation
    from sweep.view.json_objects import finite
    from sweep.view.report.dashboard import publisher
    from sweep.workflows.confirm import config_of, confirm, confirmation_object
    from sweep.workflows.foreign_code import own_code

    config = load_config(**flags)
    in_file = None if flags["storage"] else config.study.name or None
    opened = open_study(config.study.storage, study or in_file, say=warn)
    own = own_code(config)
    allowed = own | {str(each) for each in (model, trainer, data, optimizer)}
    known = config_of(opened, config, allowed=allowed)
    with study_view(config.study, json_lines=json_lines) as view:
        publish = publisher(config.study, view.warn)
        said = confirm(
            known, opened, top, seeds, view, resume_command=same_command(), before_release=publish
        )
    if said is None:
        raise SystemExit(PAUSED)
    confirmation, runs = said
    if json_lines:
        found = finite(confirmation_object(confirmation, runs))
        click.echo(json.dumps({"event": "confirmation", **found}))
    else:
        print_confirmation(confirmation, Console(file=sys.stdout))
    if confirmation.best is None:
        raise SystemExit(UNCONFIRMED)
