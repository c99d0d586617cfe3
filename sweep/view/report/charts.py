"""What a report's pictures show, without a library.

`charts_matplotlib` draws them as files, `charts_plotly` for optuna-dashboard.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from studies.objective import PERPLEXITY, Objective
from sweep.formatting import (
    format_decay,
    format_exponent,
    format_plain,
    format_rate,
    format_with_error,
)
from sweep.results.confirmation import Finalist
from sweep.results.report import History, Report
from sweep.results.types import TrialRow
from sweep.view.axis import Axis, exact_axis, linear_axis, marked_axis, rate_axis, value_axis
from sweep.view.report.layers import Area, Chart, Heat, Layer, Line, Points
from sweep.view.sentences import place_of

# Okabe and Ito 2008: told apart also by those who see fewer colours.
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
SKY, GREY, BLACK, BREAK = "#56B4E9", "#7F7F7F", "#222222", "#C8C8C8"
RULE_COLOURS = (ORANGE, GREEN, PURPLE, SKY, RED)
SLOW, FAST = (68, 1, 84), (253, 180, 47)  # colours of the lowest and the highest rate
LOOKS = {
    "complete": (BLUE, "circle"),
    "by hand": (PURPLE, "circle"),
    "paused": (SKY, "triangle"),
    "pruned": (ORANGE, "triangle"),
    "diverged": (RED, "cross"),
    "failed": (RED, "open"),
    "recommended": (GREEN, "star"),
}
SHOWN = 0.6  # of the heat map's cells have colours of their own, the worse ones the last
MANY = 16  # trials; more have no legend
MEANS = " A diamond is the mean over new seeds, with its standard error; dots are its runs."
BROKEN = " Above the grey line the scale is compressed."
LOST = " Diverged ones stand in a row of their own."


def charts(report: Report) -> list[Chart]:
    """The pictures that a study has something for: none before the first report."""
    every = [_heat(report), _response(report), _belief(report), _steps(report), _batches(report)]
    return [chart for chart in every if chart is not None]


def _heat(report: Report) -> Chart | None:
    """Rate across, weight decay up, colour what a run comes to, where both were searched."""
    found, within = report.decay, report.study.decay_range
    if found is None or found.surface is None or within is None:
        return None
    surface, marks = found.surface, _trial_marks(report, decays=True)
    decays = [each for group in marks for each in group.y] + [*within]
    rates = [each for group in marks for each in group.x] + [*report.study.working_range]
    values = sorted(value for row in surface.values for value in row)
    best, worst = values[0], values[int(SHOWN * (len(values) - 1))]
    if report.objective.direction == "maximize":
        best, worst = values[-1], values[int((1 - SHOWN) * (len(values) - 1))]
    ridge = [
        pair
        for pair in zip(surface.ridge, surface.decays, strict=True)
        if min(rates) <= pair[0] <= max(rates)
    ]
    along, up = tuple(rate for rate, _ in ridge), tuple(decay for _, decay in ridge)
    line = Line("best rate at each weight decay", along, up, BLACK, 1.6, "dashed")
    scale = f"{report.objective.label}, fitted"
    return Chart(
        "decay",
        f"{capital(report.objective.words)} by learning rate and weight decay",
        "Colour is what a run is expected to come to, the lightest the best (from the last colour "
        "on it is no longer told apart); each mark is a trial with its number, and the dashed line "
        "the best rate at each weight decay.",
        exact_axis("learning rate", rates, format_exponent),
        exact_axis("weight decay", decays, format_plain),
        (
            Heat(scale, surface.rates, surface.decays, surface.values, best, worst),
            *([line] if len(ridge) > 1 else []),
            *marks,
        ),
    )


def _response(report: Report) -> Chart | None:
    """Rate against value: the trials, the fitted curve and its band, the rules' rates."""
    trials, new_seeds = _trial_marks(report), _new_seeds(report)
    if not trials:
        return None
    x, curve = _rates(report), report.curve
    seen = [y for marks in trials for y in marks.y]
    also = [y for marks in new_seeds for y in (*marks.y, *marks.low, *marks.high)]
    also += [*_unigram(report), *((*curve.low, *curve.high) if curve else ())]
    if not any(map(math.isfinite, (*seen, *also))):
        return None
    y = value_axis(_title(report.objective, best=True), seen, also, objective=report.objective)
    layers = _interval(report, y)
    if curve is not None:
        layers += [
            Area("its 90 % band", curve.rates, curve.low, curve.high, SKY),
            Line("fitted curve", curve.rates, curve.middle, BLUE),
        ]
    layers += [
        *_break(x, y),
        *_unigram_line(report, x),
        *_rule_lines(report, y),
        *trials,
        *new_seeds,
    ]
    return Chart(
        "response",
        f"{capital(report.objective.words)} by learning rate",
        "Each point is a trial with its number; the line is the curve fitted to them and its 90 % "
        "band, the shaded range holds the best rate with 90 % probability. A pruned trial "
        f"stands at what it had reached when it ended.{_one_decay(report)}{LOST if y.lost else ''}"
        f"{BROKEN if y.broken else ''}{MEANS if new_seeds else ''}",
        x,
        y,
        tuple(layers),
    )


