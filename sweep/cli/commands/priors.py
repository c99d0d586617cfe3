"""`sweep priors`."""

import json
import sys
from typing import Any

import click

from sweep.cli.options import config_options, load_config, setting_options


@click.command()
@setting_options
@config_options
@click.option("--params", type=click.IntRange(min=1), help="The model's parameters, if not built.")
@click.option("--json", "json_lines", is_flag=True, help="Write one JSON object.")
def command(params: int | None, json_lines: bool, **flags: Any) -> None:
    """Shows the rates that the scaling rules give, with formula and source; trains nothing."""
    from rich.console import Console

    from sweep.orchestration.plan import make_plan
    from sweep.orchestration.priors import priors
    from sweep.view.details import print_priors

    answer = priors(make_plan(load_config(check=False, **flags), parameters=params))
    if json_lines:
        click.echo(json.dumps(answer))
        return
    print_priors(answer, Console(file=sys.stdout))
