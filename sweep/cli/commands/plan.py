"""`sweep plan`."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from sweep.cli.options import (
    config_options,
    count,
    epochs_option,
    force_option,
    load_config,
    other_setting_options,
    same_command,
    storage_option,
    worker_options,
)
from sweep.cli.planned import run_plan
from sweep.execution.signals import PAUSED


@click.command()
@click.option("--batch", type=count, required=True, help="The target's batch size.")
@click.option("--params", type=count, help="The target's parameters.  [default: the model's]")
@click.option("--tokens", type=count, help="Tokens of a run there.  [default: of --epochs]")
@click.option(
    "--budget", required=True, help="FLOPs for all studies, 2e18, or a time: 90m, 12h, 2d."
)
@epochs_option
@other_setting_options
@config_options
@storage_option
@worker_options
@click.option("--trials", type=int, help="Trials of each study, at most.")
@click.option(
    "-o", "output", type=click.Path(path_type=Path), help="Write the plan for sweep run --plan."
)
@force_option
@click.option("--run", "run_it", is_flag=True, help="Train its studies in turn, at once.")
@click.option("--json", "json_lines", is_flag=True, help="Write JSON.")
def command(
    batch: int,
    params: int | None,
    tokens: int | None,
    budget: str,
    output: Path | None,
    force: bool,
    run_it: bool,
    json_lines: bool,
    **flags: Any,
) -> None:
    """Plans the small studies that teach most about a large run's rate, for a budget.

    The batch size, parameters and tokens are those of the run that matters; each study is swept at
    smaller ones. The table says within which factor the best rate will be known after each.
    """
    from rich.console import Console

    from sweep.outputs import write_output
    from sweep.view.study_plan import plan_object, print_plan
    from sweep.workflows.plan_studies import plan_studies

    plan = plan_studies(load_config(**flags), batch, params, tokens, budget)
    if output is not None:
        write_output(output, plan.to_toml(), force=force)
    if json_lines:
        click.echo(json.dumps(plan_object(plan), allow_nan=False))
    else:
        print_plan(plan, Console(file=sys.stdout))
        if output is not None and not run_it:
            given = any(each for each in flags.values())
            more = " (with the other flags that were given here)" if given else ""
            click.echo(f"train them: sweep run --plan {shlex.quote(str(output))}{more}")
    if run_it and not run_plan(plan, flags, json_lines=json_lines, resume_command=same_command()):
        raise SystemExit(PAUSED)
