"""`sweep compare` in words and tables: is the precision to blame, or the learning rate?"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from studies.objective import PERPLEXITY
from studies.student import Mean
from sweep.formatting import format_rate
from sweep.results.comparison import LEVEL, Comparison, Contrast
from sweep.results.runs import TrainedRun
from sweep.view.json_objects import finite, metric_fields
from sweep.view.tables import make_table

ALIKE = 0.01
"""A gap in nats below which nobody changes anything."""
OUTWEIGHS = 3.0
"""How many times the one effect must be the other to be called the cause."""
MOST_REPORTS = 6


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the runs pair by pair, their curves side by side, and the answer in words."""
    console.print(runs_table(comparison))
    console.print(Text(f"\n{comparison.objective.words.capitalize()} by step:"))
    console.print(curves_table(comparison))
    console.print()
    first, *others = answer(comparison)
    # The terminal wraps these, not rich: "+3.1" and "%" would part.
    console.print(Text(first, style="bold"), soft_wrap=True)
    for line in others:
        console.print(Text(line), soft_wrap=True)


def comparison_object(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain JSON values; gaps in nats, and in percent of perplexity."""
    return {
        "precisions": list(comparison.precisions),
        "rates": list(comparison.rates),
        "seeds": list(comparison.seeds),
        "device": comparison.device,
        **metric_fields(comparison.objective),
        "runs": [finite(asdict(run)) for run in comparison.runs],
        "contrasts": [_contrast_object(comparison, each) for each in comparison.contrasts],
        "answer": answer(comparison),
    }


def _contrast_object(comparison: Comparison, contrast: Contrast) -> dict[str, Any]:
    gap = contrast.gap
    ends = (None,) * 3 if gap is None else (gap.mean, gap.low, gap.high)
    gaps = dict(zip(("gap", "low", "high"), ends, strict=True))
    percents = {
        f"{name}_percent": None if nats is None else 100 * math.expm1(nats)
        for name, nats in gaps.items()
        if comparison.objective.name == PERPLEXITY
    }
    return {
        "baseline": contrast.baseline,
        "precision": contrast.precision,
        "verdict": verdict(comparison, contrast),
        **gaps,
        **percents,
        "level": LEVEL,
        "pairs": 0 if gap is None else gap.count,
        "diverged_only": [run.learning_rate for run in contrast.diverged_only(other=True)],
    }


def runs_table(comparison: Comparison) -> Table:
    """One row a rate and seed: each precision's value, and the gap to the first one's."""
    others = [f"{name} gap" for name in comparison.precisions[1:]]
    table = make_table("rate", "seed", *comparison.precisions, *others)
    for column in table.columns:
        column.justify = "right"
    for rate in comparison.rates:
        for seed in comparison.seeds:
            cells = [
                _outcome(comparison, _run(comparison, name, rate, seed))
                for name in comparison.precisions
            ]
            gaps = [_gap(comparison, each, rate, seed) for each in comparison.contrasts]
            table.add_row(format_rate(rate), str(seed), *cells, *gaps)
    return table


def curves_table(comparison: Comparison) -> Table:
    """The first seed's curves, the precisions of a rate one under the other."""
    seed = comparison.seeds[0]
    runs = [run for run in comparison.runs if run.seed == seed]
    steps = _some(sorted({step for run in runs for step in _finite(run.curve)}))
    table = make_table("rate", "precision", *(f"step {step}" for step in steps))
    for column in table.columns[2:]:
        column.justify = "right"
    for rate in comparison.rates:
        for name in comparison.precisions:
            run = _run(comparison, name, rate, seed)
            curve = _finite(run.curve) if run else {}
            shown = format_rate(rate) if name == comparison.precisions[0] else ""
            values = [comparison.objective.format(curve.get(step)) for step in steps]
            table.add_row(shown, name, *values)
    return table


def answer(comparison: Comparison) -> list[str]:
    """What was asked, in words; one line each."""
    lines: list[str] = []
    for each in comparison.contrasts:
        lines += [
            _headline(comparison, each),
            _gap_words(comparison, each),
            *_divergence_words(each),
        ]
    lines += [_rate_words(comparison, name) for name in comparison.precisions]
    lines += [line for each in comparison.contrasts for line in _cost_words(comparison, each)]
    failed = [run for run in comparison.runs if run.state == "failed"]
    if failed:
        lines.append(f"{len(failed)} runs failed, the last one with: {failed[-1].reason}.")
    return [line for line in lines if line]


def verdict(comparison: Comparison, contrast: Contrast) -> str:
    """What moves the value: "learning rate", "precision", "both", "neither", "undecided"."""
    gap, rate = contrast.gap, _rate_effect(comparison, contrast.baseline)
    if gap is None or rate is None:
        return "undecided"
    low, high = (gap.mean if end is None else end for end in (gap.low, gap.high))
    worst, least = max(high, 0.0), max(low, 0.0)
    if max(worst, rate) < ALIKE:
        return "neither"
    if worst < ALIKE or rate > OUTWEIGHS * worst:
        return "learning rate"
    if least > OUTWEIGHS * rate:
        return "precision"
    return "both" if least > ALIKE else "undecided"


def _headline(comparison: Comparison, contrast: Contrast) -> str:
    name = contrast.precision
    sentences = {
        "learning rate": f"The learning rate is to blame, not {name}.",
        "precision": f"{name} is to blame, more than the learning rate.",
        "both": f"Both cost something: {name} and the learning rate.",
        "neither": f"Neither {name} nor the learning rate makes a difference here.",
        "undecided": f"Undecided between {name} and the learning rate: give more --rates or "
        "--seeds.",
    }
    return sentences[verdict(comparison, contrast)]


def _gap_words(comparison: Comparison, contrast: Contrast) -> str:
    gap, names = contrast.gap, f"{contrast.precision} against {contrast.baseline}"
    if gap is None:
        return f"{names}: no rate was trained whole in both."
    return f"{names}, same rate and seed: {_mean_words(comparison, gap)}."


def _mean_words(comparison: Comparison, gap: Mean) -> str:
    objective = comparison.objective
    text = f"{objective.words} {objective.gap(gap.mean)}"
    if gap.low is None or gap.high is None:
        return f"{text}, one pair only: no interval"
    interval = f"{100 * LEVEL:.0f} % interval {objective.gap(gap.low)} to {objective.gap(gap.high)}"
    return f"{text} on average ({interval}, {gap.count} pairs)"


def _divergence_words(contrast: Contrast) -> list[str]:
    lines = []
    for other, here, there in (
        (True, contrast.precision, contrast.baseline),
        (False, contrast.baseline, contrast.precision),
    ):
        lost = sorted({run.learning_rate for run in contrast.diverged_only(other=other)})
        if lost:
            rates = ", ".join(format_rate(rate) for rate in lost)
            lines.append(f"At {rates} {here} diverged where {there} did not.")
    both = [p for p in contrast.pairs if (p.baseline.state, p.other.state) == ("diverged",) * 2]
    if both:
        rates = ", ".join(format_rate(r) for r in sorted({p.other.learning_rate for p in both}))
        lines.append(f"At {rates} both diverged: that is the rate's doing.")
    return lines


def _rate_words(comparison: Comparison, precision: str) -> str:
    means = _means(comparison, precision)
    if not means:
        return f"In {precision} no rate was trained whole."
    best, worst = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    if best == worst:
        return f"In {precision} one rate alone was trained whole: {format_rate(best)}."
    objective = comparison.objective
    low, high = (objective.format(objective.value(means[rate])) for rate in (best, worst))
    return (
        f"In {precision} the rate alone takes it from {low} at {format_rate(best)} to {high} at "
        f"{format_rate(worst)}: {objective.gap(means[worst] - means[best])}."
    )


def _cost_words(comparison: Comparison, contrast: Contrast) -> list[str]:
    mine = [run for run in comparison.runs if run.precision == contrast.precision]
    theirs = [run for run in comparison.runs if run.precision == contrast.baseline]
    lines = [_skipped_words(contrast.precision, mine)]
    speeds = _typical(mine, "tokens_per_second"), _typical(theirs, "tokens_per_second")
    ratio = contrast.speed_ratio()
    memory = _typical(mine, "peak_memory_bytes"), _typical(theirs, "peak_memory_bytes")
    if ratio is not None:
        lines.append(
            f"Speed: {contrast.precision} {speeds[0]:,.0f} tokens/s, {contrast.baseline} "
            f"{speeds[1]:,.0f}: {_times(ratio)}."
        )
    if all(memory):
        lines.append(
            f"Peak memory: {contrast.precision} {memory[0] / 2**30:.2f} GiB, "
            f"{contrast.baseline} {memory[1] / 2**30:.2f} GiB."
        )
    if comparison.device == "cpu" and contrast.precision != "fp32" and ratio is not None:
        lines.append(
            f"On the CPU {contrast.precision} imitates tensor cores: its speed and memory here say "
            "nothing of CUDA."
        )
    return lines


def _times(ratio: Mean) -> str:
    """A ratio given as its ln: "x2.00 (90 % interval x1.90 to x2.10)"."""
    text = f"x{math.exp(ratio.mean):.2f}"
    if ratio.low is None or ratio.high is None:
        return text
    low, high = math.exp(ratio.low), math.exp(ratio.high)
    return f"{text} ({100 * LEVEL:.0f} % interval x{low:.2f} to x{high:.2f})"


def _skipped_words(precision: str, runs: Sequence[TrainedRun]) -> str:
    known = [run for run in runs if run.skipped_steps is not None and run.steps]
    steps = sum(run.steps or 0 for run in known)
    skipped = sum(run.skipped_steps or 0 for run in known)
    if not steps:
        return ""
    return f"Skipped steps: {precision} {skipped:,} of {steps:,} ({100 * skipped / steps:.1f} %)."


def _typical(runs: Sequence[TrainedRun], name: str) -> float:
    """The geometric mean: the ratio of two is that of their pairs. 0 where nothing is known."""
    values = [math.log(getattr(run, name)) for run in runs if getattr(run, name)]
    return math.exp(math.fsum(values) / len(values)) if values else 0.0


def _rate_effect(comparison: Comparison, precision: str) -> float | None:
    """How many nats the worst rate lies above the best; None of fewer than two trained whole."""
    means = _means(comparison, precision).values()
    return max(means) - min(means) if len(means) > 1 else None


def _means(comparison: Comparison, precision: str) -> dict[float, float]:
    """The mean nats over the seeds, of each rate that every seed trained whole."""
    means: dict[float, float] = {}
    objective = comparison.objective
    for rate in comparison.rates:
        runs = [_run(comparison, precision, rate, seed) for seed in comparison.seeds]
        complete = [run.value for run in runs if run and run.state == "complete"]
        values = [objective.nats(objective.signed(each)) for each in complete if each is not None]
        if len(values) == len(runs):
            means[rate] = math.fsum(values) / len(values)
    return means


def _run(comparison: Comparison, precision: str, rate: float, seed: int) -> TrainedRun | None:
    for run in comparison.runs:
        same = run.precision == precision and run.seed == seed
        if same and run.has(rate):
            return run
    return None


def _outcome(comparison: Comparison, run: TrainedRun | None) -> str:
    if run is None:
        return "-"
    return comparison.objective.format(run.value) if run.state == "complete" else run.state


def _gap(comparison: Comparison, contrast: Contrast, rate: float, seed: int) -> str:
    for pair in contrast.pairs:
        if pair.baseline.seed == seed and pair.baseline.has(rate):
            return "-" if pair.gap is None else comparison.objective.gap(pair.gap)
    return "-"


def _finite(curve: dict[int, float]) -> dict[int, float]:
    return {step: value for step, value in curve.items() if math.isfinite(value)}


def _some(steps: Sequence[int]) -> list[int]:
    """At most `MOST_REPORTS` of them, the first and the last among them."""
    if len(steps) <= MOST_REPORTS:
        return list(steps)
    apart = (len(steps) - 1) / (MOST_REPORTS - 1)
    return [steps[round(apart * place)] for place in range(MOST_REPORTS)]