def _one_decay(report: Report) -> str:
    """At which decay the curve is drawn, where trials have others."""
    if report.decay is None:
        return ""
    shown = format_decay(report.decay.at)
    return f" The curve is that at weight decay {shown}; trials of others lie off it."


def _title(objective: Objective, *, best: bool = False) -> str:
    """Of the axis of values."""
    if objective.name == PERPLEXITY:
        return "lowest validation perplexity" if best else "validation perplexity"
    end = "lowest" if objective.direction == "minimize" else "highest"
    return f"{end} {objective.label}" if best else objective.label


def capital(text: str) -> str:
    """The same with a capital letter in front, the rest as it is."""
    return text[:1].upper() + text[1:]


def _interval(report: Report, y: Axis) -> list[Layer]:
    found = report.optimum
    if found is None:
        return []
    (low, high), name = y.ends, "90 % interval of the best rate"
    return [Area(name, (found.low, found.high), (low, low), (high, high), GREEN, opacity=0.12)]


def _break(x: Axis, y: Axis) -> list[Layer]:
    """A bar where the scale changes."""
    if not y.broken:
        return []
    low, high = y.broken
    return [Area("scale compressed above", x.ends, (low, low), (high, high), BREAK, opacity=1.0)]


def _unigram(report: Report) -> list[float]:
    value = report.objective.of_perplexity(report.study.unigram_perplexity)
    return [] if value is None else [value]


def _unigram_line(report: Report, x: Axis) -> list[Layer]:
    """What a model without context reaches."""
    return [
        Line(f"unigram {report.objective.described(value)}", x.ends, (value, value), GREY, 1.2)
        for value in _unigram(report)
    ]


def _rule_lines(report: Report, y: Axis) -> list[Layer]:
    """One line a rate, named by all the rules that ask for it."""
    names: dict[float, list[str]] = {}
    for rule in report.rules:
        names.setdefault(float(f"{rule.learning_rate:.3g}"), []).append(rule.name)
    return [
        Line(", ".join(same), (rate, rate), y.ends, _rule_colour(i), 1.6, "dotted")
        for i, (rate, same) in enumerate(names.items())
    ]


def _rule_colour(place: int) -> str:
    return RULE_COLOURS[place % len(RULE_COLOURS)]


def _trial_marks(report: Report, *, decays: bool = False) -> list[Points]:
    """The trials that have reported, by what became of them; over their values, or decays."""
    groups: dict[str, list[TrialRow]] = {}
    for row in report.study.trials:
        if row.value is not None and not (decays and row.weight_decay is None):
            groups.setdefault(_kind(row, report.study.chosen), []).append(row)
    return [
        Points(
            name,
            tuple(row.learning_rate for row in groups[name]),
            tuple((row.weight_decay or 0.0) if decays else _height(row) for row in groups[name]),
            *LOOKS.get(name, (GREY, "open")),
            tuple(str(row.number) for row in groups[name]),
            tuple(map(_trial_text, groups[name])),
        )
        for name in sorted(groups, key=lambda name: (name == "recommended", name))
    ]


def _height(row: TrialRow) -> float:
    return math.inf if row.diverged else row.value or 0.0


