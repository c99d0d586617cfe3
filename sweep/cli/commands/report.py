"""`sweep report`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweep.cli.options import storage_option, study_option

if TYPE_CHECKING:
    from sweep.results.report import Report


@click.command()
@study_option
@storage_option
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Write Markdown.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write this file: .html (one page with its pictures), .md or .json.",
)
@click.option(
    "--png", "pictures", type=click.Path(path_type=Path), help="Write the pictures to this folder."
)
def command(
    study: str | None,
    storage: str | None,
    as_json: bool,
    as_markdown: bool,
    output: Path | None,
    pictures: Path | None,
) -> None:
    """Says which rate is best, how sure that is, which rule fits, and what it took."""
    from rich.console import Console

    from sweep.errors import SweepError
    from sweep.results.lookup import DEFAULT_STORAGE, open_all, open_study
    from sweep.results.report import build
    from sweep.view.report.to_text import print_report

    if as_json and as_markdown:
        raise SweepError("--json and --markdown are two formats: choose one")
    if output is not None and output.suffix not in (".html", ".md", ".json"):
        raise SweepError(f"-o {output}: name it .html, .md or .json")
    where = storage or DEFAULT_STORAGE
    report = build(open_study(where, study), where, open_all(where))
    said = [] if output is None else [_written(output, report)]
    if pictures is not None:
        said += _pictures(report, pictures)
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


def _written(path: Path, report: "Report") -> str:
    from sweep.errors import SweepError

    text = _text(report, path.suffix)
    try:
        path.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise SweepError(f"{path} cannot be written: {error.strerror}") from error
    return f"{path}: report of {report.study.name}"


def _pictures(report: "Report", folder: Path) -> list[str]:
    from sweep.view.report.charts import charts
    from sweep.view.report.charts_matplotlib import save_png

    files = save_png(charts(report), folder)
    return [f"{file}" for file in files] or ["no pictures: no epoch has been reported yet"]
