"""A study's answer in words, without layout."""

import math
from collections import Counter

from studies.objective import PERPLEXITY, Objective
from sweep.formatting import (
    format_bound,
    format_multiple,
    format_perplexity,
    format_place,
    format_rate,
    one_line,
)
from sweep.results.types import StudySummary, TrialRow, audited

ENDED = ("complete", "pruned", "failed")


def why(row: TrialRow) -> str:
    """The trial's reason without the state, which stands beside it: "pruned: ..." -> "..."."""
    return one_line(row.reason).removeprefix(f"{row.state}: ")


def counts(rows: tuple[TrialRow, ...]) -> str:
    """The trials by state: "7 complete, 4 pruned"."""
    tally = Counter(row.state for row in rows)
    states = [*ENDED, "running", "paused", "waiting"]
    return ", ".join(f"{tally[state]} {state}" for state in states if tally[state])


def trials_done(summary: StudySummary) -> int:
    """Trials of this tool that have ended, however they did."""
    return sum(row.state in ENDED and not row.by_hand for row in summary.trials)


def against(value: float, name: str, other: float, objective: Objective) -> str:
    """Compares a value with another: "31.7 % below the unigram baseline 89.70"."""
    gap = objective.nats_between(value, other)
    if abs(gap) < 0.0005:
        return f"equal to the {name} {objective.format(other)}"
    side = "below" if gap < 0 else "above"
    # A share of the other one, which is not the same in both directions.
    share = f"{abs(100 * math.expm1(gap)):.1f} %"
    shown = share if objective.name == PERPLEXITY else objective.portion(math.expm1(abs(gap)))
    return f"{shown} {side} the {name} {objective.format(other)}"


def baseline_words(summary: StudySummary) -> str:
    """What a model without context comes to: "unigram perplexity 89.70"."""
    objective, perplexity = summary.objective, summary.unigram_perplexity
    value = objective.of_perplexity(perplexity)
    if value is None:
        return f"unigram perplexity {format_perplexity(perplexity)}"
    return f"unigram {objective.described(value)}"


def answer(summary: StudySummary) -> list[str]:
    """The best rate and how good it is, or why there is none and what to do; one line each."""
    best = summary.best
    if best is None or best.value is None:
        return _no_answer(summary)
    lines = _nothing_learned(summary) if summary.learned_nothing else _found(summary, best)
    lines.append(f"Trials: {counts(summary.trials)}.")
    lines += [*_taken_over(summary), *_audits(summary)]
    said = (summary.remaining, summary.forecast_met)
    lines += [f"{text[0].upper()}{text[1:]}." for text in said if text]
    return lines


def _found(summary: StudySummary, best: TrialRow) -> list[str]:
    lines = recommendation(summary)
    objective, reached = summary.objective, (summary.chosen or best).value
    unigram = objective.of_perplexity(summary.unigram_perplexity)
    reference = objective.of_perplexity(summary.reference_perplexity)
    if reached is not None and unigram is not None:
        text = against(reached, "unigram baseline", unigram, objective)
        learned = reached < unigram
        lines.append(f"It is {text}{'' if learned else ': no better than counting words'}.")
    if reached is not None and reference is not None:
        text = against(reached, f"reference's {objective.words}", reference, objective)
        lines.append(f"It is {text}.")
    elif summary.reference_perplexity is None and summary.data:
        lines.append(
            "Not compared with the reference's perplexity: the reference is borrowed from another "
            "model, data or budget."
        )
    return lines


def recommendation(summary: StudySummary, named: str = "Best learning rate") -> list[str]:
    """The rate to go on with; where it is not the luckiest trial's, that one too.

    Args:
        named: how the first line begins.
    """
    best, chosen = summary.best, summary.chosen
    if best is None or chosen is None:
        return []
    lines = [
        f"{named} {place_of(chosen)}, {chosen.objective.described(chosen.value)} "
        f"(trial {chosen.number}{_beside(chosen)})."
    ]
    if chosen.number != best.number:
        lines.append(
            f"{place_of(best)} had {best.shown} (trial {best.number}), but at a new seed "
            f"{place_of(chosen)} is expected to do better."
        )
    return lines


def place_of(row: TrialRow) -> str:
    """A trial's rate, and its weight decay where that is searched too."""
    return format_place(row.learning_rate, row.weight_decay)


def edge_warning(summary: StudySummary) -> str:
    """Says that the optimum may lie outside the searched range; "" where it does not seem so."""
    if not summary.edge:
        return ""
    low, high = map(format_bound, summary.working_range)
    return (
        f"The best rate leans on the {summary.edge} edge of the searched range {low} to {high}: "
        "widen it with --range."
    )


def _taken_over(summary: StudySummary) -> list[str]:
    """What shorter runs have trained already, where they have."""
    saved = sum(row.trunk for row in summary.trials)
    steps = sum(row.step for row in summary.trials if not row.by_hand)
    return [f"Taken over from shorter runs: {saved:,} of {steps:,} steps."] if saved else []


def _audits(summary: StudySummary) -> list[str]:
    """How often the pruner would have been wrong, by the trials that ran on to show it."""
    ended, near = audited(summary)
    if not ended:
        return []
    plural = "trial" if ended == 1 else "trials"
    return [
        f"Audit of the pruner: {ended} {plural} ran on that it would have ended, and {near} "
        f"of them came within {summary.scaled.portion(0.005)} of the best."
    ]


def _beside(row: TrialRow) -> str:
    return f", {format_multiple(row.multiple)} of {row.rule}'s rate" if row.rule else ""


def _nothing_learned(summary: StudySummary) -> list[str]:
    chosen = summary.chosen
    assert chosen is not None
    return [
        f"No best rate: the one that did least badly, {place_of(chosen)} (trial {chosen.number}), "
        f"came to {chosen.objective.described(chosen.value)}, and "
        f"counting words alone gives {summary.objective.format(summary.baseline)}.",
        "Nothing was learned: train for more epochs, or shorten the warm-up"
        f"{'' if summary.fixed else ', or widen --range'}.",
    ]


def _no_answer(summary: StudySummary) -> list[str]:
    rows = summary.trials
    if not any(row.state in (*ENDED, "paused") for row in rows):
        return ["No trial has ended yet, so there is no best rate: run the same command to go on."]
    lines = [f"No trial completed, so there is no best rate. Trials: {counts(rows)}."]
    diverged = [row.learning_rate for row in rows if row.diverged]
    if diverged:
        lowest = format_rate(min(diverged))
        lines.append(
            f"{len(diverged)} diverged, the lowest at {lowest}: search below that with --range."
        )
    failed = [row for row in rows if row.state == "failed"]
    if failed:
        last = failed[-1]
        lines.append(
            f"{len(failed)} failed, the last one (trial {last.number}) with: "
            f"{why(last) or 'no reason given'}. Put that right and run again."
        )
    if any(row.state in ("running", "paused", "waiting") for row in rows):
        lines.append("Some are unfinished: the same command goes on with them.")
    elif not diverged and not failed:
        lines.append("Let more run: raise --trials.")
    return lines


def kept(summary: StudySummary) -> str:
    """What an interrupted sweep has kept: "5 of 12 trials done; trial 6 goes on later"."""
    text = f"{trials_done(summary)} of {summary.total} trials are done and stored"
    open_ones = [str(row.number) for row in summary.trials if row.state == "running"]
    if not open_ones:
        return text + "."
    if len(open_ones) == 1:
        return f"{text}; trial {open_ones[0]} goes on from its last checkpoint."
    return f"{text}; trials {', '.join(open_ones)} go on from their last checkpoints."
