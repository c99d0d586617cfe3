"""`sweep reproduce` as a table beside the known values, and whether their pattern is met again."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweep.formatting import format_perplexity, format_rate
from sweep.results.known_cases import Reproduced, pattern
from sweep.view.tables import make_table

MET = {True: "as known", False: "NOT as known", None: "not known here"}


def print_reproduction(found: Sequence[Reproduced], console: Console, *, full: bool) -> None:
    """Prints the table and what it shows.

    Args:
        found: the runs.
        console: where to.
        full: whether the runs are of the known case's own size.
    """
    console.print(reproduction_table(found))
    if full:
        text = "The known values are their authors': other code, and validation windows overlapped."
    else:
        text = (
            "Run small: each rate is the same multiple of this profile's reference as there, and "
            "perplexities are compared with each other, not with the known ones."
        )
    console.print(Text(f"\n{text}"), soft_wrap=True)
    for claim, met in pattern(found):
        console.print(Text(f"{MET[met]}: {claim}"), soft_wrap=True)


def reproduction_table(found: Sequence[Reproduced]) -> Table:
    """One row a run."""
    table = make_table(
        "run", "batch", "precision", "known rate", "known", "size", "rate here", "here"
    )
    for place in (1, 3, 4, 5, 6, 7):
        table.columns[place].justify = "right"
    for one in found:
        case = one.case
        table.add_row(
            case.label,
            f"{case.batch_size:,}",
            case.precision,
            format_rate(case.learning_rate),
            "unstable" if case.known is None else format_perplexity(case.known),
            f"{one.parameters:,}",
            format_rate(one.learning_rate),
            _here(one),
        )
    return table


def _here(one: Reproduced) -> str:
    if one.run is None:
        return "failed"
    return format_perplexity(one.run.value) if one.run.state == "complete" else one.run.state
