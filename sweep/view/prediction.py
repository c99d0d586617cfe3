"""What finished studies say together, for people and for programs."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from studies.exponents import Exponents
from studies.law import LEVEL, PUBLISHED, Estimate, Published, Slopes, Swept
from studies.rules import Setting
from sweep.formatting import format_count, format_fitted, format_multiple, format_size
from sweep.results.family import LEAST_COMPLETE, Family, exponents
from sweep.results.forecast import Forecast
from sweep.results.prediction import Predicted
from sweep.results.record import read_study
from sweep.view.json_objects import finite
from sweep.view.tables import folded, make_table, sized


def print_prediction(said: Predicted, console: Console) -> None:
    """Prints the forecast, the studies, the rules' rates beside it, and how the rate scales."""
    forecast = said.forecast
    length = run_length(forecast.setting)
    what = f"Batch {forecast.batch_size:,}, {sized(said.model, forecast.parameters)}"
    console.print(Text(f"{what}, {length}" if length else what))
    line = (
        f"Forecast {format_fitted(forecast.learning_rate)} ({_span(forecast.low, forecast.high)})"
    )
    console.print(Text(line, style="bold green"))
    for sentence in (_safe(forecast), _reach(said), *held_lines(said.family)):
        console.print(Text(sentence))
    console.print()
    console.print(studies_table(said.family))
    console.print()
    console.print(_rules_table(said))
    console.print()
    console.print(_exponents_table(said))
    if said.exponents is not None:
        console.print()
        for sentence in scaling(said.exponents):
            console.print(Text(sentence))


def studies_table(family: Family) -> Table:
    """One row a finished study: its setting, and its best rate by its trials alone."""
    counted = family.unit or "length"
    table = make_table(
        "batch", "parameters", counted, "precision", "best rate", "90 % interval", "study"
    )
    for column in (0, 1, 2, 4):
        table.columns[column].justify = "right"
    table.columns[6].no_wrap = False
    for swept, study in zip(family.swept, family.studies, strict=True):
        table.add_row(
            f"{swept.setting.batch_size:,}",
            format_size(swept.setting.parameters),
            format_count(swept.setting.length),
            read_study(study).precision,
            format_fitted(swept.rate),
            _span(*swept.interval),
            folded(swept.study),
        )
    return table


def run_length(setting: Setting) -> str:
    """How long a run is, in words; "" where it is unknown."""
    if setting.tokens:
        return f"{format_count(setting.tokens)} tokens"
    if setting.sequences:
        return f"{format_count(setting.sequences / setting.batch_size)} steps"
    return ""


def family_notes(family: Family) -> Iterator[str]:
    """What finished studies say together, in lines; nothing where they are too few."""
    found = exponents(family)
    if found is None:
        return
    yield f"How the best rate scales; held fixed: {family.held}"
    for swept in family.swept:
        setting, several = swept.setting, len({s.setting.length for s in family.swept}) > 1
        length = f", {run_length(setting)}" if several else ""
        where = f"batch {setting.batch_size:,}{length}: {format_fitted(swept.rate)}"
        yield f"{where} ({_span(*swept.interval)})"
    yield from scaling(found)


def scaling(found: Exponents) -> Iterator[str]:
    """How the best rate scales, a sentence a law."""
    if found.batch is not None:
        yield f"Power law lr = c B^p: p = {_number(found.batch)}."
    if found.parameters is not None:
        yield f"With the model's size, lr = c N^-q: q = {_number(found.parameters)}."
    if found.length is not None:
        yield f"With the length of a run, lr = c D^t: t = {_number(found.length)}."
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
        "law": [
            {"axis": axis, **finite(asdict(slope)), "published": [asdict(p) for p in published]}
            for axis, slope, published in _axes(said.slopes)
        ],
        **family_object(said.family, said.exponents),
    }


def family_object(family: Family, found: Exponents | None) -> dict[str, Any]:
    """Finished studies and their exponents as plain JSON values."""
    return {
        "held_fixed": family.held,
        "carried": family.carried,
        "left_out": dict(family.left_out),
        "too_short": family.too_short,
        "studies": [_swept_object(swept) for swept in family.swept],
        "exponents": None if found is None else finite(asdict(found)),
    }


def _swept_object(swept: Swept) -> dict[str, Any]:
    low, high = swept.interval
    return {
        "name": swept.study,
        "batch_size": swept.setting.batch_size,
        "parameters": swept.setting.parameters,
        "tokens": swept.setting.tokens,
        "sequences": swept.setting.sequences,
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


def _exponents_table(said: Predicted) -> Table:
    """The law's exponents where the rate was asked for, and what was published of each."""
    table = make_table("axis", "exponent there", "90 % interval", "published")
    table.columns[3].no_wrap = False
    for *cells, published in law_rows(said.slopes):
        table.add_row(*cells, folded(published))
    return table


def law_rows(slopes: Slopes) -> Iterator[tuple[str, str, str, str]]:
    """Each axis with its exponent, that one's interval, and what was published of it."""
    for axis, slope, published in _axes(slopes):
        known = "; ".join(f"{p.exponent:g} ({p.what}: {p.source})" for p in published)
        yield axis, f"{slope.value:.2f}", f"{slope.low:.2f} to {slope.high:.2f}", known


def _axes(slopes: Slopes) -> Iterator[tuple[str, Estimate, list[Published]]]:
    for axis in ("batch", "parameters", "length"):
        slope = getattr(slopes, axis)
        if slope is not None:
            yield axis, slope, [each for each in PUBLISHED if each.axis == axis]


def _safe(forecast: Forecast) -> str:
    assert forecast.safe is not None
    assert forecast.lost_from is not None
    return (
        f"Safe up to {format_fitted(forecast.safe)}: higher rates are lost with over 5 % risk. "
        f"The forecast rate has {_percent(forecast.risk or 0.0)}; "
        f"{format_fitted(forecast.lost_from)} is lost as likely as not."
    )


def _percent(share: float) -> str:
    return "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def held_lines(family: Family) -> Iterator[str]:
    """What the studies have in common, and which others were left out for what."""
    yield f"Held fixed: {family.held or 'neither length, precision nor seed'}."
    if family.carried:
        yield f"Carried unchanged over {family.carried}: it moves a rate by its noise at most."
    for names, count in family.left_out.items():
        studies = "1 study differs" if count == 1 else f"{count} studies differ"
        yield f"Left out: {studies} in {names}, over which nothing here carries a rate."
    if family.too_short:
        several = f"{family.too_short} finished studies"
        studies = "1 finished study" if family.too_short == 1 else several
        yield (
            f"Not counted: {studies} with fewer than {LEAST_COMPLETE} whole runs, which say little "
            "beyond what they began with."
        )


def _reach(said: Predicted) -> str:
    ratios = (
        ("batch", said.forecast.batch_ratio),
        ("model", said.forecast.parameter_ratio),
        ("length", said.forecast.length_ratio),
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
