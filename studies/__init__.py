"""The search for a learning rate, on Optuna; knows nothing of torch or of how trials run.

Its names are loaded where they are asked for: what only needs to know what a perplexity is, such as
a view, need not wait for Optuna.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studies.decay import DecaySearch
    from studies.definition import (
        PARAMETER,
        WIDE,
        Identity,
        edge,
        validate_range,
        widen,
        working_range,
    )
    from studies.errors import StudyError
    from studies.patient import StudyPruner
    from studies.prior import Centre, Prior, centres, multiples, nearest_rule, rule_priors
    from studies.pruner import LearningRatePruner, make_pruner
    from studies.rules import RULES, FunctionRule, Reference, Rule, ScalingRule, Setting
    from studies.sampler import LearningRateSampler, make_sampler
    from studies.stopping import Remaining, parse_until, remaining

__all__ = [
    "PARAMETER",
    "RULES",
    "WIDE",
    "Centre",
    "DecaySearch",
    "FunctionRule",
    "Identity",
    "LearningRatePruner",
    "LearningRateSampler",
    "Prior",
    "Reference",
    "Remaining",
    "Rule",
    "ScalingRule",
    "Setting",
    "StudyError",
    "StudyPruner",
    "centres",
    "edge",
    "make_pruner",
    "make_sampler",
    "multiples",
    "nearest_rule",
    "parse_until",
    "remaining",
    "rule_priors",
    "validate_range",
    "widen",
    "working_range",
]

_NAMES = {
    "decay": "DecaySearch",
    "definition": "PARAMETER WIDE Identity edge validate_range widen working_range",
    "errors": "StudyError",
    "patient": "StudyPruner",
    "prior": "Centre Prior centres multiples nearest_rule rule_priors",
    "pruner": "LearningRatePruner make_pruner",
    "rules": "RULES FunctionRule Reference Rule ScalingRule Setting",
    "sampler": "LearningRateSampler make_sampler",
    "stopping": "Remaining parse_until remaining",
}
_PLACES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Loads the module of a name that is asked for the first time."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"studies.{_PLACES[name]}"), name)
    return found
