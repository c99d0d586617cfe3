"""What the scaling rules say before any trial has run: the rates worth trying first."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from studies.errors import StudyError
from studies.numbers import GRID_STEP, RULES_WEIGHT, WIDE_SD, WIDE_WEIGHT
from studies.rules import Reference, Rule, Setting
from studies.table import Array

MERGE_FACTOR = 1.25
FIRST_RULE, NO_RULE = "sqrt", "no rule"
SWEPT_WIDTH, GUESSED_WIDTH = 0.35, 0.8  # sd of the reference's ln rate

# Rates whose distances differ by less than this are equally far: powers round differently.
_TIE = 9


@dataclass(frozen=True, slots=True)
class Centre:
    """A rate to try, and every rule that it stands for.

    Attributes:
        learning_rate: of the first rule in `rules`, clipped to the range.
        rules: names of the rules whose rates, clipped, lie within a factor of 1.25.
    """

    learning_rate: float
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prior:
    """What one rule says of the best rate: ln rate is normal around its own.

    Attributes:
        rate: the rule's.
        width: sd of ln rate; 0.5 is a factor of 1.6 either way.
        weight: belief in this rule against the others.
    """

    rate: float
    width: float = 0.5
    weight: float = 1.0

    def __post_init__(self) -> None:
        for field in ("rate", "width", "weight"):
            value = getattr(self, field)
            if not (math.isfinite(value) and value > 0):
                raise StudyError(f"prior {field} must be positive and finite, got {value}")


def log_distance(first: float, second: float) -> float:
    """How far two rates are apart, as |ln(first / second)|."""
    return abs(math.log(first / second))


def centres(
    rules: Iterable[Rule],
    reference: Reference,
    setting: Setting,
    *,
    low: float,
    high: float,
) -> list[Centre]:
    """Turns the rules into as few trials as serve them all, in the order to try them.

    The sqrt rule comes first where it is present (measured: the smallest miss of the common
    rules), else the rule in the middle; the others follow by their distance to it, ties in the
    order of `rules`. A rate within a factor of 1.25 of one that is there already joins it.

    Args:
        rules: the rules, with distinct names.
        reference: the known rate.
        setting: where a rate is wanted.
        low: the lowest rate of the working range.
        high: the highest; rates outside the range are clipped to it.

    Returns:
        The centres; each rule is named by exactly one of them.

    Raises:
        StudyError: two rules have the same name.
    """
    merged: list[tuple[float, list[str]]] = []
    for name, rate in _in_order(_clipped_rates(rules, reference, setting, low, high)):
        near = [entry for entry in merged if _same(rate, entry[0])]
        if near:
            min(near, key=lambda entry: log_distance(rate, entry[0]))[1].append(name)
        else:
            merged.append((rate, [name]))
    return [Centre(rate, tuple(names)) for rate, names in merged]


def rule_priors(rules: Iterable[Rule], reference: Reference, setting: Setting) -> dict[str, Prior]:
    """Says how far each rule is to be trusted.

    A rule's ln rate is off by s, s^2 = s0^2 + (0.25 ln B/B0)^2 + (0.2 ln N/N0)^2: s0 is the
    reference's own error, 0.35 where it was swept and 0.8 where it was a guess; 0.25 and 0.2 are
    how much the local exponents of the batch and of the model size vary around a rule's (measured
    on the Step Law runs, arXiv 2503.04715).

    Args:
        rules: the rules, with distinct names.
        reference: the known rate.
        setting: where a rate is wanted.

    Returns:
        Each rule's prior by the rule's name, all of the same width. Rules whose rates lie within a
        factor of 1.25 say the same and share one weight.
    """
    own = SWEPT_WIDTH if reference.swept else GUESSED_WIDTH
    batch = 0.25 * math.log(setting.batch_size / reference.setting.batch_size)
    size = 0.2 * math.log(setting.parameters / reference.setting.parameters)
    width = math.hypot(own, batch, size)
    rates = {rule.name: rule.learning_rate(reference, setting) for rule in rules}
    alike = {
        name: sum(_same(rate, other) for other in rates.values()) for name, rate in rates.items()
    }
    return {name: Prior(rate, width, 1.0 / alike[name]) for name, rate in rates.items()}


def multiples(rate: float, rates: Mapping[str, float]) -> dict[str, float]:
    """Compares a rate with each rule's.

    Args:
        rate: a learning rate.
        rates: each rule's rate by the rule's name.

    Returns:
        rate / rule's rate by the rule's name.
    """
    return {name: rate / rule_rate for name, rule_rate in rates.items()}


def nearest_rule(rate: float, rates: Mapping[str, float]) -> tuple[str, float]:
    """Finds the rule that a rate is nearest to in log distance.

    Args:
        rate: a learning rate.
        rates: each rule's rate by the rule's name, at least one.

    Returns:
        The rule's name (the first of those equally near) and rate / rule's rate.
    """
    assert rates, "nearest_rule needs at least one rule"
    name = min(rates, key=lambda name: round(log_distance(rate, rates[name]), _TIE))
    return name, rate / rates[name]


def _clipped_rates(
    rules: Iterable[Rule], reference: Reference, setting: Setting, low: float, high: float
) -> dict[str, float]:
    rates: dict[str, float] = {}
    for rule in rules:
        if rule.name in rates:
            raise StudyError(f"rules must have distinct names, got {rule.name!r} twice")
        rates[rule.name] = min(max(rule.learning_rate(reference, setting), low), high)
    return rates


def _in_order(rates: dict[str, float]) -> list[tuple[str, float]]:
    if not rates:
        return []
    # median_low is one of the rates: where sqrt is absent, a rule's own rate is tried first.
    start = rates.get(FIRST_RULE, statistics.median_low(rates.values()))
    # sqrt leads its ties, so that its rate is the one tried for all that merge with it.
    return sorted(
        rates.items(),
        key=lambda item: (round(log_distance(item[1], start), _TIE), item[0] != FIRST_RULE),
    )


def _same(first: float, second: float) -> bool:
    return round(log_distance(first, second), _TIE) <= round(math.log(MERGE_FACTOR), _TIE)


def parts_of(priors: Mapping[str, Prior], mu: Array) -> dict[str, Array]:
    """Each rule's share of the prior over a grid of ln rates; a rule off the grid has none of it.

    What is left, a wide normal round each rule and a uniform share, is `NO_RULE`'s.
    """
    known = (RULES_WEIGHT + WIDE_WEIGHT) if priors else 0.0
    parts = {NO_RULE: np.full(len(mu), (1.0 - known) / len(mu))}
    total = sum(prior.weight for prior in priors.values())
    for name, prior in priors.items():
        share, middle = prior.weight / total * GRID_STEP, math.log(prior.rate)
        parts[name] = RULES_WEIGHT * share * _normal(mu - middle, prior.width)
        parts[NO_RULE] = parts[NO_RULE] + WIDE_WEIGHT * share * _normal(mu - middle, WIDE_SD)
    return parts


def _normal(distance: Array, sd: float) -> Array:
    return np.asarray(np.exp(-0.5 * (distance / sd) ** 2) / (math.sqrt(2 * math.pi) * sd))
