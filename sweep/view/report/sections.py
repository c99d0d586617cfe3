"""A report in words and tables, without layout: the terminal, Markdown and HTML show these."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from studies.objective import PERPLEXITY, Objective
from sweep.formatting import (
    format_bound,
    format_count,
    format_decay,
    format_fitted,
    format_rate,
    format_size,
)
from sweep.results.report import AdamScaling, Cost, Report, RuleFinding, RuleVerdict
from sweep.view import confirmation
from sweep.view.prediction import scaling
from sweep.view.sentences import (
    ENDED,
    answer,
    baseline_words,
    counts,
    edge_warning,
    recommendation,
    why,
)
from sweep.view.tables import decay_facts, setting_facts, steps_cell

NOISY = 0.01  # nats between runs at one rate
FEW = 3  # complete trials; with fewer an optimum is little but what the rules say


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and rows of cells, plain text; `spare`, what a narrow terminal can do without."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    spare: str = ""

    @property
    def columns(self) -> list[tuple[str, ...]]:
        """Each with its heading first."""
        return list(zip(self.headings, *self.rows, strict=True))

    def without_spare(self) -> "Table":
        """The other columns."""
        kept = [column for column in self.columns if column[0] != self.spare]
        headings, *rows = zip(*kept, strict=True)
        return Table(headings, tuple(rows))


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, sentences below it, and a table below those."""

    title: str
    sentences: tuple[str, ...] = ()
    table: Table | None = None


def sections(report: Report) -> list[Section]:
    """The whole report; sections with nothing to say are left out."""
    every = [
        Section("Answer", tuple(headline(report))),
        _confirmed(report),
        _rules(report),
        _companions(report),
        _divergence(report),
        _cost(report.cost, report.study.unit, report.objective),
        _neighbours(report),
        _trials(report),
        _setting(report),
    ]
    return [each for each in every if each.sentences or each.table]


def headline(report: Report) -> list[str]:
    """The answer in sentences that stand alone."""
    study, found, objective = report.study, report.optimum, report.objective
    if found is None:
        return [*answer(study), *_caveats(report)]
    lines = [
        f"The best learning rate for batch {study.batch_size:,} in {study.precision} is about "
        f"{format_fitted(found.learning_rate)}; with {100 * found.level:.0f} % probability it lies "
        f"between {format_fitted(found.low)} and {format_fitted(found.high)}.",
    ]
    lines += _decay_lines(report)
    if found.near is not None:
        low, high = map(format_fitted, found.near)
        there = "" if report.decay is None else f" at weight decay {format_decay(report.decay.at)}"
        lines.append(
            f"Any rate from {low} to {high}{there} is expected to cost less than "
            f"{objective.portion(0.01)} of {objective.words} at a new seed."
        )
    if found.safe_up_to is not None:
        safe = format_fitted(found.safe_up_to)
        lines.append(
            f"Safe up to {safe}: above it a new seed loses its training with over 5 % risk."
        )
    lines += recommendation(study, "Recommended is")
    if report.confirmation is not None:
        lines.append(confirmation.answer(report.confirmation)[0])
    if report.noise is not None and report.noise > NOISY:
        lines.append(
            "Runs at nearly the same rate differ by "
            f"{objective.portion(math.expm1(report.noise))} of {objective.words}: nothing finer "
            "than that is known, and the best single trial may be luck."
        )
    if report.verdict is not None:
        lines.append(verdict(report.verdict))
    return [*lines, *_caveats(report)]


def _decay_lines(report: Report) -> list[str]:
    """What is known of the weight decay, and of the rate beside the recommended one."""
    found, within = report.decay, report.study.decay_range
    if found is None or within is None:
        return []
    lines = [
        f"The best weight decay is about {found.weight_decay:.2g}, between {found.low:.2g} and "
        f"{found.high:.2g}; at {format_decay(found.at)} the best rate lies between "
        f"{format_fitted(found.rate_low)} and {format_fitted(found.rate_high)}.",
        f"For each doubling of the weight decay the best rate falls by a factor of "
        f"{2**found.tilt:.2g}.",
    ]
    if found.edge:
        low, high = map(format_decay, within)
        lines.append(
            f"The best weight decay may lie beyond the {found.edge} end of the searched range "
            f"{low} to {high}: widen it with --decay-range."
        )
    return lines


def verdict(found: RuleVerdict) -> str:
    """Which rule the trials speak for."""
    percent = f"{100 * found.weight:.0f} %"
    if not found.rules:
        if found.decided:
            return f"None of the scaling rules fits ({percent} sure)."
        return f"Undecided: most likely none of the scaling rules fits, but only with {percent}."
    names = " and ".join(found.rules)
    if not found.decided:
        return f"Undecided between the scaling rules: most likely is {names}, with {percent}."
    same = ", which say the same here," if len(found.rules) > 1 else ""
    return f"The scaling rule that fits is {names}{same} with {percent} probability."


