"""A report in the terminal and as Markdown."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from sweep.formatting import one_line
from sweep.results.report import Report
from sweep.view.report.sections import Section, Table, sections
from sweep.view.tables import folded, make_table, say


def print_report(report: Report, console: Console) -> None:
    """Prints the report; the trials are left to `sweep status`."""
    console.print(Text(f"Report of {one_line(report.study.name)}", style="bold"))
    for section in sections(report):
        if section.title not in ("Trials", "Setting"):
            _print_section(section, console)


def _print_section(section: Section, console: Console) -> None:
    console.print()
    answer = section.title == "Answer"
    if not answer:
        console.print(Text(section.title, style="bold"))
    for place, sentence in enumerate(section.sentences):
        say(sentence, console, style="bold green" if answer and not place else "")
    if section.table is not None:
        _print_table(section.table, console)


def _print_table(table: Table, console: Console) -> None:
    """As wide as the terminal at most: its longest cells take more lines, or each row becomes text.

    A table that is too wide first loses the column that it can do without.
    """
    if _width(table) > console.width and table.spare:
        table = table.without_spare()
    widths = [max(map(len, column)) for column in table.columns]
    longest = widths.index(max(widths))
    room = console.width - (_width(table) - widths[longest])
    if room < max(len(word) for cell in table.columns[longest] for word in cell.split()):
        for row in table.rows:
            cells = zip(table.headings, row, strict=True)
            say(", ".join(f"{heading} {cell}" for heading, cell in cells if cell), console)
        return
    shown = make_table(*table.headings)
    for place, column in enumerate(shown.columns):
        column.no_wrap = place != longest
    for row in table.rows:
        shown.add_row(*map(folded, row))
    console.print(shown)


def _width(table: Table) -> int:
    """Of the table when no cell is folded; two characters are between columns."""
    return sum(max(map(len, column)) + 2 for column in table.columns) - 2


def markdown(report: Report, without: Sequence[str] = ()) -> str:
    """The report as Markdown.

    Args:
        without: titles of the sections to leave out.
    """
    lines = [f"# Learning-rate report of {plain_markdown(report.study.name)}", ""]
    for section in sections(report):
        if section.title in without:
            continue
        lines += [f"## {section.title}", ""]
        if section.sentences:
            apart = "\n\n" if section.title == "Answer" else " "
            lines += [apart.join(map(plain_markdown, section.sentences)), ""]
        if section.table is not None:
            lines += [*markdown_table(section.table), ""]
    return "\n".join(lines)


def markdown_table(table: Table) -> list[str]:
    """A table's lines."""
    rows = table.headings, ("---",) * len(table.headings), *table.rows
    return [markdown_row(row) for row in rows]


def markdown_row(cells: tuple[str, ...]) -> str:
    """A table's row."""
    return "| " + " | ".join(plain_markdown(cell).replace("|", "\\|") for cell in cells) + " |"


def plain_markdown(text: str) -> str:
    """Text with what Markdown or HTML would take for markup made harmless."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{each}" if each in "*_`[]" else each for each in text)
