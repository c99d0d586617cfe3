"""`sweep predict`."""

import json
import sys

import click

from sweep.cli.options import database_option, study_option
from sweep.url import StorageUrl


@click.command()
@click.option("--batch", type=click.IntRange(min=1), required=True, help="The batch size wanted.")
@click.option(
    "--params", type=click.IntRange(min=1), help="The model's parameters, if it is another size."
)
@study_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def command(
    batch: int, params: int | None, study: str | None, storage: StorageUrl, as_json: bool
) -> None:
    """Forecasts the best rate at another batch or model size from the finished studies."""
    from rich.console import Console

    from sweep.results.prediction import predict
    from sweep.view.prediction import prediction_object, print_prediction

    said = predict(storage, study, batch, params)
    if as_json:
        click.echo(json.dumps(prediction_object(said), allow_nan=False))
        return
    print_prediction(said, Console(file=sys.stdout))
