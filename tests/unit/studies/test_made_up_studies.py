"""What a person would say who looks at the points: the main job's, and studies made to be hard."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from studies import observed
from studies.definition import PARAMETER, WIDE
from studies.likelihood import Observations, Repeat
from studies.optimum import Optimum, optimum
from studies.posterior import Posterior
from studies.prior import Prior, rule_priors
from studies.rules import RULES as SCALING_RULES
from studies.rules import Reference, Setting
from studies.stopping import by_regret, remaining

Points = Sequence[tuple[float, float]]

# --- the main job: ten trials, in their order, and three further seeds at two of the rates

MAIN_JOB = (
    (1.70e-2, 43.85),
    (2.12e-3, 94.59),
    (1.36e-1, 130.3),
    (2.52e-2, 41.93),
    (2.29e-2, 42.39),
    (2.93e-2, 42.79),
    (2.07e-2, 42.50),
    (3.23e-2, 91.15),
    (1.87e-2, 43.07),
    (4.07e-1, 136.5),
)
FURTHER = {2.52e-2: (45.5, 75.9, 47.1), 2.29e-2: (43.5, 45.2, 46.1)}
WIDTH = math.hypot(0.35, 0.25 * math.log(64))
RULES = {
    "sqrt": Prior(1.70e-2, WIDTH),
    "unscaled": Prior(2.12e-3, WIDTH),
    "linear": Prior(1.36e-1, WIDTH),
}


def trials_of(points: Points) -> list[FrozenTrial]:
    trials = [
        create_trial(value=value, params={PARAMETER: rate}, distributions={PARAMETER: WIDE})
        for rate, value in points
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    return trials


def main_job(count: int = len(MAIN_JOB), repeats: tuple[Repeat, ...] = ()) -> Posterior:
    return posterior_of(MAIN_JOB[:count], 135.7, RULES, 7.07e-4, 0.407, repeats=repeats)


def posterior_of(
    points: Points,
    baseline: float,
    priors: dict[str, Prior] | None = None,
    low: float = 1e-5,
    high: float = 1.0,
    *,
    lost: Sequence[float] = (),
    repeats: tuple[Repeat, ...] = (),
) -> Posterior:
    x, y = (np.log([point[axis] for point in points]) for axis in (0, 1))
    seen = Observations(x, y, np.log(lost), np.zeros(0), math.log(baseline), repeats=repeats)
    return Posterior(seen, priors or {}, low, high)


def recommended(known: Posterior, points: Points) -> float:
    return points[by_regret(known, trials_of(points))[0][1]][0]


@pytest.mark.parametrize("count", range(6, 11))
def test_the_main_jobs_best_rate_lies_among_its_good_points(count: int) -> None:
    found = optimum(main_job(count))
    assert 1.8e-2 <= found.low < found.learning_rate < found.high <= 3.3e-2


@pytest.mark.parametrize("count", range(3, 11))
def test_the_main_jobs_rules_are_believed_as_its_points_lie(count: int) -> None:
    weights = main_job(count).rule_weights()
    assert weights["sqrt"] > weights["linear"]
    assert weights["sqrt"] > weights["unscaled"]


def test_the_main_job_recommends_a_rate_that_holds_at_new_seeds() -> None:
    """2.52e-2 was the luckiest; 3.23e-2, a quarter higher, was lost, and 2.52e-2 at a new seed."""
    assert 1.7e-2 <= recommended(main_job(), MAIN_JOB) <= 2.1e-2


def test_the_main_jobs_further_seeds_are_part_of_the_answer() -> None:
    repeats = tuple(
        Repeat(seed, math.log(rate), math.log(value))
        for rate, values in FURTHER.items()
        for seed, value in enumerate(values, 1)
    )
    known = main_job(repeats=repeats)
    assert recommended(known, MAIN_JOB) <= 2.3e-2
    found = optimum(known)
    assert 1.8e-2 <= found.low < found.high <= 3.3e-2
    assert found.safe_up_to is not None
    assert found.safe_up_to < 2.52e-2
    lucky, other = known.regret(np.log([2.52e-2, 2.07e-2]))
    assert lucky > 2 * other


# --- made to be hard

BEST = 1e-2
UNIGRAM = 140.0


def basin(*offsets: float) -> list[tuple[float, float]]:
    """Points around the best rate; the second axis is perplexity."""
    return [
        (BEST * math.exp(d), math.exp(3.0 + 0.1 * d**2 * (1.5 if d > 0 else 1.0))) for d in offsets
    ]


SIX = basin(-2.0, -1.0, -0.5, 0.0, 0.5, 1.0)


@pytest.mark.parametrize("baseline", [UNIGRAM, math.inf])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_outliers_among_the_good_points_move_nothing(count: int, baseline: float) -> None:
    outliers = [(8e-3, 90.0), (5e-3, 134.0), (1.2e-2, 67.0)][:count]
    found = optimum(posterior_of([*SIX, *outliers], baseline))
    assert found.low < BEST < found.high < 3 * found.low


def test_outliers_that_would_make_a_basin_of_their_own() -> None:
    """As many on either side as in the basin: those that learned most count."""
    scattered = [(3e-4, 95.0), (4e-4, 80.0), (5e-4, 99.0), (0.12, 80.0), (0.15, 70.0), (0.18, 85.0)]
    found = optimum(posterior_of([*SIX, *scattered], UNIGRAM))
    assert found.low < BEST < found.high < 4 * found.low


def test_of_two_basins_neither_is_claimed_alone() -> None:
    second = [(BEST * math.exp(d), math.exp(3.05 + 0.2 * (d - 2.6) ** 2)) for d in (2.2, 2.6, 3.0)]
    known = posterior_of([*SIX, *second], UNIGRAM)
    found = optimum(known)
    assert found.high / found.low > 3
    assert not remaining(known, trials_of([*SIX, *second]), 0.01).enough


@pytest.mark.parametrize(
    ("count", "rule"),
    # One run alone may be an accident where a rule says that the best rate is three times higher.
    [*((count, rule) for count in (1, 2, 3, 6) for rule in (None, BEST)), (2, 3 * BEST)],
)
def test_where_all_diverged_the_best_rate_is_lower(count: int, rule: float | None) -> None:
    lost = [BEST * math.exp(-0.5 * each) for each in range(count)]
    priors = {} if rule is None else {"rule": Prior(rule)}
    found = optimum(posterior_of([], UNIGRAM, priors, lost=lost))
    assert found.high <= 1.3 * min(lost)
    assert found.learning_rate < 0.5 * min(lost)
    assert found.low < 0.1 * found.high


def alike(first: float, last: float) -> list[tuple[float, float]]:
    """Six rates that learned nothing."""
    rates = np.geomspace(first, last, 6)
    wobble = (1.005, 1.0, 0.995, 1.0, 0.995, 1.005)
    return [(float(rate), UNIGRAM * share) for rate, share in zip(rates, wobble, strict=True)]


@pytest.mark.parametrize(("first", "last"), [(1e-4, 0.5), (4e-4, 3e-3)])
def test_of_rates_that_all_learned_nothing_none_is_the_best(first: float, last: float) -> None:
    points = alike(first, last)
    known = posterior_of(points, UNIGRAM)
    found = optimum(known)
    assert found.high / found.low > 15
    assert found.near is None
    assert not remaining(known, trials_of(points), 0.05).enough


def test_alike_over_the_range_where_the_unigrams_level_is_unknown_says_as_little() -> None:
    points = alike(1e-4, 0.5)
    known = posterior_of(points, math.inf)
    found = optimum(known)
    assert found.high / found.low > 30
    assert 1e-4 < found.learning_rate < 0.5
    assert found.near is None
    assert not remaining(known, trials_of(points), 0.05).enough


@pytest.mark.parametrize("baseline", [UNIGRAM, math.inf])
@pytest.mark.parametrize("points", [[], basin(0.0)])
def test_one_point_or_none_says_little(points: Points, baseline: float) -> None:
    known = posterior_of(points, baseline)
    found = optimum(known)
    # A run that learned is not a hundred times too high, and may be many times too low.
    assert found.low < (1e-3 if points else 1e-4) < 0.2 < found.high
    assert found.near is None
    assert remaining(known, trials_of(points), 0.01).share is None


def test_one_point_at_the_unigrams_level_is_not_near_the_best() -> None:
    known = posterior_of([(BEST, UNIGRAM)], UNIGRAM)
    rates = np.log(np.geomspace(1e-5, 1.0, 100))
    asked = rates[known.improvement(rates).argmax()]
    assert abs(asked - math.log(BEST)) > 1.0


def test_after_thirty_steps_a_rate_that_learned_nothing_lies_near_the_best() -> None:
    """As in the recorded runs of 30 steps: 1e-2 has learned a little, its third nothing."""
    level = math.log(UNIGRAM)
    values = np.array([level + 0.5, level + 0.1, level - 0.25])
    rates, none = np.log([1e-3, 3e-3, 1e-2]), np.zeros(0)
    highest = {
        steps: Posterior(
            Observations(rates, values, none, none, level, steps=steps), {}, 1e-5, 1.0
        ).interval(0.9)[1]
        for steps in (30, 1_000, math.inf)
    }
    assert highest[30] < 0.2
    assert highest[1_000] > 1.0  # of so many steps its third is as if ten times too low
    assert highest[1_000] == highest[math.inf]


def test_the_rates_that_cost_little_end_where_that_is_so() -> None:
    """The main job of another day; between two points of the grid too."""
    points = [(2.4e-2, 41.73), (4.14e-2, 38.08), (6.48e-2, 37.54), (0.106, 45.25), (5.58e-2, 37.04)]
    known = posterior_of(points, 135.6, RULES, 1e-3, 0.576)
    near = optimum(known).near
    assert near is not None
    assert near[0] < recommended(known, points) < near[1]
    assert known.regret(np.log(near)) == pytest.approx(math.log(1.01), abs=1e-3)


NEXT_TO_A_WALL = basin(-2.0, -1.0, -0.5, -0.2, 0.0)
WALL = BEST * math.exp(0.15)


@pytest.mark.parametrize("finite", [True, False])
def test_next_to_a_wall_the_recommended_rate_keeps_away_from_it(finite: bool) -> None:
    above = [WALL, 1.5 * WALL, 2.5 * WALL]
    ended = [(rate, value) for rate, value in zip(above, (98.0, 139.0, 143.0), strict=True)]
    points = [*NEXT_TO_A_WALL, *(ended if finite else [])]
    known = posterior_of(points, UNIGRAM, lost=() if finite else above)
    found = optimum(known)
    assert recommended(known, points) < 0.9 * BEST
    assert found.safe_up_to is not None
    assert found.safe_up_to < 0.95 * WALL
    assert found.lost_from is not None
    assert 0.9 * WALL < found.lost_from < 2 * WALL
    free = posterior_of(NEXT_TO_A_WALL, UNIGRAM)
    assert recommended(known, points) < recommended(free, NEXT_TO_A_WALL)


def noisy(count: int, seed: int) -> tuple[Posterior, Optimum, list[tuple[float, float]]]:
    """Random rates around the best, every perplexity with an error of 5 %."""
    rng = np.random.default_rng(seed)
    points = [
        (rate, value * math.exp(rng.normal(0, 0.05)))
        for rate, value in basin(*rng.uniform(-1.5, 1.2, count))
    ]
    known = posterior_of(points, UNIGRAM)
    return known, optimum(known), points


@pytest.mark.parametrize("count", [4, 8, 12])
def test_with_five_per_cent_noise_no_claim_is_finer_than_it(count: int) -> None:
    found = [noisy(count, seed) for seed in range(12)]
    factors = [each.high / each.low for _, each, _ in found]
    assert min(factors) > 1.5
    assert count > 4 or np.median(factors) > 3
    assert np.mean([each.low < BEST < each.high for _, each, _ in found]) >= 0.6
    stopped = [
        math.log(recommended(known, points) / BEST)
        for known, _, points in found
        if remaining(known, trials_of(points), 0.01).enough
    ]
    assert len(stopped) < len(found)
    assert all(abs(each) < 0.7 for each in stopped)  # 5 % there


def test_the_noise_of_many_scattered_runs_is_seen() -> None:
    known, _, _ = noisy(30, 0)
    assert known.noise == pytest.approx(0.05, abs=0.02)


# --- a run too short for all rates but one: by step, of 132; a model without context has 139.3

TOO_SHORT = {
    8e-4: {44: 140.7, 88: 138.6},
    1e-4: {44: 168.4, 88: 144.0, 132: 140.8},
    6.4e-3: {44: 133.0, 88: 99.31, 132: 86.29},
    1.59e-2: {44: 135.5, 88: 134.4},
    2.74e-2: {44: 112.9},
    6.4e-2: {1: math.inf},
}


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_what_learned_far_above_all_that_did_not_is_no_accident(count: int) -> None:
    """A person sees the best rate near 6.4e-3, whatever a wall far below could explain."""
    trials = []
    for number, (rate, curve) in enumerate([*TOO_SHORT.items()][:count]):
        whole = max(curve) == 132
        trial = create_trial(
            state=TrialState.COMPLETE if whole else TrialState.PRUNED,
            value=min(curve.values()) if whole else None,
            params={PARAMETER: rate},
            distributions={PARAMETER: WIDE},
            intermediate_values=curve,
        )
        trial.number = number
        trials.append(trial)
    here, there = (Setting(batch_size=batch, parameters=2739432) for batch in (2048, 32))
    reference = Reference(setting=there, learning_rate=1e-4, perplexity=None, swept=False)
    priors = rule_priors(SCALING_RULES, reference, here)
    terms = observed.Terms(1e-6, 6.4e-2, priors, 139.3, constant_rate=True, steps=132)
    low, high = observed.posterior_of(trials, terms).interval(0.9)
    assert 1e-3 < low < 6.4e-3 < high
