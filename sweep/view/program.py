"""What `sweep try` shows of a program."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from trainers.program.patterns import NAMED, Patterns
from trainers.program.reports import OF_LOSS
from trainers.report import Ending, Outcome, Report


def print_tried(said: Iterable[object], metric: str, console: Console) -> bool:
    """Prints what a program said, and what the sweep took from it.

    Args:
        said: its lines, reports and end, as of `sweep.workflows.try_program`.
        metric: what its success is measured by.
        console: where to print.

    Returns:
        Whether it reported at all.
    """
    reports, texts = 0, []
    ending = Ending(Outcome.FAILED)
    for each in said:
        if isinstance(each, Report):
            reports += 1
            console.print(Text(f"  => report at step {each.step}: {_numbers(each)}", "green"))
        elif isinstance(each, Ending):
            ending = each
        else:
            texts.append(str(getattr(each, "text", "")))
            _print_line(each, console)
    console.print()
    paused = ending.outcome is Outcome.PAUSED
    console.print(Text("ended by sweep: its time was over" if paused else ending.message))
    if reports:
        console.print(Text(f"{reports} reports were understood", "bold green"))
    else:
        console.print(Text(_nothing(metric, _fitting(texts, metric)), "bold red"))
    return bool(reports)


def _print_line(line: object, console: Console) -> None:
    text, found = str(getattr(line, "text", line)), getattr(line, "understood", {})
    console.print(Text(text, "" if found else "dim"))
    if found:
        words = ", ".join(f"{name} {value:g}" for name, value in found.items())
        console.print(Text(f"  -> {words}", "cyan"))


def _numbers(report: Report) -> str:
    known = {"validation_loss": report.validation_loss, "train_loss": report.train_loss}
    numbers = {**known, **report.metrics}
    return ", ".join(f"{name} {value:.5g}" for name, value in numbers.items() if value == value)


def _fitting(texts: list[str], metric: str) -> list[str]:
    """The named patterns that find the metric in what was printed."""
    fields = set(OF_LOSS) if metric in OF_LOSS else {metric}
    readers = {name: Patterns(name) for name in NAMED}
    found = {name: [f for t in texts for f in each.read(t)] for name, each in readers.items()}
    return [
        name
        for name, said in found.items()
        if any(fields & set(each) for each in (*said, *readers[name].end()))
    ]


def _nothing(metric: str, fitting: list[str]) -> str:
    if fitting:
        return f"no report was understood, but {metric} is: add --pattern {' or '.join(fitting)}"
    return (
        f"no report with {metric} was understood: name a pattern ({', '.join(NAMED)}, or a regular "
        "expression, by --pattern), or call sweep.client.report in the program"
    )