def _caveats(report: Report) -> list[str]:
    study, lines = report.study, []
    complete = sum(row.state == "complete" for row in study.trials)
    if 0 < complete < FEW:
        trials = "one complete trial" if complete == 1 else f"{complete} complete trials"
        lines.append(f"This rests on {trials}: so far it is little but what the rules say.")
    if any(row.state not in ENDED for row in study.trials):
        lines.append(
            f"Not all trials have ended ({counts(study.trials)}): this is what is known now."
        )
    elif report.confirmation is None and complete >= FEW and not study.fixed:
        lines.append("Not confirmed: `sweep confirm` trains the best rates over new seeds.")
    warning = edge_warning(study)
    if study.fixed:
        lines.append("Its rates were given: `sweep run` searches for better ones.")
    elif warning:
        lines.append(warning)
    elif report.optimum is not None and report.optimum.edge:
        lines.append(
            f"The best rate may lie beyond the {report.optimum.edge} end of the searched range: "
            "widen it with --range."
        )
    return lines


def _confirmed(report: Report) -> Section:
    """What new seeds said of the best rates."""
    found, best = report.confirmation, report.study.best
    if found is None:
        return Section("Over new seeds")
    _, *sentences = confirmation.answer(found)  # the first stands in the answer
    if best is not None and found.of(best.number) is None:
        sentences.append(
            f"Trial {best.number}, the best by now, was not among them: run `sweep confirm` again."
        )
    table = Table(confirmation.headings(found), confirmation.rows(found))
    return Section("Over new seeds", tuple(sentences), table)


def _rules(report: Report) -> Section:
    if not report.rules:
        return Section("Scaling rules")
    worse = "more" if report.objective.direction == "minimize" else "less"
    sentences = [
        "Weight is how much a rule is believed after all trials; one is named as the rule that "
        "fits only from 80 % on. Rules that ask for the same rate share their weight. Cost is how "
        f"much {worse} {report.objective.words} its rate gave, or is expected to give, than the "
        "recommended one."
    ]
    headings = ("rule", "formula", "its rate", "cost", "weight", "tried")
    rows = [_rule_cells(rule, report) for rule in report.rules]
    none = 1.0 - sum(rule.weight for rule in report.rules)
    weight = _percent(none) if report.optimum else "-"
    rows.append(("none of them", "", "", "", weight, ""))
    return Section("Scaling rules", tuple(sentences), Table(headings, tuple(rows), "formula"))


def _rule_cells(rule: RuleFinding, report: Report) -> tuple[str, ...]:
    known = report.optimum is not None
    cost = "-" if rule.cost is None else _cost_cell(rule.cost, report.objective)
    weight = _percent(rule.weight) if known else "-"
    rate = format_rate(rule.learning_rate)
    return rule.name, rule.row.formula, rate, cost, weight, tried(rule)


def tried(rule: RuleFinding) -> str:
    """How the trial nearest to a rule's rate did; says so where it ran at another rate."""
    trial = rule.row.trial
    if trial is None:
        return "no"
    state = "" if trial.state == "complete" or trial.diverged else f", {trial.state}"
    at = "" if rule.row.own else f" at {format_rate(trial.learning_rate)}"
    return f"{trial.shown} (trial {trial.number}{at}{state})"


def _companions(report: Report) -> Section:
    asked, title = report.companions, "Momentum and epsilon"
    if asked is None:
        return Section(title)
    if asked.k == 1:
        return Section(title, ("The batch size is the reference's: nothing else has to change.",))
    rows = [
        ("beta1", f"{asked.betas[0]:g}", _beta(asked.asked_betas[0])),
        ("beta2", f"{asked.betas[1]:g}", _beta(asked.asked_betas[1])),
        ("eps", f"{asked.eps:.2g}", f"{asked.asked_eps:.2g}"),
    ]
    table = Table(("", "used in this sweep", "asked for"), tuple(rows))
    return Section(title, (_companions_sentence(asked),), table)


def _companions_sentence(asked: AdamScaling) -> str:
    return (
        f"At k = B/B0 = {asked.k:g} the half-life of Adam's averages, held fixed in tokens, asks "
        "for beta^k (Marek et al. 2025, arXiv 2507.07101, for beta2), and the square-root rule for "
        "eps / sqrt(k) (Malladi et al. 2022, arXiv 2205.10287). This was not searched: the sweep "
        "changed the rate alone, so the rate found goes with the values it used."
    )


def _beta(beta: float) -> str:
    """To three digits of 1 - beta, which is what an average forgets in a step."""
    return f"{1 - float(f'{1 - beta:.3g}'):.10g}"


def _divergence(report: Report) -> Section:
    found, lines = report.divergence, []
    if found.lowest_diverged is not None:
        lines.append(f"The lowest rate that diverged is {format_rate(found.lowest_diverged)}.")
    elif report.cost.trials:
        lines.append("No trial diverged.")
    if found.highest_complete is not None:
        rate = format_rate(found.highest_complete)
        lines.append(f"The highest that trained to its end is {rate}.")
    if report.optimum is not None and report.optimum.lost_from is not None:
        rate = format_fitted(report.optimum.lost_from)
        lines.append(f"Training is as likely lost as not from about {rate} on.")
    return Section("Where training is lost", tuple(lines))


