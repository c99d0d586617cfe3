"""A report as one self-contained page: no script, no font and no file from elsewhere."""

import re
from html import escape

from sweep.formatting import one_line
from sweep.results.report import Report
from sweep.view.report.charts import charts
from sweep.view.report.charts_matplotlib import svg
from sweep.view.report.sections import Section, Table, sections

RATE = re.compile(r"\d[\d.]*e-\d+")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.answer { background: #eef7f3; border-left: 4px solid #009e73; padding: .6rem 1rem; }
.answer p { margin: .3rem 0; } .answer p:first-child { font-weight: 600; }
.scroll { overflow-x: auto; } figure { margin: 1.5rem 0; } svg { width: 100%; height: auto; }
figcaption { color: #555; font-size: .9rem; }
span { white-space: nowrap; }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd;
         vertical-align: top; }
th { color: #555; font-weight: 500; }
@media print { body { margin: 0; max-width: none; } figure { break-inside: avoid; } }
"""


def html(report: Report) -> str:
    """The whole report, its pictures as SVG within the page."""
    title = f"Learning-rate report: {report.study.name}"
    answer, *others = sections(report)
    body = [f"<h1>{_text(title)}</h1>", section_html(answer), *_figures(report)]
    body += [section_html(each) for each in others]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(one_line(title))}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _figures(report: Report) -> list[str]:
    return [
        f'<figure role="img" aria-label="{escape(chart.title)}">{svg(chart)}'
        f"<figcaption>{_text(chart.caption)}</figcaption></figure>"
        for chart in charts(report)
    ]


def section_html(section: Section) -> str:
    """One section of the report."""
    sentences = "".join(f"<p>{_text(sentence)}</p>" for sentence in section.sentences)
    if section.title == "Answer":
        return f'<div class="answer">{sentences}</div>'
    table = _table(section.table) if section.table is not None else ""
    return f"<section><h2>{_text(section.title)}</h2>{sentences}{table}</section>"


def _table(table: Table) -> str:
    heads = "".join(f"<th>{_text(heading)}</th>" for heading in table.headings)
    head = f"<thead><tr>{heads}</tr></thead>" if any(table.headings) else ""
    rows = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div>'


def _text(text: str) -> str:
    # A browser would break a line behind the hyphen of 1e-3.
    return RATE.sub(r"<span>\g<0></span>", escape(one_line(text)))
