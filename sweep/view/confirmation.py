"""`sweep confirm` in words and a table."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from studies.objective import Objective
from sweep.formatting import format_decay, format_mean, format_place, format_rate, format_with_error
from sweep.results.confirmation import LEVEL, Confirmation, Finalist
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
    table = make_table(*headings(confirmation))
    for column in table.columns:
        column.justify = "right"
    for row in rows(confirmation):
        table.add_row(*row)
    return table


def headings(confirmation: Confirmation) -> tuple[str, ...]:
    """Of the cells of `rows`."""
    seeds = [f"seed {seed}" for seed in confirmation.seeds]
    decay = ["decay"] if confirmation.finalists[0].weight_decay is not None else []
    return ("rate", *decay, "trial", "search", *seeds, "mean", "s.e.")


def rows(confirmation: Confirmation) -> tuple[tuple[str, ...], ...]:
    """Every finalist's values: the search's, each new seed's, their mean."""
    return tuple(_cells(each, confirmation.objective) for each in confirmation.finalists)


def _cells(finalist: Finalist, objective: Objective) -> tuple[str, ...]:
    mean, runs = finalist.mean, zip(finalist.states, finalist.values, strict=True)
    shown = format_mean(objective, mean.mean, mean.standard_error) if mean else ("", "")
    return (
        format_rate(finalist.learning_rate),
        *([] if finalist.weight_decay is None else [format_decay(finalist.weight_decay)]),
        str(finalist.trial),
        objective.format(finalist.searched),
        *(objective.format(value) if state == "complete" else state for state, value in runs),
        *(text or "-" for text in shown),
    )


def answer(confirmation: Confirmation) -> list[str]:
    """Which rate held, and how sure that is; one line each."""
    best = confirmation.best
    if best is None:
        return ["Not confirmed: no finalist was trained whole at every new seed."]
    lines = [_best_words(confirmation, best)]
    objective = confirmation.objective
    searched = min(confirmation.finalists, key=lambda each: objective.signed(each.searched))
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
    assert best.mean is not None
    objective = confirmation.objective
    mean = format_with_error(objective, best.mean.mean, best.mean.standard_error)
    return (
        f"Best over {count} new seed{'s' if count > 1 else ''}: learning rate "
        f"{_place(best)} (trial {best.trial}), {objective.words} {mean}; "
        f"the search's seed gave {objective.format(best.searched)}."
    )


def _place(finalist: Finalist) -> str:
    return format_place(finalist.learning_rate, finalist.weight_decay)


def _beside(confirmation: Confirmation, finalist: Finalist) -> str:
    rate = _place(finalist)
    lost = [state for state in finalist.states if state != "complete"]
    if lost:
        return f"{rate} {lost[0]} at {len(lost)} of {len(finalist.states)} seeds."
    assert confirmation.best is not None
    gap = confirmation.against_best(finalist)
    said = f"{rate} against {_place(confirmation.best)}: "
    objective = confirmation.objective
    said += f"{objective.words} {objective.gap(gap.mean)}"
    if gap.low is None or gap.high is None:
        return f"{said}; one seed alone tells nothing apart."
    interval = f"{100 * LEVEL:.0f} % interval {objective.gap(gap.low)} to {objective.gap(gap.high)}"
    told = "" if gap.low > 0 else ": not told apart, more --seeds might"
    return f"{said} ({interval}, the same seeds){told}."
