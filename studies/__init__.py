"""The search for a learning rate, on Optuna; knows nothing of torch or of how trials run."""

from studies.definition import PARAMETER, WIDE, Identity, edge, validate_range, widen, working_range
from studies.errors import StudyError
from studies.prior import Centre, Prior, centres, multiples, nearest_rule, rule_priors
from studies.pruner import StudyPruner, make_pruner
from studies.rules import RULES, Reference, ScalingRule, Setting
from studies.sampler import LearningRateSampler, make_sampler

__all__ = [
    "PARAMETER",
    "RULES",
    "WIDE",
    "Centre",
    "Identity",
    "LearningRateSampler",
    "Prior",
    "Reference",
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
    "rule_priors",
    "validate_range",
    "widen",
    "working_range",
]
