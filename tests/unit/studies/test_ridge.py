"""Rate and weight decay together, on made-up ridges; and the rate alone, as it was before."""

import json
import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from studies import LearningRateSampler, Prior, StudyError
from studies.decay import (
    DECAY,
    WIDE_DECAY,
    DecaySearch,
    Ridge,
    carried_decay,
    ln_place,
    ridges,
)
from studies.definition import PARAMETER, WIDE
from studies.observed import Terms, posterior_of
from studies.ridge import RidgePosterior
from studies.sampler import make_sampler
from studies.stopping import by_regret, remaining
from studies.strategy import next_training, rest_of
from studies.table import Table

SEARCH = DecaySearch(0.005, 2.0, 0.1, 1.5)
LOSS, TOP = 2.7, 10.0
# ln rate of the best at a decay of 0.1, tilt, ln of the best decay over 0.1, bend, curvature.
MADE_UP = {
    "the product alone": (math.log(4e-4), 1.0, -0.6, 0.005, 0.3),
    "the product, and a decay of its own": (math.log(2e-3), 1.0, 0.7, 0.1, 0.1),
    "no matter which decay": (math.log(6e-4), 0.0, -1.2, 0.03, 0.3),
}


def loss(name: str, rate: float, decay: float) -> float:
    best, tilt, place, bend, curvature = MADE_UP[name]
    z = math.log(decay / 0.1)
    away = math.log(rate) + tilt * z - best
    u = curvature * away**2 / (TOP - LOSS)
    return TOP - (TOP - LOSS) * math.exp(-u - u * u / 4) + bend * (z - place) ** 2


def trial_at(number: int, rate: float, decay: float, value: float | None) -> FrozenTrial:
    spaces: dict[str, FloatDistribution] = {PARAMETER: WIDE, DECAY: WIDE_DECAY}
    trial = create_trial(
        state=TrialState.RUNNING if value is None else TrialState.COMPLETE,
        value=value,
        params={PARAMETER: rate, DECAY: decay},
        distributions=dict(spaces),
    )
    trial.number = number
    return trial


def terms(**changes: object) -> Terms:
    known = {"low": 1e-5, "high": 1e-1, "priors": {"sqrt": Prior(1e-3, 0.8)}, "decay": SEARCH}
    return Terms(**{**known, **changes})  # type: ignore[arg-type]


def search(name: str, trials: int) -> Study:
    sampler = LearningRateSampler(
        {"sqrt": Prior(1e-3, 0.8)},
        low=1e-5,
        high=1e-1,
        baseline=TOP,
        objective="validation_loss",
        decay=SEARCH,
    )
    study = optuna.create_study(sampler=sampler)
    noise = np.random.default_rng(0)

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float(PARAMETER, WIDE.low, WIDE.high, log=True)
        decay = trial.suggest_float(DECAY, WIDE_DECAY.low, WIDE_DECAY.high, log=True)
        return loss(name, rate, decay) + float(noise.normal(0.0, 0.004))

    study.optimize(objective, trials)
    return study


FIRST, *OTHERS = MADE_UP
SOME = [FIRST, *(pytest.param(name, marks=pytest.mark.more) for name in OTHERS)]


@pytest.fixture(scope="module", params=SOME)
def searched(request: pytest.FixtureRequest) -> tuple[str, Study]:
    return request.param, search(request.param, 12)


def test_it_finds_the_best_of_both(searched: tuple[str, Study]) -> None:
    name, study = searched
    reached = [loss(name, t.params[PARAMETER], t.params[DECAY]) - LOSS for t in study.trials]
    assert min(reached) < 0.01
    # A full grid of both is far larger: at a factor of 2, 13 rates by 9 decays.
    assert len(reached) == 12


