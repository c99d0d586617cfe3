"""`sweep confirm` in words and a table."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweep.confirm import LEVEL, Confirmation, Finalist
from sweep.view.comparison import signed
from sweep.view.formats import format_perplexity, format_rate
from sweep.view.tables import make_table


def print_confirmation(confirmation: Confirmation, console: Console) -> None:
    """Prints the finalists by their means, and the answer in words."""
    console.print(finalists_table(confirmation))
    console.print()
    first, *others = answer(confirmation)
    console.print(Text(first, style="bold"), soft_wrap=True)
    for line in others:
        console.print(Text(line), soft_wrap=True)


def finalists_table(confirmation: Confirmation) -> Table:
    """One row a finalist: what the search said, every new seed, their mean."""
    seeds = [f"seed {seed}" for seed in confirmation.seeds]
    table = make_table("rate", "trial", "search", *seeds, "mean", "s.e.")
    for column in table.columns:
        column.justify = "right"
    for finalist in confirmation.finalists:
        mean = finalist.mean
        cells = [
            format_perplexity(run.perplexity) if run.state == "complete" else run.state
            for run in finalist.runs
        ]
        error = "-" if mean is None or mean.standard_error is None else f"{mean.standard_error:.2g}"
        table.add_row(
            format_rate(finalist.learning_rate),
            str(finalist.trial),
            format_perplexity(finalist.searched),
            *cells,
            format_perplexity(mean.mean) if mean else "-",
            error,
        )
    return table


def answer(confirmation: Confirmation) -> list[str]:
    """Which rate held, and how sure that is; one line each."""
    best = confirmation.best
    if best is None:
        return ["Not confirmed: no finalist was trained whole at every new seed."]
    lines = [_best_words(confirmation, best)]
    searched = min(confirmation.finalists, key=lambda finalist: finalist.searched)
    if searched is not best:
        lines.append(
            f"The search's own best was {format_rate(searched.learning_rate)} (trial "
            f"{searched.trial})."
        )
    for finalist in confirmation.finalists:
        if finalist is not best:
            lines.append(_beside(confirmation, finalist))
    return lines


def _best_words(confirmation: Confirmation, best: Finalist) -> str:
    count = len(confirmation.seeds)
    return (
        f"Best over {count} new seed{'s' if count > 1 else ''}: learning rate "
        f"{format_rate(best.learning_rate)} (trial {best.trial}), perplexity {mean_words(best)}; "
        f"the search's seed gave {format_perplexity(best.searched)}."
    )


def mean_words(finalist: Finalist) -> str:
    """A mean with its standard error: "72.13 +- 0.41"."""
    assert finalist.mean is not None
    error = finalist.mean.standard_error
    return format_perplexity(finalist.mean.mean) + (f" +- {error:.2g}" if error is not None else "")


def _beside(confirmation: Confirmation, finalist: Finalist) -> str:
    rate = format_rate(finalist.learning_rate)
    lost = [run for run in finalist.runs if run.state != "complete"]
    if lost:
        return f"{rate} {lost[0].state} at {len(lost)} of {len(finalist.runs)} seeds."
    gap = confirmation.against_best(finalist)
    if gap.low is None or gap.high is None:
        return f"{rate} is {signed(gap.mean)}: one seed alone tells nothing apart."
    interval = f"{100 * LEVEL:.0f} % interval {signed(gap.low)} to {signed(gap.high)}"
    told = "" if gap.low > 0 else ": not told apart, more --seeds might"
    return f"{rate} is {signed(gap.mean)} ({interval}, the same seeds){told}."
