"""Where a study looks: its range of rates, and of weight decays where they are searched too."""

import math
from collections.abc import Mapping, Sequence

from studies.decay import DecaySearch, carried_decay
from studies.definition import WIDE, validate_range, working_range
from studies.rules import Reference
from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.execution.protocol import SHARED_TRAINER

GIVEN_MARGIN = 2.0  # of given rates
# Of a weight decay: where it begins if nothing says so (AdamW's here, `trainers.config`), how far
# around that it is searched, and the sd of ln of the best one, known by a timescale or not at all.
USUAL_DECAY, DECAY_MARGIN = 0.1, 16.0
COUPLED_WIDTH, UNKNOWN_WIDTH = 1.0, 1.5


def rates_range(
    config: SweepConfig, rates: Mapping[str, float], margin: float
) -> tuple[float, float]:
    """The rates that are searched.

    Args:
        config: resolved.
        rates: the rules' own.
        margin: how far beyond them it reaches where nothing is given, a factor.

    Raises:
        SweepError: what is given is no range, or no trial can be stored with a given rate.
    """
    given = config.study.range
    if config.study.rates and not given:
        return range_of(config.study.rates)
    if not given:
        return working_range(rates.values(), margin=margin)
    if len(given) != 2:
        raise SweepError(f"study.range takes a lowest and a highest rate, got {list(given)}")
    validate_range(*given)
    return given[0], given[1]


def range_of(rates: Sequence[float]) -> tuple[float, float]:
    """The stored range of a study that is given its rates: nothing leans on its edge.

    Raises:
        SweepError: names the first rate that no trial can be stored with.
    """
    for rate in rates:
        if not WIDE.low <= rate <= WIDE.high:
            raise SweepError(f"a rate must be from {WIDE.low:g} to {WIDE.high:g}, got {rate:g}")
        if sum(math.isclose(rate, other) for other in rates) > 1:
            raise SweepError(f"the rate {rate:g} is named twice: name each one once")
    return max(WIDE.low, min(rates) / GIVEN_MARGIN), min(WIDE.high, max(rates) * GIVEN_MARGIN)


def decay_search(config: SweepConfig, rate: float, reference: Reference) -> DecaySearch:
    """What is known of the weight decay before any trial.

    Where a reference has one, the timescale of rate and decay is carried on to the rate that is
    tried first, as a rule has it (a run is as long there as here, or its length is unknown).

    Raises:
        SweepError: what is given is no range, or the decay cannot be searched.
    """
    train, known = config.trainer, config.reference.weight_decay
    _check_decays(config)
    middle = known or train.weight_decay or USUAL_DECAY
    if known:
        batches = train.batch_size / reference.setting.batch_size
        middle = carried_decay(known, rate / reference.learning_rate, batches)
    given = config.study.decay_range
    if given and len(given) != 2:
        raise SweepError(f"study.decay_range takes a lowest and a highest decay, got {list(given)}")
    middle = min(max(middle, *given[:1]), given[1]) if given else middle
    low, high = given or (middle / DECAY_MARGIN, middle * DECAY_MARGIN)
    return DecaySearch(low, high, middle, COUPLED_WIDTH if known else UNKNOWN_WIDTH)


def _check_decays(config: SweepConfig) -> None:
    train = config.trainer
    if config.study.rates:
        raise SweepError(
            "study.rates (--rates) are trained without a search, and study.with (--with) asks for "
            "one: leave one of them out"
        )
    if config.study.trainer == SHARED_TRAINER and train.optimizer == "adam":
        raise SweepError(
            "study.with (--with) weight_decay: optimizer adam adds its decay to the gradient and "
            "divides it away again: take --optimizer adamw, muon or sgd"
        )
