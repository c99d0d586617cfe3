"""`sweep plan`."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from sweep.cli.options import (
    ProgramCommand,
    config_options,
    count,
    epochs_option,
    force_option,
    load_config,
    other_setting_options,
    pattern_option,
    program_argument,
    same_command,
    storage_option,
    worker_options,
)
from sweep.cli.planned import run_plan
from sweep.execution.signals import PAUSED


def _sizes(
    _context: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> dict[int, dict[str, int]]:
    """Reads "124e6:layers=12,width=768", once for each size."""
    found = {}
    for text in texts:
        parameters, _, options = text.partition(":")
        pairs = [part.partition("=") for part in options.split(",") if part]
        try:
            found[count(parameters)] = {name.strip(): count(number) for name, _, number in pairs}
        except click.BadParameter:
            raise click.BadParameter(
                f"takes parameters and whole numbers, 124e6:layers=12,width=768, got '{text}'",
                param=option,
            ) from None
    return found


@click.command(cls=ProgramCommand)
@click.option("--batch", type=count, required=True, help="The target's batch size.")
@click.option("--params", type=count, help="The target's parameters.  [default: the model's]")
@click.option("--tokens", type=count, help="Tokens of a run there.  [default: of --epochs]")
@click.option(
    "--budget", required=True, help="FLOPs for all studies, 2e18, or a time: 90m, 12h, 2d."
)
@click.option(
    "--size",
    "sizes",
    multiple=True,
    callback=_sizes,
    metavar="PARAMS[:NAME=N,...]",
    help="A size of a program's model, and the placeholders that make it; several times.",
)
@epochs_option
@pattern_option
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
@program_argument
def command(
    batch: int,
    params: int | None,
    tokens: int | None,
    budget: str,
    sizes: dict[int, dict[str, int]],
    output: Path | None,
    force: bool,
    run_it: bool,
    json_lines: bool,
    **flags: Any,
) -> None:
    """Plans the small studies that teach most about a large run's rate, for a budget.

    The batch size, parameters and tokens are those of the run that matters; each study is swept at
    smaller ones. The table says within which factor the best rate will be known after each.

    After -- stands the command of your own training program, with {batch_size} and {tokens} or
    {steps} in it.
    """
    from rich.console import Console

    from sweep.outputs import write_output
    from sweep.view.study_plan import plan_object, print_plan
    from sweep.workflows.plan_studies import plan_studies

    # The names that a program's command may have; each study has its own numbers.
    example = next(iter(sizes.values()), {})
    named = tuple(f"program.sizes.{name}={number}" for name, number in example.items())
    asked = {**flags, "assignments": (*flags["assignments"], *named)}
    plan = plan_studies(load_config(**asked), batch, params, tokens, budget, sizes)
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
