"""The rules' rates with formula and source, before anything is trained."""

from typing import Any

from sweep.orchestration.plan import Plan


def priors(plan: Plan) -> dict[str, Any]:
    """What the rules say.

    Returns:
        Plain JSON values: the setting, the reference, the rules, the rates tried first, the range.
    """
    return {
        "profile": plan.config.profile,
        "batch_size": plan.setting.batch_size,
        "parameters": plan.setting.parameters,
        "model": plan.train.model.name,
        "reference": described(plan),
        "rules": described_rules(plan),
        "first": [
            {"learning_rate": centre.learning_rate, "rules": list(centre.rules)}
            for centre in plan.first
        ],
        "range": [plan.low, plan.high],
    }


def described_rules(plan: Plan) -> list[dict[str, Any]]:
    """The rules of a plan, with the rate that each has there."""
    return [
        {
            "name": rule.name,
            "learning_rate": plan.rates[rule.name],
            "formula": rule.formula,
            "source": rule.source,
        }
        for rule in plan.rules
    ]


def described(plan: Plan) -> dict[str, Any]:
    """The reference of a plan: the rate that the rules start from, and where it was good."""
    reference = plan.reference
    return {
        "learning_rate": reference.learning_rate,
        "batch_size": reference.setting.batch_size,
        "parameters": reference.setting.parameters,
        "precision": reference.precision,
        "perplexity": reference.perplexity,
        "swept": reference.swept,
        "borrowed": plan.borrowed,
    }
