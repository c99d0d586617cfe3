"""`sweep add`."""

import click

from sweep.cli.options import database_option, stored_study_option, warn
from sweep.url import StorageUrl


@click.command()
@click.option("--rate", type=float, required=True, help="The learning rate of the run.")
@click.option("--weight-decay", type=float, help="Its weight decay, where that is searched too.")
@click.option("--value", type=float, help="What it came to, of the study's metric.")
@click.option("--perplexity", type=float, help="The same, where that is perplexity.")
@click.option("--validation-loss", type=float, help="The same, where that is validation_loss.")
@click.option("--note", default="", help="Where it is from.")
@stored_study_option
@database_option
def command(
    rate: float,
    weight_decay: float | None,
    value: float | None,
    perplexity: float | None,
    validation_loss: float | None,
    note: str,
    study: str | None,
    storage: StorageUrl,
) -> None:
    """Adds a run made by hand: it counts as a finished trial, and is marked so."""
    from sweep.formatting import format_place
    from sweep.results.baseline import stored_baseline
    from sweep.results.lookup import open_study
    from sweep.results.record import read_study
    from sweep.workflows.add import add, given_value

    opened = open_study(storage, study, say=warn)
    record = read_study(opened)
    named = {"perplexity": perplexity, "validation_loss": validation_loss}
    result = given_value(record.objective, value, named)
    number = add(opened, rate, result, note, weight_decay)
    click.echo(
        f"trial {number} of {opened.study_name}, by hand: learning rate "
        f"{format_place(rate, weight_decay)}, "
        f"{record.objective.described(result)}"
    )
    if said := record.objective.suspicion([result], stored_baseline(record)):
        warn(said)
