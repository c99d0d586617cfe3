"""`sweep try`."""

import sys
from typing import Any

import click

from sweep.cli.options import (
    ProgramCommand,
    config_options,
    length_options,
    load_config,
    other_setting_options,
    pattern_option,
    program_argument,
    with_option,
)


@click.command(cls=ProgramCommand)
@length_options
@pattern_option
@other_setting_options
@click.option("--batch", type=int, help="Batch size, in sequences.")
@click.option("--rate", type=float, help="The learning rate.  [default: the reference's]")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="How long it may run.",
)
@with_option
@config_options
@program_argument
def command(rate: float | None, seconds: float, **flags: Any) -> None:
    """Runs a program for a moment, and shows line by line what the sweep understands of it.

    What stands after -- is its command, as for `sweep run`. Nothing is stored.
    """
    from rich.console import Console

    from sweep.errors import SweepError
    from sweep.view.program import print_tried
    from sweep.workflows.try_program import try_program

    config = load_config(**flags)
    if not config.trainer.program.command:
        raise SweepError("there is no program to try: name its command after --")
    console = Console(file=sys.stdout, highlight=False)
    if not print_tried(try_program(config, rate, seconds), config.trainer.metric, console):
        raise SystemExit(1)
