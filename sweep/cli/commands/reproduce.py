"""`sweep reproduce`."""

import json
import sys
from typing import Any

import click

from sweep.cli.options import config_options, load_config, same_command, storage_option
from sweep.execution.signals import PAUSED


@click.command()
@click.argument("case")
@click.option("--device", help="cpu, cuda, cuda:1; by default as found.")
@config_options
@storage_option
@click.option("--json", "json_lines", is_flag=True, help="Write JSON lines.")
def command(case: str, json_lines: bool, **flags: Any) -> None:
    """Runs a known case again, small on the CPU, whole on CUDA: seed-table is the one there is."""
    from rich.console import Console

    from sweep.results.known_cases import full_size, reproduced_object
    from sweep.view import study_view
    from sweep.view.json_objects import finite
    from sweep.view.reproduction import print_reproduction
    from sweep.workflows.reproduce import reproduce

    config = load_config(**flags)
    with study_view(config.study, json_lines=json_lines) as view:
        found = reproduce(config, case, view, resume_command=same_command())
    if found is None:
        raise SystemExit(PAUSED)
    if json_lines:
        known = finite(reproduced_object(config, found))
        click.echo(json.dumps({"event": "reproduction", **known}))
        return
    print_reproduction(found, Console(file=sys.stdout), full=full_size(config))
