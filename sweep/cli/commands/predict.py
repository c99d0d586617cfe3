"""`sweep predict`."""

import json
import sys

import click

from sweep.cli.options import count, database_option, study_option
from sweep.errors import SweepError
from sweep.url import StorageUrl


@click.command()
@click.option("--batch", type=count, required=True, help="The batch size wanted.")
@click.option("--params", type=count, help="The model's parameters, if it is another size.")
@click.option("--tokens", type=count, help="Tokens of a run, if it is of another length.")
@click.option("--steps", type=count, help="Steps of a run, in place of --tokens.")
@study_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def command(
    batch: int,
    params: int | None,
    tokens: int | None,
    steps: int | None,
    study: str | None,
    storage: StorageUrl,
    as_json: bool,
) -> None:
    """Forecasts the best rate at another batch, model size or length from the finished studies.

    Beside it, up to which rate training is safe. Large numbers may be written 2e10.
    """
    from rich.console import Console

    from sweep.results.prediction import predict
    from sweep.view.prediction import prediction_object, print_prediction

    if tokens is not None and steps is not None:
        raise SweepError("--tokens and --steps both say how long a run is: give one of them")
    said = predict(storage, study, batch, params, tokens=tokens, steps=steps)
    if as_json:
        click.echo(json.dumps(prediction_object(said), allow_nan=False))
        return
    print_prediction(said, Console(file=sys.stdout))
