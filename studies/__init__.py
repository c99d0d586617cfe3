"""The search for a learning rate, on Optuna; knows nothing of torch or of how trials run."""

from studies.definition import PARAMETER, WIDE, Identity, edge, validate_range, widen, working_range
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
