"""`sweep add`."""

import click

from sweep.cli.options import database_option, stored_study_option, warn
from sweep.url import StorageUrl


@click.command()
@click.option("--rate", type=float, required=True, help="The learning rate of the run.")
@click.option("--perplexity", type=float, required=True, help="What it came to.")
@click.option("--note", default="", help="Where it is from.")
@stored_study_option
@database_option
def command(
    rate: float, perplexity: float, note: str, study: str | None, storage: StorageUrl
) -> None:
    """Adds a run made by hand: it counts as a finished trial, and is marked so."""
    from studies.perplexity import look_like_losses, suspicion
    from sweep.results.baseline import stored_baseline
    from sweep.results.lookup import open_study
    from sweep.results.record import read_study
    from sweep.view.tables import format_perplexity, format_rate
    from sweep.workflows.add import add

    opened = open_study(storage, study, say=warn)
    number = add(opened, rate, perplexity, note)
    click.echo(
        f"trial {number} of {opened.study_name}, by hand: learning rate {format_rate(rate)}, "
        f"perplexity {format_perplexity(perplexity)}"
    )
    baseline = stored_baseline(read_study(opened))
    if baseline is not None and look_like_losses([perplexity], baseline):
        warn(suspicion(perplexity, baseline))
