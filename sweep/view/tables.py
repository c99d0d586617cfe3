"""Tables and the end report, shared by every view and by the commands that read a study."""

import math
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweep.formatting import (
    format_bound,
    format_decay,
    format_multiple,
    format_rate,
    one_line,
    wrapped,
)
from sweep.results.types import RuleRow, StudySummary, TrialRow
from sweep.view.sentences import ENDED, answer, baseline_words, edge_warning, trials_done, why
from trainers.report import Outcome

__all__ = [
    "format_rate",
    "make_table",
    "print_header",
    "print_summary",
    "rules_table",
    "trials_table",
]

PRINTED = 100  # trials at most: the best and the newest; `--json` has them all
WIDE = 100  # columns from which on the trials have their reasons beside them, rules their formulas

NOTHING_SPECIAL = ("", Outcome.COMPLETED.sentence, "trained all its epochs")  # earlier versions'

STATE_STYLES = {
    "running": "cyan",
    "waiting": "dim",
    "complete": "green",
    "pruned": "yellow",
    "paused": "cyan",
    "failed": "red",
}


def cut(text: str, style: str = "") -> Text:
    """A cell that ends in an ellipsis where its column is too narrow, and never wraps."""
    return Text(one_line(text), style=style, no_wrap=True, overflow="ellipsis")


def folded(text: str) -> Text:
    """A cell that takes as many lines as it needs."""
    return Text(one_line(text), overflow="fold")


def say(text: str, console: Console, style: str = "") -> None:
    """Prints a sentence, in lines that break where a reader would break them."""
    console.print(Text(wrapped(text, console.width), style=style))


def trials_table(
    summary: StudySummary, *, limit: int | None = None, fold: bool = False, reasons: bool = True
) -> Table:
    """The study's trials by number, the best one in bold.

    Args:
        limit: most rows, the caption that says how many are missing among them; None shows all.
        fold: give long texts more lines instead of an ellipsis.
        reasons: have a column for them.
    """
    decays = summary.decay_range is not None
    headings = [
        "#",
        "rate",
        *(["decay"] if decays else []),
        "rule",
        "x rule",
        summary.objective.words,
        f"{summary.unit}s",
        "state",
        "reason",
    ]
    table = make_table(*(headings if reasons else headings[:-1]))
    for position in (0, 3, 4, 5):
        table.columns[position + (decays and position > 0)].justify = "right"
    rows = summary.trials if limit is None else visible_rows(summary.trials, limit)
    for row in rows:
        style = "bold" if summary.best and row.number == summary.best.number else ""
        cells = _trial_cells(row, folded if fold else cut, decays=decays)
        table.add_row(*cells[: len(table.columns)], style=style)
    hidden = len(summary.trials) - len(rows)
    if hidden:
        table.caption = cut(f"... and {hidden} more", "dim")
        table.caption_justify = "left"
    return table