def _kind(row: TrialRow, recommended: TrialRow | None) -> str:
    if recommended is not None and row.number == recommended.number:
        return "recommended"
    if row.diverged:
        return "diverged"
    return "by hand" if row.by_hand else row.state


def _trial_text(row: TrialRow) -> str:
    value = "diverged" if row.diverged else row.objective.described(row.value)
    return f"trial {row.number}: {place_of(row)}, {value}, {row.state}"


def _new_seeds(report: Report) -> list[Points]:
    """What new seeds made of the best rates: each run, and of several the mean and its error."""
    found = report.confirmation
    if found is None:
        return []
    runs = [(each, y) for each in found.finalists for y in each.values]
    shown = [_seeds_marks("new seeds", "dot", runs, [found.objective.format(y) for _, y in runs])]
    whole = [(each, each.mean) for each in found.finalists if each.mean]
    if len(found.seeds) > 1 and whole:
        pairs = [(mean.mean, mean.standard_error or 0.0) for _, mean in whole]
        means = [(each, mean.mean) for each, mean in whole]
        texts = [format_with_error(found.objective, *pair) for pair in pairs]
        name = f"mean over {len(found.seeds)} new seeds"
        low, high = (tuple(mean + sign * error for mean, error in pairs) for sign in (-1, 1))
        shown.append(replace(_seeds_marks(name, "diamond", means, texts), low=low, high=high))
    return shown


def _seeds_marks(
    name: str, symbol: str, runs: Sequence[tuple[Finalist, float]], texts: Sequence[str]
) -> Points:
    x, y = tuple(each.learning_rate for each, _ in runs), tuple(y for _, y in runs)
    said = (
        f"trial {each.trial}'s rate: {text}" for (each, _), text in zip(runs, texts, strict=True)
    )
    return Points(name, x, y, BLACK, symbol, texts=tuple(said))


def _belief(report: Report) -> Chart | None:
    """How the trials moved the belief in each rate to be the best."""
    before, after = report.prior, report.density
    rates = tuple(map(math.exp, after[0]))
    y = linear_axis("probability in each tenth of ln rate", 0.0, 1.1 * max((*before[1], *after[1])))
    layers = (
        Area("before any trial", rates, (0.0,) * len(rates), before[1], GREY),
        Area("after all trials", rates, (0.0,) * len(rates), after[1], BLUE),
        *_rule_lines(report, y),
    )
    return Chart(
        "belief",
        "Where the best rate lies",
        "The probability of each rate to be the best: before any trial, by the scaling rules (and "
        "by a forecast from other studies, where there was one), and after all trials.",
        _rates(report),
        y,
        layers,
    )


def _steps(report: Report) -> Chart | None:
    """Every trial's values over the steps."""
    values = [value for history in report.histories for value in history.values]
    if not any(map(math.isfinite, values)):
        return None
    x = _steps_axis(report)
    y = value_axis(
        _title(report.objective), values, _unigram(report), objective=report.objective, room=4.0
    )
    layers: list[Layer] = [*_break(x, y), *_unigram_line(report, x)]
    rows = {row.number: row for row in report.study.trials}
    pairs = [(history, rows[history.number]) for history in report.histories]
    best = report.study.chosen
    # The best one last, over the others.
    pairs.sort(key=lambda pair: (pair[1] == best, pair[1].learning_rate))
    layers += [line for pair in pairs for line in _history_layers(*pair, report)]
    return Chart(
        f"{report.study.unit}s",
        f"{capital(report.objective.words)} by {report.study.unit}",
        "Every trial from the lowest rate (dark) to the highest (bright), with its number; the "
        f"best is thick, pruned ones are dashed.{LOST if y.lost else ''}"
        f"{BROKEN if y.broken else ''}",
        x,
        y,
        (*layers, *_lost_marks(report)),
    )


def _steps_axis(report: Report) -> Axis:
    first = min(history.steps[0] for history in report.histories)
    last = max(report.study.steps, *(history.steps[-1] for history in report.histories))
    return linear_axis(
        report.study.unit, first - 0.05 * (last - first) - 0.3, 1.06 * last + 0.3, whole=True
    )


