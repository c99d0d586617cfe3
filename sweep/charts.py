"""What a report's pictures show, without a library: `sweep.pictures` draws them by matplotlib,
`sweep.graphs` by plotly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweep.report import History, Report
from sweep.summary import TrialRow
from sweep.view.formats import format_perplexity, format_rate, format_with_error

Numbers = tuple[float, ...]

# Okabe and Ito 2008: told apart also by those who see fewer colours.
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
SKY, GREY, BLACK = "#56B4E9", "#7F7F7F", "#222222"
RULE_COLOURS = (ORANGE, GREEN, PURPLE, SKY, RED)
SLOW, FAST = (68, 1, 84), (253, 180, 47)  # colours of the lowest and the highest rate
MEANS = " A diamond is the mean over new seeds, with its standard error."
ROOM = 2.0  # how far above the best perplexity a picture reaches at least


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points; a gap where y is not finite."""

    name: str
    x: Numbers
    y: Numbers
    colour: str
    width: float = 1.5
    dashed: bool = False
    legend: bool = True


@dataclass(frozen=True, slots=True)
class Area:
    """What lies between two lines."""

    name: str
    x: Numbers
    low: Numbers
    high: Numbers
    colour: str


@dataclass(frozen=True, slots=True)
class Marks:
    """Points, each with a short label and a text; `low` and `high` are error bars in y."""

    name: str
    x: Numbers
    y: Numbers
    colour: str
    symbol: str = "circle"  # or "star", "triangle", "cross", "diamond", "open"
    labels: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    low: Numbers = ()
    high: Numbers = ()


@dataclass(frozen=True, slots=True)
class Upright:
    """A dotted vertical line."""

    name: str
    x: float
    colour: str


@dataclass(frozen=True, slots=True)
class Span:
    """A range of x, shaded over the whole height."""

    name: str
    low: float
    high: float
    colour: str


Layer = Line | Area | Marks | Upright | Span


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture.

    Attributes:
        key: names its file and its place in the dashboard.
        caption: what it shows, in a sentence.
        x_log, y_log: logarithmic axes.
        x_range, y_range: what is shown; whatever lies outside is cut off.
        x_ticks: where the axis has its numbers; empty: where it suits.
    """

    key: str
    title: str
    caption: str
    x_title: str
    y_title: str
    layers: tuple[Layer, ...]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_log: bool = True
    y_log: bool = True
    x_ticks: Numbers = ()


def charts(report: Report) -> list[Chart]:
    """The pictures that a study has something for: none before the first epoch was reported."""
    every = [_response(report), _belief(report), _epochs(report), _batches(report)]
    return [chart for chart in every if chart is not None]


def _response(report: Report) -> Chart | None:
    """Rate against perplexity: the trials, the fitted curve and its band, the rules' rates."""
    rows = [row for row in report.study.trials if row.perplexity is not None]
    means = _mean_marks(report)
    values = [row.perplexity for row in rows if row.perplexity is not None]
    y_range = _perplexities([*values, *(y for each in means for y in (*each.low, *each.high))])
    if y_range is None:
        return None
    layers: list[Layer] = _interval(report)
    curve = report.curve
    if curve is not None:
        layers += [
            Area("its 90 % band", curve.rates, curve.low, curve.high, SKY),
            Line("fitted curve", curve.rates, curve.middle, BLUE),
        ]
    layers += [*_rule_lines(report), *_trial_marks(report, y_range[1]), *means]
    return Chart(
        "response",
        "Perplexity by learning rate",
        "Each point is a trial with its number; the line is the curve fitted to them and its 90 % "
        "band, the shaded range holds the best rate with 90 % probability. A pruned trial "
        "stands at what it had reached when it ended; diverged ones, and those off the scale, at "
        f"the upper edge.{MEANS if means else ''}",
        "learning rate",
        "lowest validation perplexity",
        tuple(layers),
        _rates(report),
        y_range,
    )


def _interval(report: Report) -> list[Layer]:
    found = report.optimum
    if found is None:
        return []
    return [Span("90 % interval of the best rate", found.low, found.high, GREEN)]


def _rule_lines(report: Report) -> list[Layer]:
    """One line a rate, named by all the rules that ask for it."""
    names: dict[float, list[str]] = {}
    for rule in report.rules:
        names.setdefault(float(f"{rule.learning_rate:.3g}"), []).append(rule.name)
    return [
        Upright(", ".join(same), rate, RULE_COLOURS[place % len(RULE_COLOURS)])
        for place, (rate, same) in enumerate(names.items())
    ]


