"""A report for programs.

study, storage, batch_size, precision, model, parameters, metric, direction
optimum             {learning_rate, low, high, level, edge}, null before a trial is complete
within_one_percent  {low, high}, null where no rate is expected to cost less than 1 %
weight_decay        the fields of `sweep.results.decay_finding.DecayFinding` (rate_low, rate_high:
                    of the best rate at the decay `at`); null where it was not searched
safe_up_to          the highest rate that a new seed loses with a risk of 5 % at most, or null
best                the trial of the best value, as `sweep status --json` has it, or null
recommended         the trial whose rate is expected to cost least at a new seed, or null
rules               [{name, learning_rate, weight, inside, cost}]; with `no_rule`, weights make 1;
                    cost: of its rate at a new seed over the best one, 0.01 for 1 % of
                    perplexity, of another metric for as many nats as that is
verdict             {rules, weight, decided} or null
companions          {k, betas, eps, asked_betas, asked_eps} or null
optimizer, schedule in words; "" for Adam and a constant rate
confirmation        {seeds, trial, finalists}, null where `sweep confirm` has not run; `trial`
                    is the best over the new seeds, null where none was trained whole at each
divergence          {lowest_diverged, highest_complete, likely_from}
cost                the fields of `sweep.results.report.Cost`
neighbours          [the fields of `sweep.results.neighbours.Neighbour`]
exponents           the fields of `studies.exponents.Exponents`, null with one setting alone
curve               {rates, low, middle, high} or null
text                the answer in sentences
"""

from dataclasses import asdict
from typing import Any

from sweep.results.confirmation import record
from sweep.results.report import Report
from sweep.view.json_objects import finite, metric_fields, trial_object
from sweep.view.report.sections import headline


def report_object(report: Report) -> dict[str, Any]:
    """A report as above: plain values that JSON can write."""
    study, found = report.study, report.optimum
    fields = ("storage", "batch_size", "precision", "model", "parameters")
    weights = sum(rule.weight for rule in report.rules)
    whole = {
        "study": study.name,
        **{field: getattr(study, field) for field in fields},
        **metric_fields(study.objective),
        "optimum": found
        and {
            "learning_rate": found.learning_rate,
            "low": found.low,
            "high": found.high,
            "level": found.level,
            "edge": found.edge,
        },
        "within_one_percent": found
        and found.near
        and dict(zip(("low", "high"), found.near, strict=True)),
        "weight_decay": report.decay and asdict(report.decay),
        "safe_up_to": found and found.safe_up_to,
        "best": study.best and trial_object(study.best),
        "recommended": study.recommended and trial_object(study.recommended),
        "rules": [
            {
                "name": rule.name,
                "learning_rate": rule.learning_rate,
                "weight": rule.weight,
                "inside": rule.inside,
                "cost": rule.cost,
            }
            for rule in report.rules
        ],
        "no_rule": 1.0 - weights,
        "verdict": report.verdict and asdict(report.verdict),
        "companions": report.companions and asdict(report.companions),
        "optimizer": report.optimizer,
        "schedule": report.schedule,
        "confirmation": report.confirmation and record(report.confirmation),
        "divergence": {**asdict(report.divergence), "likely_from": found and found.lost_from},
        "cost": asdict(report.cost),
        "neighbours": [asdict(each) for each in report.neighbours],
        "exponents": report.exponents and asdict(report.exponents),
        "curve": report.curve and asdict(report.curve),
        "text": headline(report),
    }
    plain: dict[str, Any] = finite(whole)
    return plain
