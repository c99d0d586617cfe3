"""Planned studies, for people and for programs."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweep.formatting import format_count, format_size
from sweep.results.study_plan import FLOPS, StudyPlan
from sweep.view.tables import make_table, say, sized


def print_plan(plan: StudyPlan, console: Console) -> None:
    """Prints the target, the studies with the interval expected after each, and what they cost."""
    target = plan.target
    console.print(
        Text(
            f"Target: batch {target.batch_size:,}, {sized(plan.model, target.parameters)}, "
            f"{format_count(target.tokens)} tokens"
        )
    )
    say(_before(plan), console)
    console.print()
    console.print(_table(plan))
    console.print()
    spent = sum(study.cost for study in plan.studies)
    whole = 6.0 * target.parameters * target.tokens
    share = f", {_share(spent / whole)} one run of the target" if plan.unit == FLOPS else ""
    say(
        f"Together {_cost(plan, spent)} of {_cost(plan, plan.budget)}{share}; {plan.trials} trials "
        "a study, each to its end.",
        console,
    )


def plan_object(plan: StudyPlan) -> dict[str, Any]:
    """The same as plain JSON values."""
    return plan.model_dump(mode="json")


def _before(plan: StudyPlan) -> str:
    if plan.factor is None:
        return "No finished study says anything of it yet."
    studies = "1 finished study knows" if plan.seen == 1 else f"{plan.seen} finished studies know"
    return f"{studies} its best rate within a factor of {plan.factor:.2f} (90 %)."


def _table(plan: StudyPlan) -> Table:
    table = make_table("", "batch", "parameters", "tokens", "cost", "then within")
    for column in range(6):
        table.columns[column].justify = "right"
    for number, study in enumerate(plan.studies, 1):
        table.add_row(
            str(number),
            f"{study.batch_size:,}",
            format_size(study.parameters),
            format_count(study.tokens),
            _cost(plan, study.cost),
            f"x{study.factor:.2f}",
        )
    return table


def _share(share: float) -> str:
    return f"{100 * share:.2g} % of" if share < 0.995 else f"{share:.1f} times"


def _cost(plan: StudyPlan, amount: float) -> str:
    if plan.unit == FLOPS:
        return f"{amount:.1e} FLOPs".replace("e+", "e")
    return f"{amount / 60:.0f} min" if amount < 7200 else f"{amount / 3600:.1f} h"