def _trial_marks(report: Report, top: float) -> list[Layer]:
    best = report.study.best
    groups: dict[str, list[TrialRow]] = {}
    for row in report.study.trials:
        if row.perplexity is not None:
            groups.setdefault(_kind(row, best), []).append(row)
    looks = {
        "complete": (BLUE, "circle"),
        "by hand": (PURPLE, "circle"),
        "pruned": (ORANGE, "triangle"),
        "diverged": (RED, "cross"),
        "failed": (RED, "open"),
        "running": (GREY, "open"),
        "best": (GREEN, "star"),
    }
    return [
        Marks(
            name,
            tuple(row.learning_rate for row in groups[name]),
            tuple(min(row.perplexity or top, top) for row in groups[name]),
            *look,
            tuple(str(row.number) for row in groups[name]),
            tuple(map(_trial_text, groups[name])),
        )
        for name, look in looks.items()
        if name in groups
    ]


def _mean_marks(report: Report) -> list[Marks]:
    """What new seeds made of the best rates: the mean and its standard error."""
    found = report.confirmation
    whole = [(each, each.mean) for each in found.finalists if each.mean] if found else []
    if found is None or not whole:
        return []
    means, count = [mean for _, mean in whole], len(found.seeds)
    return [
        Marks(
            f"mean over {count} new seed{'s' if count > 1 else ''}",
            tuple(each.learning_rate for each, _ in whole),
            tuple(mean.mean for mean in means),
            BLACK,
            "diamond",
            texts=tuple(
                f"trial {each.trial}'s rate: {format_with_error(mean.mean, mean.standard_error)}"
                for each, mean in whole
            ),
            low=tuple(mean.mean - (mean.standard_error or 0.0) for mean in means),
            high=tuple(mean.mean + (mean.standard_error or 0.0) for mean in means),
        )
    ]


def _kind(row: TrialRow, best: TrialRow | None) -> str:
    if best is not None and row.number == best.number:
        return "best"
    if row.diverged:
        return "diverged"
    return "by hand" if row.by_hand else row.state


def _trial_text(row: TrialRow) -> str:
    value = "diverged" if row.diverged else f"perplexity {format_perplexity(row.perplexity)}"
    return f"trial {row.number}: {format_rate(row.learning_rate)}, {value}, {row.state}"


def _belief(report: Report) -> Chart | None:
    """How the trials moved the belief in each rate to be the best."""
    before, after = report.prior, report.density
    rates = tuple(map(math.exp, after[0]))
    top = 1.15 * max((*before[1], *after[1]))
    layers = (
        Area("before any trial", rates, (0.0,) * len(rates), before[1], GREY),
        Area("after all trials", rates, (0.0,) * len(rates), after[1], BLUE),
        *_rule_lines(report),
    )
    return Chart(
        "belief",
        "Where the best rate lies",
        "The probability of each rate to be the best: before any trial, by the scaling rules (and "
        "by a forecast from other studies, where there was one), and after all trials.",
        "learning rate",
        "probability in each tenth of ln rate",
        layers,
        _rates(report),
        (0.0, top),
        y_log=False,
    )


def _epochs(report: Report) -> Chart | None:
    """Every trial's perplexity over the epochs."""
    values = [value for history in report.histories for value in history.perplexities]
    y_range = _perplexities(values, room=4.0)
    if y_range is None:
        return None
    rows = {row.number: row for row in report.study.trials}
    layers: list[Layer] = []
    for history in sorted(report.histories, key=lambda each: rows[each.number].learning_rate):
        layers += _history_layers(history, rows[history.number], report, y_range[1])
    return Chart(
        "epochs",
        "Perplexity by epoch",
        "Every trial from the lowest rate (dark) to the highest (bright); the best is thick, "
        "pruned ones are dashed. Where a trial diverged stands a cross at the upper edge.",
        "epoch",
        "validation perplexity",
        tuple(layers),
        (0.7, report.study.epochs + 0.3),
        y_range,
        x_log=False,
    )


