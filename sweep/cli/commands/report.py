"""`sweep report`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweep.cli.options import database_option, force_option, stored_study_option
from sweep.url import StorageUrl

if TYPE_CHECKING:
    from optuna.study import Study

    from sweep.results.report import Report


@click.command()
@stored_study_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Write Markdown.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help='Write this file: .html (one page with its pictures), .md or .json; "-" is Markdown here.',
)
@click.option(
    "--png", "pictures", type=click.Path(path_type=Path), help="Write the pictures to this folder."
)
@click.option("--family", is_flag=True, help="A logbook of all studies like it, as Markdown.")
@force_option
def command(
    study: str | None,
    storage: StorageUrl,
    as_json: bool,
    as_markdown: bool,
    output: Path | None,
    pictures: Path | None,
    family: bool,
    force: bool,
) -> None:
    """Says which rate is best, how sure that is, which rule fits, and what it took."""
    from rich.console import Console

    from sweep.errors import SweepError
    from sweep.outputs import STDOUT
    from sweep.results.lookup import open_all, open_study
    from sweep.results.report import build
    from sweep.view.report.to_text import print_report

    if as_json and as_markdown:
        raise SweepError("--json and --markdown are two formats: choose one")
    if output == STDOUT:
        output, as_markdown = None, not as_json
    if output is not None and output.suffix not in (".html", ".md", ".json"):
        raise SweepError(f"-o {output}: name it .html, .md or .json")
    if family:
        _check_logbook(output, as_json=as_json, pictures=pictures)
        _log(open_study(storage, study), storage, output, force=force)
        return
    report = build(open_study(storage, study), storage, open_all(storage))
    said = [] if output is None else [_written(output, report, force=force)]
    if pictures is not None:
        said += _pictures(report, pictures, force=force)
    if as_json or as_markdown:
        click.echo(_text(report, ".json" if as_json else ".md"))
        return
    if not said:
        print_report(report, Console(file=sys.stdout))
    for line in said:
        click.echo(line)


def _text(report: "Report", suffix: str) -> str:
    if suffix == ".json":
        from sweep.view.report.to_json import report_object

        return json.dumps(report_object(report), allow_nan=False)
    if suffix == ".md":
        from sweep.view.report.to_text import markdown

        return markdown(report)
    from sweep.view.report.to_html import html

    return html(report)


def _written(path: Path, report: "Report", *, force: bool) -> str:
    from sweep.outputs import write_output

    write_output(path, _text(report, path.suffix), force=force)
    return f"{path}: report of {report.study.name}"


def _pictures(report: "Report", folder: Path, *, force: bool) -> list[str]:
    from sweep.view.report.charts import charts
    from sweep.view.report.charts_matplotlib import save_png

    files = save_png(charts(report), folder, force=force)
    return [f"{file}" for file in files] or ["no pictures: nothing has been reported yet"]


def _check_logbook(output: Path | None, *, as_json: bool, pictures: Path | None) -> None:
    """Refuses other formats than the logbook's."""
    from sweep.errors import SweepError

    if as_json or pictures is not None or (output is not None and output.suffix != ".md"):
        raise SweepError("--family writes Markdown: leave out --json and --png, and name -o .md")


def _log(study: "Study", storage: StorageUrl, output: Path | None, *, force: bool) -> None:
    from sweep.outputs import write_output
    from sweep.results.logbook import build_logbook
    from sweep.storage.connect import open_storage
    from sweep.view.logbook import logbook_markdown

    text = logbook_markdown(build_logbook(study, open_storage(storage, create=False)))
    if output is None:
        click.echo(text)
        return
    write_output(output, text, force=force)
    click.echo(f"{output}: logbook of {study.study_name} and those like it")
