"""What finished studies say together, for people and for programs."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from studies.exponents import Estimate, Exponents
from studies.transfer import LEVEL, Swept
from sweep.formatting import format_fitted, format_multiple, format_size
from sweep.results.family import Family, exponents
from sweep.results.prediction import Predicted
from sweep.results.record import read_study
from sweep.view.json_objects import finite
from sweep.view.tables import folded, make_table, sized


def print_prediction(said: Predicted, console: Console) -> None:
    """Prints the forecast, the studies, the rules' rates beside it, and how the rate scales."""
    forecast = said.forecast
    console.print(
        f"Batch {forecast.batch_size:,}, {sized(said.model, forecast.parameters)}",
        highlight=False,
    )
    line = (
        f"Forecast {format_fitted(forecast.learning_rate)} ({_span(forecast.low, forecast.high)})"
    )
    console.print(Text(line, style="bold green"))
    for sentence in (_reach(said), f"Held fixed: {said.family.held}."):
        console.print(Text(sentence))
    console.print()
    console.print(studies_table(said.family))
    console.print()
    console.print(_rules_table(said))
    if said.exponents is not None:
        console.print()
        for sentence in scaling(said.exponents):
            console.print(Text(sentence))


def studies_table(family: Family) -> Table:
    """One row a finished study: its setting, and its best rate by its trials alone."""
    table = make_table("batch", "parameters", "precision", "best rate", "90 % interval", "study")
    for column in (0, 1, 3):
        table.columns[column].justify = "right"
    table.columns[5].no_wrap = False
    for swept, study in zip(family.swept, family.studies, strict=True):
        table.add_row(
            f"{swept.setting.batch_size:,}",
            format_size(swept.setting.parameters),
            read_study(study).precision,
            format_fitted(swept.rate),
            _span(*swept.interval),
            folded(swept.study),
        )
    return table


def family_notes(family: Family) -> Iterator[str]:
    """What finished studies say together, in lines; nothing where they are too few."""
    found = exponents(family)
    if found is None:
        return
    yield f"How the best rate scales; held fixed: {family.held}"
    for swept in family.swept:
        where = f"batch {swept.setting.batch_size:,}: {format_fitted(swept.rate)}"
        yield f"{where} ({_span(*swept.interval)})"
    yield from scaling(found)


def scaling(found: Exponents) -> Iterator[str]:
    """How the best rate scales, a sentence a law."""
    if found.batch is not None:
        yield f"Power law lr = c B^p: p = {_number(found.batch)}."
    if found.parameters is not None:
        yield f"With the model's size, lr = c N^-q: q = {_number(found.parameters)}."
    for each in found.local:
        between = f"batch {each.smaller:,} to {each.larger:,}"
        yield f"p from {between}: {_number(each.exponent)}"
    if found.critical_batch is not None:
        yield f"Saturating lr = c / (1 + Bc/B): {_critical(found.critical_batch)}."


def prediction_object(said: Predicted) -> dict[str, Any]:
    """The same as plain JSON values; an end of an interval that is not known is null."""
    stored = said.forecast.stored()
    for name in ("studies", "batches", "made"):
        del stored[name]
    return {
        **stored,
        "model": said.model,
        "rules": [{"name": k, "learning_rate": rate} for k, rate in said.rules.items()],
        **family_object(said.family, said.exponents),
    }


def family_object(family: Family, found: Exponents | None) -> dict[str, Any]:
    """Finished studies and their exponents as plain JSON values."""
    return {
        "held_fixed": family.held,
        "studies": [_swept_object(swept) for swept in family.swept],
        "exponents": None if found is None else finite(asdict(found)),
    }


def _swept_object(swept: Swept) -> dict[str, Any]:
    low, high = swept.interval
    return {
        "name": swept.study,
        "batch_size": swept.setting.batch_size,
        "parameters": swept.setting.parameters,
        "learning_rate": swept.rate,
        "low": low,
        "high": high,
        "level": LEVEL,
    }


def _rules_table(said: Predicted) -> Table:
    table = make_table("rule", "rate there", "x forecast")
    for name, rate in said.rules.items():
        multiple = format_multiple(rate / said.forecast.learning_rate)
        table.add_row(folded(name), format_fitted(rate), multiple)
    return table


def _reach(said: Predicted) -> str:
    ratios = (
        ("batch", said.forecast.batch_ratio),
        ("model", said.forecast.parameter_ratio),
    )
    count = len(said.family.swept)
    text = f"It rests on {count} finished {'study' if count == 1 else 'studies'}"
    beyond = [_beyond(what, ratio) for what, ratio in ratios if ratio != 1]
    if not beyond:
        return f"{text} and lies between them." if count > 1 else f"{text} of this setting."
    return f"{text} and extrapolates: {' and '.join(beyond)}."


def _beyond(what: str, ratio: float) -> str:
    if ratio > 1:
        return f"{ratio:.3g} times the largest {what} swept"
    return f"1/{1 / ratio:.3g} of the smallest {what} swept"


def _critical(found: Estimate) -> str:
    if found.low == 0 and math.isinf(found.high):
        return "these batch sizes do not show a critical one"
    if math.isinf(found.high):
        return f"the critical batch size Bc lies above {found.low:,.0f}"
    if found.low == 0:
        return f"the critical batch size Bc lies below {found.high:,.0f}"
    return f"critical batch size Bc = {found.value:,.0f} ({found.low:,.0f} to {found.high:,.0f})"


def _number(found: Estimate) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _span(low: float, high: float) -> str:
    return f"{format_fitted(low)} to {format_fitted(high)}"