def _history_layers(history: History, row: TrialRow, report: Report, top: float) -> list[Layer]:
    best = report.study.best
    is_best = best is not None and best.number == row.number
    colour = GREEN if is_best else _shade(row.learning_rate, report)
    epochs = tuple(map(float, history.epochs))
    line = Line(
        f"{row.number}: {format_rate(row.learning_rate)}",
        epochs,
        tuple(min(value, top) for value in history.perplexities),
        colour,
        width=3.0 if is_best else 1.3,
        dashed=row.state == "pruned" and not row.diverged,
    )
    lost = [e for e, y in zip(epochs, history.perplexities, strict=True) if not math.isfinite(y)]
    if not lost:
        return [line]
    return [line, Marks("diverged", (lost[0],), (top,), RED, "cross", (str(row.number),))]


def _shade(rate: float, report: Report) -> str:
    """By rank: one rate far away would give all the others one colour."""
    rates = sorted({row.learning_rate for row in report.study.trials if row.learning_rate > 0})
    share = rates.index(rate) / (len(rates) - 1) if len(rates) > 1 else 0.5
    mixed = (round(a + share * (b - a)) for a, b in zip(SLOW, FAST, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _batches(report: Report) -> Chart | None:
    """The best rate over batch sizes, beside what each rule makes of the reference."""
    size, reference = report.study.parameters, report.reference
    found = [each for each in report.neighbours if each.parameters == size]
    if not found:
        return None
    sizes = [each.batch_size for each in found]
    sizes += [reference["batch_size"]] if reference else []
    low, high = min(sizes) / 2, max(sizes) * 2
    own = [each for each in found if each.itself]
    others = [each for each in found if not each.itself]
    layers: list[Layer] = [
        *_scaling_lines(report, low, high),
        *(
            Marks(
                name,
                tuple(float(each.batch_size) for each in group),
                tuple(each.learning_rate for each in group),
                colour,
                "circle",
                tuple(each.precision for each in group),
                tuple(f"{each.study}: {each.learning_rate:.1e}" for each in group),
                tuple(each.low for each in group),
                tuple(each.high for each in group),
            )
            for name, group, colour in (("other studies", others, BLACK), ("this study", own, BLUE))
            if group
        ),
    ]
    if reference:
        rate, where = reference["learning_rate"], float(reference["batch_size"])
        layers.append(Marks("the rules' reference", (where,), (rate,), RED, "star"))
    return Chart(
        "batches",
        "The best rate by batch size",
        "Each point is a study's best rate by its trials alone, with its 90 % interval; the lines "
        "are what the scaling rules make of their reference.",
        "batch size",
        "learning rate",
        tuple(layers),
        (low, high),
        _around([rate for each in found for rate in (each.low, each.high)], layers),
        x_ticks=tuple(sorted({float(size) for size in sizes})),
    )


def _scaling_lines(report: Report, low: float, high: float) -> list[Layer]:
    """A power rule is a straight line on these axes, through the reference and its own rate."""
    reference, batch = report.reference, report.study.batch_size
    if not reference or reference["batch_size"] == batch:
        return []
    start, span = reference["learning_rate"], math.log(batch / reference["batch_size"])
    lines: dict[tuple[float, ...], list[str]] = {}
    for rule in report.rules:
        power = math.log(rule.learning_rate / start) / span
        ends = (low / reference["batch_size"], high / reference["batch_size"])
        rates = tuple(float(f"{start * end**power:.4g}") for end in ends)
        lines.setdefault(rates, []).append(rule.name)
    return [
        Line(", ".join(names), (low, high), rates, RULE_COLOURS[i % len(RULE_COLOURS)], dashed=True)
        for i, (rates, names) in enumerate(lines.items())
    ]


def _around(rates: Sequence[float], layers: Sequence[Layer]) -> tuple[float, float]:
    drawn = [y for layer in layers if isinstance(layer, Marks | Line) for y in layer.y]
    return min((*rates, *drawn)) / 1.5, max((*rates, *drawn)) * 1.5


def _rates(report: Report) -> tuple[float, float]:
    """The rates shown: all that were tried and all that a rule asks for."""
    tried = [row.learning_rate for row in report.study.trials if row.learning_rate > 0]
    found = report.optimum
    more = [found.low, found.high] if found else []
    rates = [*tried, *more, *(rule.learning_rate for rule in report.rules)]
    rates = rates or list(report.study.working_range)
    return min(rates) / 1.6, max(rates) * 1.6


def _perplexities(values: Sequence[float], room: float = ROOM) -> tuple[float, float] | None:
    """The perplexities shown: what lies far above the best would flatten all the rest."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    return low / 1.05, min(max(high, 1.2 * low) * 1.05, low * room)
