"""`sweep bench`."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from sweep.cli.lists import counts, precisions
from sweep.cli.options import config_options, load_config

if TYPE_CHECKING:
    from trainers.config import PrecisionName


@click.command()
@click.option("--batch", default="32,256", show_default=True, callback=counts, help="Batch sizes.")
@click.option(
    "--precision", default="fp32,fp16", show_default=True, callback=precisions, help="Precisions."
)
@click.option(
    "--cohort", default="1", show_default=True, callback=counts, help="Trials trained together."
)
@click.option("--model", help='A model\'s name, or "package.module:factory".')
@click.option("--device", help="cpu, cuda, cuda:1; by default as found.")
@config_options
@click.option("--json", "as_json", is_flag=True, help="Write one JSON list of objects.")
def command(
    batch: list[int],
    precision: "list[PrecisionName]",
    cohort: list[int],
    as_json: bool,
    **flags: Any,
) -> None:
    """Measures the trainer on this machine: tokens and products a second, and peak memory."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import track

    from sweep.view.details import speeds_table
    from sweep.workflows.bench import bench

    measuring = track(
        bench(load_config(**flags), batch, precision, cohort),
        description="measuring",
        total=len(batch) * len(precision) * len(cohort),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    speeds = list(measuring)
    if as_json:
        click.echo(json.dumps([asdict(speed) for speed in speeds], indent=1))
        return
    Console(file=sys.stdout).print(speeds_table(speeds))
