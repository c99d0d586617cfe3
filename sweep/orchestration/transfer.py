"""What finished studies of other settings say of a new one, before its first trial."""

import dataclasses
import math

from optuna.storages import RDBStorage
from optuna.study import Study

from studies.definition import WIDE
from studies.prior import MERGE_FACTOR, Centre, Prior, log_distance
from studies.transfer import FORECAST
from sweep.formatting import format_fitted
from sweep.orchestration.plan import SWEPT_MARGIN, Plan, identity
from sweep.results.family import find_family, predict_optimum, run_setting
from sweep.results.forecast import Forecast, own
from trainers.data import Corpus

SHARE = 2.0  # the forecast is believed this much more than all rules together, at the most
REACH = 2.6  # a rule's rate this many widths away from it is left to the search (99 %)


def find_forecast(
    plan: Plan, corpus: Corpus | None, storage: RDBStorage, existing: Study | None
) -> Forecast | None:
    """The forecast that a study starts from.

    Args:
        plan: the study's, by its rules.
        corpus: its text; None of a program.
        storage: where finished studies are looked for.
        existing: the study itself where it was made before: it keeps the forecast that it began
            with, so that it asks for the same rates whatever has been finished since.

    Returns:
        None where it is switched off, the weight decay is searched too, or no finished study is
        comparable.
    """
    if not plan.config.study.transfer or plan.decay is not None:
        return None
    if existing is not None:
        return own(existing)
    fields = identity(plan, corpus).fields
    text = (len(corpus.train), corpus.train.targets) if corpus else (0, 0)
    setting = run_setting(fields, plan.setting.parameters, text)
    found = predict_optimum(find_family(storage, fields), setting)
    return None if found is None else Forecast.of(found, setting)


def with_forecast(plan: Plan, found: Forecast | None) -> Plan:
    """A plan with the forecast as one more prior and as the first rate.

    Beside it only those rules' rates are tried first that it does not rule out; a range that the
    user did not give is widened to a factor of 3 around it. A forecast less certain than the rules
    weighs less.
    """
    if found is None:
        return plan
    low, high = plan.low, plan.high
    if not plan.config.study.range:
        low = max(WIDE.low, min(low, found.learning_rate / SWEPT_MARGIN))
        high = min(WIDE.high, max(high, found.learning_rate * SWEPT_MARGIN))
    rate = min(max(found.learning_rate, low), high)
    names, others = [FORECAST], []
    for centre in plan.first:
        away = log_distance(centre.learning_rate, rate)
        if away <= math.log(MERGE_FACTOR):
            names += centre.rules
        elif away <= REACH * found.width:
            others.append(centre)
    rules = plan.priors.values()
    certain = min(1.0, max(prior.width for prior in rules) / found.width)
    weight = SHARE * certain * math.fsum(prior.weight for prior in rules)
    prior = Prior(found.learning_rate, found.width, weight)
    return dataclasses.replace(
        plan,
        first=(Centre(rate, tuple(names)), *others),
        priors={**plan.priors, FORECAST: prior},
        low=low,
        high=high,
    )


def sentence(found: Forecast) -> str:
    """Says what is used, in one line."""
    count = len(found.studies)
    batches = sorted(set(found.batches))
    which = f"batch {', '.join(f'{batch:,}' for batch in batches)}"
    return (
        f"{count} finished {'study' if count == 1 else 'studies'} of this model and text ({which}) "
        f"forecast the best rate: {format_fitted(found.learning_rate)} "
        f"({format_fitted(found.low)} to {format_fitted(found.high)}); --no-transfer leaves it out"
    )
