"""`sweep report`."""

import json
import sys

import click

from sweep.cli.options import storage_option, study_option


@click.command()
@study_option
@storage_option
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Write Markdown.")
def command(study: str | None, storage: str | None, as_json: bool, as_markdown: bool) -> None:
    """Says which rate is best, how sure that is, which rule fits, and what it took."""
    from rich.console import Console

    from sweep.errors import SweepError
    from sweep.reading import DEFAULT_STORAGE, open_all, open_study
    from sweep.report import build
    from sweep.view.report_json import report_object
    from sweep.view.report_text import markdown, print_report

    if as_json and as_markdown:
        raise SweepError("--json and --markdown are two formats: choose one")
    where = storage or DEFAULT_STORAGE
    report = build(open_study(where, study), where, open_all(where))
    if as_json:
        click.echo(json.dumps(report_object(report), allow_nan=False))
    elif as_markdown:
        click.echo(markdown(report))
    else:
        print_report(report, Console(file=sys.stdout))