def test_its_intervals_hold_the_truth(searched: tuple[str, Study]) -> None:
    name, study = searched
    best, tilt, place, _, _ = MADE_UP[name]
    assert isinstance(study.sampler, LearningRateSampler)
    found = study.sampler.posterior(study)
    assert isinstance(found, RidgePosterior)
    low, high = found.interval(0.95)
    assert low < math.exp(best - tilt * place) < high
    low, high = found.decay_interval(0.95)
    assert low < 0.1 * math.exp(place) < high
    for decay in (0.1, 0.1 * math.exp(place)):
        low, high = found.at(decay).interval_here(0.95)
        assert low < math.exp(best - tilt * math.log(decay / 0.1)) < high


def test_what_is_recommended_costs_little_and_is_known_to(searched: tuple[str, Study]) -> None:
    name, study = searched
    assert isinstance(study.sampler, LearningRateSampler)
    found = study.sampler.posterior(study)
    regret, number = by_regret(found, study.trials)[0]
    chosen = study.trials[number].params
    assert loss(name, chosen[PARAMETER], chosen[DECAY]) - LOSS < 0.02
    assert regret < 0.03
    said = remaining(found, study.trials, 0.05)
    assert "weight decay" in said.sentence
    assert found.most_left(found.where(Table.of([study.trials[number]]))[0]) < 0.1


def test_all_ridges_together_are_one_distribution() -> None:
    assert sum(weight for _, weight in ridges(SEARCH)) == pytest.approx(1.0)
    known = posterior_of([], terms())
    assert isinstance(known, RidgePosterior)
    assert known.density[1].sum() == pytest.approx(1.0)
    assert known.decay_density[1].sum() == pytest.approx(1.0)
    assert sum(known.rule_weights().values()) == pytest.approx(1.0)


def test_on_a_ridge_trials_count_where_the_product_is() -> None:
    ridge = Ridge(0.1, tilt=1.0, bend=0.1, place=0.0)
    both = trial_at(0, 1e-3, 0.4, 3.0), trial_at(1, 4e-3, 0.1, 3.0)
    assert ln_place(both[0], ridge) == pytest.approx(ln_place(both[1], ridge))
    assert ln_place(both[1], ridge) == pytest.approx(ln_place(both[1], None))
    points = np.log([[1e-3, 0.4], [4e-3, 0.1]])
    assert ridge.cost(points).tolist() == pytest.approx([0.163, 0.0], abs=0.03)


def test_at_a_larger_decay_it_asks_for_a_smaller_rate() -> None:
    name = "the product alone"
    places = [(r, d) for r in (1e-4, 4e-4, 1.6e-3) for d in (0.025, 0.1, 0.4)]
    known = [trial_at(i, r, d, loss(name, r, d)) for i, (r, d) in enumerate(places)]
    told = terms(baseline=None)
    small = rest_of(Table.of(known), told, decay=0.02).rate
    large = rest_of(Table.of(known), told, decay=0.5).rate
    assert small > 5 * large
    asked = rest_of(Table.of(known), told, rate=1e-4)
    assert asked.rate == pytest.approx(1e-4)
    assert asked.decay is not None
    assert asked.decay > 0.1


def test_a_running_pair_is_complemented() -> None:
    first = next_training(Table.of([]), terms())
    assert first.decay is not None
    running = trial_at(0, first.rate, first.decay, None)
    second = next_training(Table.of([running]), terms())
    assert second.decay is not None
    away = math.log(second.rate / first.rate), math.log(second.decay / first.decay)
    assert math.hypot(*away) > 0.2