def visible_rows(rows: tuple[TrialRow, ...], limit: int) -> list[TrialRow]:
    """The best few and the newest of `rows`, in their order; one line is left for the caption.

    Trials that ended come before running ones: those have a line of their own on the screen.
    """
    if len(rows) <= limit:
        return list(rows)
    room = max(1, limit - 1)
    complete = [row for row in rows if row.state == "complete"]
    best = sorted(complete, key=lambda row: row.stored)[: (room + 1) // 2]
    chosen = {row.number for row in best}
    for row in sorted(rows, key=lambda row: (row.state not in ENDED, -row.number)):
        if len(chosen) < room:
            chosen.add(row.number)
    return [row for row in rows if row.number in chosen]


def rules_table(summary: StudySummary, *, formulas: bool = True, outcomes: bool = True) -> Table:
    """Each rule's own rate and, with `outcomes`, how the trial nearest to it did."""
    headings = ["rule", *(["formula"] if formulas else []), "rate"]
    table = make_table(
        *headings, *(["trial", summary.objective.words, "state"] if outcomes else [])
    )
    best = min((_value(rule) for rule in summary.rules), default=math.inf)
    for rule in summary.rules:
        cells = [
            folded(rule.name),
            *([folded(rule.formula)] if formulas else []),
            Text(format_rate(rule.learning_rate)),
        ]
        if outcomes:
            cells += _outcome_cells(rule, summary, best)
        table.add_row(*cells, style="bold" if outcomes and _value(rule) == best < math.inf else "")
    return table


def print_header(summary: StudySummary, console: Console) -> None:
    """Prints what is searched and on what: the study, its reference, the rules' own rates.

    One line is enough for a study that is given its rates.
    """
    if summary.fixed:
        seed = f"seed {summary.seed}, batch {summary.batch_size:,} in {summary.precision}"
        console.print(Text(f"Study {one_line(summary.name)}: {seed}", style="bold"))
        return
    console.print(Text(f"Study {one_line(summary.name)}", style="bold"))
    grid = Table.grid(padding=(0, 2))
    for label, value in _facts(summary):
        grid.add_row(Text(f"  {label}", style="dim"), folded(value))
    console.print(grid)
    if summary.rules:
        console.print()
        console.print(rules_table(summary, outcomes=False))
    console.print()


def print_summary(summary: StudySummary, console: Console) -> None:
    """Prints the trials, the answer in words, how each rule's own rate did, and the warnings."""
    wide = console.width >= WIDE
    if summary.trials:
        console.print(trials_table(summary, limit=PRINTED, fold=True, reasons=wide))
        if not wide:
            _print_reasons(visible_rows(summary.trials, PRINTED), console)
        console.print()
    first, *others = answer(summary)
    found = summary.best is not None and not summary.learned_nothing
    say(first, console, "bold green" if found else "bold yellow")
    for line in others:
        say(line, console)
    if summary.rules:
        console.print(Text("\nHow each rule's own rate did:"))
        console.print(rules_table(summary, formulas=wide))
    warning = edge_warning(summary)
    if warning:
        console.print()
        say(f"Warning: {warning}", console, "yellow")


def _print_reasons(rows: Sequence[TrialRow], console: Console) -> None:
    """Why trials ended early: in a column of a narrow table each would take ten lines."""
    for row in rows:
        if why(row) not in NOTHING_SPECIAL:
            say(f"trial {row.number}, {row.state}: {why(row)}", console, "dim")


def make_table(*headings: str) -> Table:
    """An empty table with the project's look."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        # Only these columns give way on a narrow terminal: numbers stay whole.
        gives_way = heading in ("rule", "reason", "formula")
        table.add_column(heading, no_wrap=not gives_way, header_style="dim")
    return table


def _trial_cells(row: TrialRow, words: Callable[[str], Text], *, decays: bool) -> list[Text]:
    return [
        Text(str(row.number)),
        Text(format_rate(row.learning_rate)),
        *([Text(format_decay(row.weight_decay))] if decays else []),
        words(row.rule),
        Text(format_multiple(row.multiple)),
        Text(row.objective.format(row.value)),
        Text(steps_cell(row)),
        Text(row.state, style=STATE_STYLES.get(row.state, "")),
        words(why(row)),
    ]


def steps_cell(row: TrialRow) -> str:
    """How far a trial got: "60/200", "60" where its length is unknown."""
    if row.by_hand:
        return "by hand"
    return f"{row.step}/{row.steps}" if row.steps else str(row.step)


def _length(summary: StudySummary) -> str:
    return f" of {summary.steps:,} {summary.unit}s each" if summary.steps else ""


def _value(rule: RuleRow) -> float:
    """What a rule's own rate reached, as it is stored; infinity where no trial completed there."""
    if rule.trial is None or rule.trial.state != "complete":
        return math.inf
    return rule.trial.stored


def _outcome_cells(rule: RuleRow, summary: StudySummary, best: float) -> list[Text]:
    low, high = summary.working_range
    if rule.trial is None:
        missed = "not tried" if low <= rule.learning_rate <= high else "out of range"
        return [Text("-"), Text("-"), Text(missed, style="dim")]
    mark = ", best rule" if _value(rule) == best < math.inf else ""
    state = Text(rule.trial.state + mark, style=STATE_STYLES.get(rule.trial.state, ""))
    # One trial stands for rates that are near one another: where it ran is said.
    where = "" if rule.own else f" at {format_rate(rule.trial.learning_rate)}"
    number = Text(f"{rule.trial.number}{where}")
    return [number, Text(rule.trial.objective.format(rule.trial.value)), state]


def sized(model: str, parameters: int) -> str:
    """A model with its size, where that is known."""
    return f"{model}, {parameters:,} parameters" if parameters > 1 else model


def setting_facts(summary: StudySummary) -> list[tuple[str, str]]:
    """What is trained, as far as it is known: of a program's model and data nothing may be."""
    facts = [
        ("model" if summary.data else "program", sized(summary.model, summary.parameters)),
        ("batch", f"{summary.batch_size:,} in {summary.precision} on {summary.device}"),
    ]
    return [*facts, ("data", summary.data)] if summary.data else facts


def decay_facts(summary: StudySummary) -> list[tuple[str, str]]:
    """The weight decays that are searched, where they are."""
    if summary.decay_range is None:
        return []
    low, high = map(format_decay, summary.decay_range)
    return [("weight decay", f"{low} to {high}")]


def _facts(summary: StudySummary) -> list[tuple[str, str]]:
    low, high = map(format_bound, summary.working_range)
    known = [("baseline", baseline_words(summary))] if summary.data else []
    return [
        *setting_facts(summary),
        ("reference", summary.reference_text),
        *known,
        ("range", f"{low} to {high}"),
        *decay_facts(summary),
        (
            "trials",
            f"{summary.total}{_length(summary)}, {trials_done(summary)} done",
        ),
        ("storage", summary.storage),
    ]
