"""Numbers and foreign text as a person reads them."""

import math
import re
import textwrap

from studies.objective import PERPLEXITY, Objective

# What no line may break in: a command, a share, a difference or another formula.
_WHOLE = re.compile(r"`[^`]*`|\d %| (?:\+-|[-=/]) ")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def format_rate(rate: float) -> str:
    """Three significant digits without padding: 8e-4 -> "8.00e-4"; "-" for one not drawn yet."""
    if not math.isfinite(rate):
        return "-"
    mantissa, exponent = f"{rate:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def format_decay(decay: float | None) -> str:
    """A weight decay, three significant digits: "0.12", "1.6"; "-" for one not drawn yet."""
    return "-" if decay is None else f"{decay:.3g}"


def format_place(rate: float, decay: float | None) -> str:
    """A rate, and the weight decay beside it where that was searched too."""
    shown = format_rate(rate)
    return shown if decay is None else f"{shown} with weight decay {format_decay(decay)}"


def format_fitted(rate: float) -> str:
    """A best rate that was fitted, "3.1e-3": it is never known to more digits."""
    mantissa, exponent = f"{rate:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def format_size(parameters: int) -> str:
    """How many parameters a model has; "-" for a program's that nobody has told."""
    return f"{parameters:,}" if parameters > 1 else "-"


def format_count(number: float | None) -> str:
    """Tokens or steps, to three digits from a million on: "30,000", "2.05e9"; "-" for unknown."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if number < 1e6 else format_exponent(number)


def format_bound(rate: float) -> str:
    """A rate as a user would type it: 1e-4, 0.05, 1."""
    return f"{rate:.3g}" if 0.01 <= rate < 1000 else format_exponent(rate)


def format_exponent(rate: float) -> str:
    """A rate on an axis, at most three digits: 2e-3, 2.5e-2, 1."""
    mantissa, exponent = f"{rate:.2e}".split("e")
    power = f"e{int(exponent)}" if int(exponent) else ""
    return mantissa.rstrip("0").rstrip(".") + power


def format_plain(number: float) -> str:
    """A number on an axis: 42, 42.5, 2,048."""
    return f"{number:,.10g}"


def format_multiple(multiple: float) -> str:
    """A rate as a multiple of a rule's: "x1.00", "x12.4", "x0.0031"; "-" where it is not known."""
    if not math.isfinite(multiple):
        return "-"
    if multiple < 0.1:
        return f"x{multiple:.2g}"
    digits = 2 if multiple < 9.995 else 1 if multiple < 99.95 else 0
    return f"x{multiple:,.{digits}f}"


def format_perplexity(perplexity: float | None) -> str:
    """Four significant digits ("61.24", "12,345"); "-" where there is none, "inf" if infinite."""
    return Objective().format(perplexity)


def format_mean(objective: Objective, mean: float, error: float | None) -> tuple[str, str]:
    """A mean value and its standard error, neither finer than two digits of the error.

    Args:
        objective: what it is.
        mean: of the values.
        error: its standard error; None where it is not known.

    Returns:
        Both as text: ("72.50", "0.58"), ("130", "12"), ("72.50", "") of an unknown error.
    """
    if error is None:
        return objective.format(mean), ""
    if not error > 0:
        return objective.format(mean), f"{error:g}"
    most = 4 if objective.name == PERPLEXITY else 9
    digits = min(most, max(0, 1 - math.floor(math.log10(error))))
    return f"{mean:,.{digits}f}", f"{error:,.{digits}f}"


def format_with_error(objective: Objective, mean: float, error: float | None) -> str:
    """A mean value with its standard error: "72.50 +- 0.58"."""
    return " +- ".join(filter(None, format_mean(objective, mean, error)))


def one_line(text: str) -> str:
    """`text` on one line and without control characters: it may be another program's error."""
    words = " ".join(_ANSI.sub("", text).split())
    return "".join(character for character in words if character.isprintable())


def wrapped(text: str, width: int) -> str:
    """`text` in lines of at most `width` characters, as far as its words allow."""
    whole = _WHOLE.sub(lambda found: found[0].replace(" ", "\xa0"), one_line(text))
    # Only ASCII white space is where textwrap breaks a line.
    lines = textwrap.wrap(whole, width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\xa0", " ")


def format_duration(seconds: float | None) -> str:
    """3725 -> "1:02:05", 65 -> "1:05"; "-" where it is not known."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_speed(tokens_per_second: float) -> str:
    """At most four characters before the unit: "850 tok/s", "12.3k tok/s", "1.2M tok/s"."""
    if not (math.isfinite(tokens_per_second) and tokens_per_second > 0):
        return "- tok/s"
    value, unit = tokens_per_second, ""
    for larger in ("k", "M", "G"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    digits = 1 if unit and value < 99.95 else 0
    return f"{value:.{digits}f}{unit} tok/s"