def test_a_reopened_study_asks_for_the_same() -> None:
    asked = []
    for _ in range(2):
        study = optuna.create_study(
            sampler=make_sampler("learning-rate", terms(), seed=0, startup=1)
        )
        study.add_trial(trial_at(0, 1e-3, 0.1, 30.0))
        trial = study.ask()
        rate = trial.suggest_float(PARAMETER, WIDE.low, WIDE.high, log=True)
        asked.append((rate, trial.suggest_float(DECAY, WIDE_DECAY.low, WIDE_DECAY.high, log=True)))
    assert asked[0] == asked[1]


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_optunas_own_samplers_draw_both_within_their_ranges(name: str) -> None:
    study = optuna.create_study(sampler=make_sampler(name, terms(), seed=0, startup=2))

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float(PARAMETER, WIDE.low, WIDE.high, log=True)
        decay = trial.suggest_float(DECAY, WIDE_DECAY.low, WIDE_DECAY.high, log=True)
        return math.exp(loss("the product alone", rate, decay))

    study.optimize(objective, 8)
    rates = [math.log(t.params[PARAMETER] / 1e-5) / math.log(1e4) for t in study.trials]
    decays = [math.log(t.params[DECAY] / 0.005) / math.log(400) for t in study.trials]
    assert all(0 <= each <= 1 for each in (*rates, *decays))
    assert len(set(decays)) == 8
    assert max(abs(a - b) for a, b in zip(rates, decays, strict=True)) > 0.1  # not one draw


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.1, 0.11, 0.1, 1.0), "at least 1.25 times"),
        ((0.1, 1.0, 0.01, 1.0), "must lie between 0.1 and 1"),
        ((0.0, 1.0, 0.1, 1.0), "low must lie between 1e-06"),
        ((0.1, 1.0, 0.1, 0.0), "width must be positive"),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    values: tuple[float, float, float, float], words: str
) -> None:
    with pytest.raises(StudyError, match=words):
        DecaySearch(*values)


def test_a_timescale_is_carried_to_another_batch() -> None:
    # B / (rate x decay x D): at 4 times the batch and twice the rate, twice the decay.
    assert carried_decay(0.1, 2.0, 4.0) == pytest.approx(0.2)
    assert carried_decay(0.1, 1.0, 1.0) == pytest.approx(0.1)


RECORDED = Path(__file__).with_name("recorded_search.json")
"""What the search of the rate alone said after each trial of the README's study, before the weight
decay was searched at all: the next rate, the median and interval of the best one, what is lost,
what is left to gain."""
RATES = (1.7e-2, 2.12e-3, 0.136, 4.15e-2, 6.3e-2, 2.9e-2, 0.31)
REACHED = (42.19, 136.0, 82.69, 38.11, 38.9, 38.87, math.inf)
STATES = ["complete", "pruned", "pruned", "complete", "complete", "complete", "lost"]


def recorded_trial(number: int) -> FrozenTrial:
    rate, value, state = RATES[number], REACHED[number], STATES[number]
    if state == "lost":
        values = {20: 150.0, 40: math.inf}
    else:
        last = 5 if state == "pruned" else 10
        values = {20 * i: 155 - (155 - value) * i / 10 for i in range(1, last + 1)}
    trial = create_trial(
        state=TrialState.COMPLETE if state == "complete" else TrialState.PRUNED,
        value=value if state == "complete" else None,
        params={PARAMETER: rate},
        distributions={PARAMETER: WIDE},
        intermediate_values=values,
    )
    trial.number = number
    return trial


@pytest.mark.parametrize("constant_rate", [False, True])
@pytest.mark.parametrize("count", range(len(RATES) + 1))
def test_the_rate_alone_is_searched_as_before(count: int, constant_rate: bool) -> None:
    table = Table.of([recorded_trial(number) for number in range(count)])
    told = Terms(
        7.07e-4,
        0.407,
        {"sqrt": Prior(1.7e-2, 0.35), "linear": Prior(0.136, 0.6)},
        baseline=135.6,
        constant_rate=constant_rate,
    )
    found, asked = posterior_of(table, told), next_training(table, told)
    x = np.log([0.01, 0.1])
    said = {
        "asked": [asked.rate, asked.number],
        "best": [found.best_rate, *found.interval(), found.spread],
        "lost": found.lost(x).tolist(),
        "left": [*found.regret(x).tolist(), found.most_left(math.log(0.03))],
        "ranked": [list(pair) for pair in by_regret(found, table)],
    }
    assert asked.decay is None
    before = json.loads(RECORDED.read_text(encoding="utf-8"))[f"{count} {constant_rate}"]
    # Another processor may round the last bits otherwise.
    for name, values in before.items():
        flat, expected = np.array(said[name], float), np.array(values, float)
        np.testing.assert_allclose(flat, expected, rtol=1e-6, atol=1e-9, err_msg=name)
