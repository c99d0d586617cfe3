"""The logbook of a family of studies, as Markdown."""

import time

from sweep.formatting import format_fitted, format_size
from sweep.results.logbook import Logbook, LogEntry, LogForecast
from sweep.view.prediction import held_lines, law_rows, run_length, scaling
from sweep.view.report.sections import Table
from sweep.view.report.to_text import markdown_table, plain_markdown

LAW = ("axis", "exponent", "90 % interval", "published")
STUDIES = ("ran", "batch", "parameters", "length", "best rate", "90 % interval", "safe up to")
FORECASTS = ("made", "batch", "parameters", "length", "forecast", "90 % interval", "found")


def logbook_markdown(logbook: Logbook) -> str:
    """What was asked, each study with its command and result, the law, and the forecasts."""
    first = logbook.entries[0].record
    lines = [f"# Learning-rate logbook of {plain_markdown(first.model)}", ""]
    data = f"Text: {first.data_source}." if first.data_source else ""
    lines += [plain_markdown(" ".join([data, *held_lines(logbook.family)]).strip()), ""]
    studies = Table(STUDIES, tuple(_study_row(entry) for entry in logbook.entries))
    lines += ["## Studies", "", *markdown_table(studies), ""]
    for entry in logbook.entries:
        lines += [*_asked(entry), ""]
    laws = Table(
        ("axis", "exponent", "90 % interval", "published"), tuple(law_rows(logbook.slopes))
    )
    lines += ["## The law", "", "At the largest study:", "", *markdown_table(laws), ""]
    if logbook.exponents is not None:
        lines += [plain_markdown(" ".join(scaling(logbook.exponents))), ""]
    if logbook.forecasts:
        table = Table(FORECASTS, tuple(_forecast_row(each) for each in logbook.forecasts))
        lines += ["## Forecasts", "", *markdown_table(table), ""]
    return "\n".join(lines)


def _study_row(entry: LogEntry) -> tuple[str, ...]:
    setting, found = entry.swept.setting, entry.found
    return (
        _day(entry.record.ran),
        f"{setting.batch_size:,}",
        format_size(setting.parameters),
        run_length(setting) or "-",
        format_fitted(found.learning_rate),
        f"{format_fitted(found.low)} to {format_fitted(found.high)}",
        format_fitted(found.safe_up_to) if found.safe_up_to else "-",
    )


def _asked(entry: LogEntry) -> list[str]:
    """How a study came about."""
    record = entry.record
    facts = [
        f"{entry.trials} trials, seed {record.seed}, {record.precision} on {record.device or '-'}"
    ]
    facts += [f"command: {record.command}"] if record.command else []
    facts += [f"commit: {record.commit}"] if record.commit else []
    facts += [record.forecast_met] if record.forecast_met else []
    lines = [f"- {plain_markdown(fact)}" for fact in facts]
    return [f"### {plain_markdown(entry.swept.study)}", "", *lines]


def _forecast_row(each: LogForecast) -> tuple[str, ...]:
    forecast, found = each.forecast, each.found
    words = "not swept yet"
    if found is not None:
        side = "inside" if forecast.low <= found.rate <= forecast.high else "outside"
        words = f"{format_fitted(found.rate)}, {side}"
    return (
        _day(forecast.made),
        f"{forecast.batch_size:,}",
        format_size(forecast.parameters),
        run_length(forecast.setting) or "-",
        format_fitted(forecast.learning_rate),
        f"{format_fitted(forecast.low)} to {format_fitted(forecast.high)}",
        words,
    )


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds)) if seconds else "-"