def _history_layers(history: History, row: TrialRow, report: Report) -> list[Layer]:
    """A trial's line, and a mark with its number where it ends."""
    is_best = row == report.study.chosen
    colour = GREEN if is_best else _shade(row.learning_rate, report)
    steps, values = tuple(map(float, history.steps)), history.values
    named = len(report.histories) <= MANY
    line = Line(
        f"{row.number}: {format_rate(row.learning_rate)}" if named else "",
        steps,
        values,
        colour,
        3.0 if is_best else 1.3,
        "dashed" if row.state == "pruned" and not row.diverged else "solid",
        tuple(f"trial {row.number}: {row.objective.format(value)}" for value in values if named),
    )
    if math.inf in values:
        return [line]
    symbol = "end" if steps[-1] == report.study.steps else "dot"
    label, text = (str(row.number),), (_trial_text(row),)
    return [line, Points("", steps[-1:], values[-1:], colour, symbol, label, text)]


def _lost_marks(report: Report) -> list[Layer]:
    """Crosses where trials diverged."""
    lost = [
        (history.number, float(history.steps[history.values.index(math.inf)]))
        for history in report.histories
        if math.inf in history.values
    ]
    if not lost:
        return []
    numbers, steps = zip(*lost, strict=True)
    y = (math.inf,) * len(lost)
    return [Points("diverged", steps, y, RED, "cross", tuple(map(str, numbers)))]


def _shade(rate: float, report: Report) -> str:
    """By rank: one rate far away would give all the others one colour."""
    rates = sorted({row.learning_rate for row in report.study.trials if row.learning_rate > 0})
    share = rates.index(rate) / (len(rates) - 1) if len(rates) > 1 else 0.5
    mixed = (round(a + share * (b - a)) for a, b in zip(SLOW, FAST, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _batches(report: Report) -> Chart | None:
    """The best rate over batch sizes, beside what each rule makes of the reference."""
    size, reference = report.study.parameters, report.reference
    lengths = {each.length for each in report.neighbours if each.itself}
    found = [
        each for each in report.neighbours if each.parameters == size and each.length in lengths
    ]
    if not found:
        return None
    sizes = [each.batch_size for each in found]
    sizes += [reference["batch_size"]] if reference else []
    x = marked_axis("batch size", min(sizes) / 2, max(sizes) * 2, sizes)
    groups = (
        ("other studies", [each for each in found if not each.itself], BLACK),
        ("this study", [each for each in found if each.itself], BLUE),
    )
    layers: list[Layer] = [
        *_scaling_lines(report, x),
        *(
            Points(
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
            for name, group, colour in groups
            if group
        ),
    ]
    if reference:
        rate, where = reference["learning_rate"], float(reference["batch_size"])
        layers.append(Points("the rules' reference", (where,), (rate,), RED, "star"))
    rates = [rate for each in found for rate in (each.low, each.high)]
    rates += [y for layer in layers if isinstance(layer, Points | Line) for y in layer.y]
    return Chart(
        "batches",
        "The best rate by batch size",
        "Each point is a study's best rate by its trials alone, with its 90 % interval; the lines "
        "are what the scaling rules make of their reference.",
        x,
        rate_axis(rates),
        tuple(layers),
    )


def _scaling_lines(report: Report, x: Axis) -> list[Layer]:
    """A power rule is a straight line on these axes, through the reference and its own rate."""
    reference, batch = report.reference, report.study.batch_size
    if not reference or reference["batch_size"] == batch:
        return []
    start, span = reference["learning_rate"], math.log(batch / reference["batch_size"])
    lines: dict[tuple[float, ...], list[str]] = {}
    for rule in report.rules:
        power = math.log(rule.learning_rate / start) / span
        ends = (end / reference["batch_size"] for end in x.ends)
        rates = tuple(float(f"{start * end**power:.4g}") for end in ends)
        lines.setdefault(rates, []).append(rule.name)
    return [
        Line(", ".join(names), x.ends, rates, _rule_colour(i), style="dashed")
        for i, (rates, names) in enumerate(lines.items())
    ]


def _rates(report: Report) -> Axis:
    """The rates shown: all that were tried and all that a rule asks for."""
    tried = [row.learning_rate for row in report.study.trials if row.learning_rate > 0]
    found = report.optimum
    more = [found.low, found.high] if found else []
    rates = [*tried, *more, *(rule.learning_rate for rule in report.rules)]
    return rate_axis(rates or report.study.working_range)
