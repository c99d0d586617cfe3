"""`sweep compare`."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from sweep.cli.completing import study_completions
from sweep.cli.lists import numbers, precisions
from sweep.cli.options import (
    ProgramCommand,
    config_options,
    load_config,
    program_argument,
    same_command,
    storage_option,
)
from sweep.execution.signals import PAUSED

if TYPE_CHECKING:
    from trainers.config import PrecisionName


@click.command(cls=ProgramCommand)
@click.option(
    "--precision",
    default="fp32,fp16",
    show_default=True,
    callback=precisions,
    help="Precisions; the others are compared with the first.",
)
@click.option(
    "--rates",
    callback=numbers,
    help="Learning rates; by default around the best of a search, or the rules' own.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Seeds a rate."
)
@click.option("--batch", type=int, help="Batch size, in sequences.")
@click.option("--epochs", type=int, help="Epochs a run.")
@click.option("--device", help="cpu, cuda, cuda:1; by default as found.")
@click.option("--model", help='A model\'s name, or "package.module:factory".')
@click.option("--data", help='"docstrings", a text file or folder, or a hub name.')
@click.option("--optimizer", help='adam, adamw, muon, sgd, or "package.module:Class".')
@config_options
@click.option(
    "--study", shell_complete=study_completions, help="A sweep: its setting, and its best rate."
)
@storage_option
@click.option("--json", "json_lines", is_flag=True, help="Write JSON lines.")
@program_argument
def command(
    precision: "list[PrecisionName]",
    rates: list[float] | None,
    seeds: int,
    study: str | None,
    json_lines: bool,
    **flags: Any,
) -> None:
    """Says whether fp16 is to blame or the learning rate: the same rates and seeds in both."""
    from rich.console import Console

    from sweep.errors import SweepError
    from sweep.results.lookup import open_study
    from sweep.view import study_view
    from sweep.view.comparison import comparison_object, print_comparison
    from sweep.workflows.compare import check_precisions, compare, default_rates
    from sweep.workflows.confirm import config_of
    from sweep.workflows.foreign_code import own_code

    check_precisions(precision)
    config = load_config(**flags)
    named = open_study(config.study.storage, study) if study else None
    if named is not None:
        for flag in ("batch", "epochs", "data"):
            if flags[flag] is not None:
                raise SweepError(f"--study gives the whole setting: leave out --{flag}")
        config = config_of(named, config, allowed=own_code(config))
    with study_view(config.study, json_lines=json_lines) as view:
        if rates is None:
            rates, source = default_rates(config, named)
            view.note(f"rates {', '.join(f'{rate:.3g}' for rate in rates)}: {source}")
        comparison = compare(config, precision, rates, seeds, view, resume_command=same_command())
    if comparison is None:
        raise SystemExit(PAUSED)
    if json_lines:
        click.echo(json.dumps({"event": "comparison", **comparison_object(comparison)}))
        return
    print_comparison(comparison, Console(file=sys.stdout))
