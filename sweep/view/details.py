"""What single commands print: the studies of a database, one trial, the rules' rates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from studies.objective import Objective
from sweep.formatting import (
    format_bound,
    format_decay,
    format_multiple,
    format_perplexity,
    format_rate,
)
from sweep.results.types import StudySummary
from sweep.view.sentences import trials_done
from sweep.view.tables import cut, folded, make_table

if TYPE_CHECKING:
    from trainers.measuring.speed import Speed


def studies_table(summaries: Sequence[StudySummary]) -> Table:
    """One row a study: its setting, how far it is, its best rate."""
    table = make_table("study", "batch", "precision", "trials", "best rate", "best")
    table.columns[0].overflow = "fold"
    table.columns[0].no_wrap = False
    for summary in summaries:
        best = summary.best
        table.add_row(
            folded(summary.name),
            Text(f"{summary.batch_size:,}"),
            Text(summary.precision),
            Text(f"{trials_done(summary)}/{summary.total}"),
            Text(format_rate(best.learning_rate) if best else "-"),
            Text(best.objective.described(best.value) if best else "-"),
        )
    return table


def speeds_table(speeds: "Sequence[Speed]") -> Table:
    """One row a measurement of `sweep bench`, under what was measured."""
    table = make_table(
        "batch", "precision", "cohort", "ms/step", "tokens/s", "GFLOP/s", "of peak", "memory"
    )
    for position in (0, 2, 3, 4, 5, 6, 7):
        table.columns[position].justify = "right"
    table.title = f"{speeds[0].model}, {speeds[0].parameters:,} parameters"
    table.title_justify = "left"
    table.title_style = "bold"
    for speed in speeds:
        table.add_row(
            f"{speed.batch_size:,}",
            speed.precision,
            f"{speed.cohort:,}",
            f"{speed.step_s * 1e3:,.1f}",
            f"{speed.tokens_per_second:,.0f}",
            f"{speed.flops_per_second / 1e9:,.1f}",
            f"{100 * speed.share_of_peak:.0f} %",
            f"{speed.peak_memory_bytes / 2**30:.2f} GiB",
        )
    return table


def print_trial(detail: dict[str, Any], console: Console) -> None:
    """Prints one trial as `sweep.results.summary.trial_detail` gives it."""
    title = f"Trial {detail['number']} of {detail['study']}: {detail['state']}"
    console.print(Text(title, style="bold"))
    grid = Table.grid(padding=(0, 2))
    for label, value in _facts(detail):
        grid.add_row(Text(f"  {label}", style="dim"), folded(value))
    console.print(grid)
    console.print()
    rules = make_table("rule", "its rate", "this trial")
    for name, rate in detail["rules"].items():
        multiple = format_multiple(detail["learning_rate"] / rate)
        rules.add_row(folded(name), Text(format_rate(rate)), Text(multiple))
    console.print(rules)
    if detail["values"]:
        console.print()
        objective = _objective(detail)
        reports = make_table(detail["unit"], objective.words)
        for step, value in detail["values"].items():
            reports.add_row(Text(step), Text(objective.format(value)))
        console.print(reports)


def _facts(detail: dict[str, Any]) -> list[tuple[str, str]]:
    multiple, objective = format_multiple(detail["multiple"]), _objective(detail)
    decay = detail.get("weight_decay")
    facts = [
        (
            "learning rate",
            f"{format_rate(detail['learning_rate'])}, {multiple} of {detail['rule']}'s rate",
        ),
        *([("weight decay", format_decay(decay))] if decay is not None else []),
        (
            objective.words,
            objective.format(detail["value"])
            + (f" up to {detail['unit']} {detail['step']}" if detail["step"] else ""),
        ),
        ("ended", detail["reason"] or "not yet"),
    ]
    if "accuracy" in detail:
        facts.append(("accuracy", f"{100 * detail['accuracy']:.1f} %"))
    if detail.get("tokens_per_second"):
        facts.append(("speed", f"{detail['tokens_per_second']:,.0f} tokens/s"))
    if detail.get("peak_memory_bytes"):
        facts += [
            ("peak memory", f"{detail['peak_memory_bytes'] / 2**20:,.0f} MiB"),
            ("skipped steps", f"{detail['skipped_steps']} since the report before"),
        ]
    if detail.get("micro_batch"):
        facts.append(("micro-batch", f"{detail['micro_batch']:,} rows: no room for more"))
    facts += [(name, f"{value:.4g}") for name, value in detail.get("metrics", {}).items()]
    facts += [("set back", message) for message in detail.get("setbacks", ())]
    return [*facts, ("folder", detail["directory"])]


def _objective(detail: dict[str, Any]) -> Objective:
    return Objective(detail["metric"], detail["direction"])


def print_priors(answer: dict[str, Any], console: Console) -> None:
    """Prints the rules' rates as `sweep.orchestration.priors.priors` gives them."""
    reference = answer["reference"]
    console.print(
        f"Batch {answer['batch_size']:,}, {answer['model']} with {answer['parameters']:,} "
        f"parameters, profile {answer['profile']}",
        highlight=False,
    )
    console.print(
        f"Reference: lr0 = {format_rate(reference['learning_rate'])} at B0 = "
        f"{reference['batch_size']}, N0 = {reference['parameters']:,}, {reference['precision']}, "
        f"perplexity {format_perplexity(reference['perplexity'])}, "
        f"{'swept' if reference['swept'] else 'not swept'}",
        highlight=False,
    )
    if reference["borrowed"]:
        console.print(f"  {reference['borrowed']}", highlight=False)
    table = make_table("rule", "rate", "formula", "source")
    for rule in answer["rules"]:
        rate = Text(format_rate(rule["learning_rate"]), style="bold")
        table.add_row(cut(rule["name"]), rate, folded(rule["formula"]), Text(rule["source"]))
    table.columns[3].no_wrap = False
    console.print(table)
    low, high = map(format_bound, answer["range"])
    first = ", ".join(format_rate(centre["learning_rate"]) for centre in answer["first"])
    console.print(f"Tried first: {first}; then between {low} and {high}", highlight=False)