def _cost(cost: Cost, unit: str, objective: Objective) -> Section:
    if not cost.trials:
        return Section("What it took")
    kinds = ("complete", "pruned", "diverged", "failed")
    ended = ", ".join(f"{n} {kind}" for kind in kinds if (n := getattr(cost, kind)))
    lines = [
        f"{_count(cost.trials, 'trial')} ({ended or 'none ended yet'}) took "
        f"{_count(cost.steps_spent, unit)}{_taken_over(cost)}; all to their end would be "
        f"{cost.trials * cost.whole_steps:,}.",
        f"A full grid over the searched range, {cost.grid_rates} rates a factor of 1.44 apart"
        f"{_grid_decays(cost)}, would take {_count(cost.grid_steps, unit)}, "
        f"{cost.grid_steps / max(1, cost.steps_spent):.1f} times as many.",
        _pruner_sentence(cost, unit, objective),
    ]
    return Section("What it took", tuple(lines))


def _taken_over(cost: Cost) -> str:
    return f", and {cost.trunk_steps:,} taken over from shorter runs" if cost.trunk_steps else ""


def _grid_decays(cost: Cost) -> str:
    if cost.grid_decays == 1:
        return ""
    return f" at each of {cost.grid_decays} weight decays a factor of 2 apart"


def _pruner_sentence(cost: Cost, unit: str, objective: Objective) -> str:
    name = f" ({cost.pruner})" if cost.pruner else ""
    sentence = (
        f"The pruner{name} ended {_count(cost.pruned, 'trial')}, which left out "
        f"{_count(cost.pruned_steps, unit)}."
    )
    if not cost.audited:
        return f"{sentence} None that it would have ended was let run on to check it."
    return (
        f"{sentence} To check it {_count(cost.audited, 'trial')} that it would have ended ran on: "
        f"{cost.audited_near} came within {objective.portion(0.005)} of the best."
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _cost_cell(cost: float, objective: Objective) -> str:
    return _percent(cost) if objective.name == PERPLEXITY else objective.portion(cost)


def _percent(share: float) -> str:
    return "under 1 %" if share < 0.005 else f"{100 * share:.0f} %"


def _neighbours(report: Report) -> Section:
    """What finished studies at other settings say with this one, and how good a forecast was."""
    title, met = "Other batch sizes, model sizes and lengths", report.study.forecast_met
    told = (f"{met[0].upper()}{met[1:].removesuffix('.')}.",) if met else ()
    if len(report.neighbours) < 2:
        return Section(title, told)
    several = len({each.length for each in report.neighbours}) > 1
    lengths = (report.length_unit,) if several else ()
    rows = [
        (
            f"{each.batch_size:,}{' (this study)' if each.itself else ''}",
            format_size(each.parameters),
            *([format_count(each.length)] if lengths else []),
            each.precision,
            format_fitted(each.learning_rate),
            f"{format_fitted(each.low)} to {format_fitted(each.high)}",
            each.study,
        )
        for each in report.neighbours
    ]
    sentences = [
        "Each study's best rate by its trials alone, without what the rules say.",
        f"Held fixed: {report.held}.",
        *(scaling(report.exponents) if report.exponents is not None else ()),
        *told,
    ]
    headings = ("batch", "parameters", *lengths, "precision", "best rate", "90 % interval", "study")
    table = Table(headings, tuple(rows), spare="study")
    return Section(title, tuple(each.strip() for each in sentences), table)


def _trials(report: Report) -> Section:
    study = report.study
    decay = ("decay",) if study.decay_range is not None else ()
    rows = [
        (
            str(row.number),
            format_rate(row.learning_rate),
            *([format_decay(row.weight_decay)] if decay else []),
            row.shown,
            steps_cell(row),
            row.state,
            why(row),
        )
        for row in study.trials
    ]
    measured = study.objective.words, f"{study.unit}s"
    headings = ("trial", "rate", *decay, *measured, "state", "reason")
    return Section("Trials", (), Table(headings, tuple(rows)) if rows else None)


def _setting(report: Report) -> Section:
    study = report.study
    low, high = map(format_bound, study.working_range)
    rows: Sequence[tuple[str, str]] = [
        ("study", study.name),
        *setting_facts(study),
        *([("optimizer", report.optimizer)] if report.optimizer else []),
        *([("schedule", report.schedule)] if report.schedule else []),
        *([("baseline", baseline_words(study))] if study.data else []),
        (f"{study.unit}s a trial", f"{study.steps:,}" if study.steps else "not known yet"),
        ("searched range", f"{low} to {high}"),
        *decay_facts(study),
        ("reference", study.reference_text),
        ("storage", study.storage),
    ]
    return Section("Setting", (), Table(("", ""), tuple(rows)))
