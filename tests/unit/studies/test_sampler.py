import itertools
import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.testing.pytest_samplers import BasicSamplerTestCase, SingleOnlySamplerTestCase
from optuna.trial import TrialState, create_trial

from studies import PARAMETER, WIDE, LearningRateSampler, Prior, StudyError
from studies.numbers import APART
from studies.observed import Terms
from studies.sampler import make_sampler

SPACE = FloatDistribution(1e-5, 1e-1, log=True)
OPTIMUM = 1.1e-3
RULES = {"sqrt": 8e-4, "linear": 6.4e-3}


class TestLearningRateSampler(BasicSamplerTestCase, SingleOnlySamplerTestCase):
    """Optuna's own suite for samplers."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: LearningRateSampler(RULES, seed=0)


def perplexity(rate: float) -> float:
    x = math.log(rate / OPTIMUM)
    return 12 * math.exp(0.022 * x**2 * (1.5 if x > 0 else 1.0)) if x < 2.2 else 800.0


def study_of(sampler: BaseSampler, trials: int = 0) -> Study:
    study = optuna.create_study(sampler=sampler)
    for _ in range(trials):
        run_one(study)
    return study


def run_one(study: Study) -> float:
    trial = study.ask({PARAMETER: SPACE})
    study.tell(trial, perplexity(trial.params[PARAMETER]))
    return float(trial.params[PARAMETER])


def ask(study: Study) -> float:
    return float(study.ask({PARAMETER: SPACE}).params[PARAMETER])


def add(study: Study, rate: float, state: TrialState, **more: object) -> None:
    study.add_trial(
        create_trial(
            state=state,
            params={PARAMETER: rate},
            distributions={PARAMETER: SPACE},
            **more,  # type: ignore[arg-type]
        )
    )


def gaps(rates: list[float]) -> list[float]:
    return [abs(math.log(one / other)) for one, other in itertools.combinations(rates, 2)]


@pytest.mark.parametrize(
    ("priors", "trials"),
    [({"sqrt": 8e-4}, 4), ({"sqrt": Prior(1.1e-2, 0.5)}, 7), ({}, 6), (RULES, 5)],
)
def test_it_finds_the_best_rate_in_a_few_trials(priors: dict[str, float], trials: int) -> None:
    study = optuna.create_study(sampler=LearningRateSampler(priors))
    for _ in range(trials):
        run_one(study)
    assert study.best_value < 12 * 1.002


def test_the_first_rate_is_the_priors_and_each_value_may_have_its_own_weight() -> None:
    believed = {"sqrt": Prior(8e-4, 0.3, weight=20.0), "linear": Prior(6.4e-3, 0.3)}
    assert ask(study_of(LearningRateSampler(believed))) == pytest.approx(8e-4, rel=0.25)
    turned = {"sqrt": Prior(8e-4, 0.3), "linear": Prior(6.4e-3, 0.3, weight=20.0)}
    assert ask(study_of(LearningRateSampler(turned))) == pytest.approx(6.4e-3, rel=0.25)


def test_a_reopened_study_asks_the_same_rates(tmp_path: Path) -> None:
    kept = study_of(LearningRateSampler(RULES))
    whole = [run_one(kept) for _ in range(5)]
    pieces = []
    for _ in range(5):
        storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
        study = optuna.create_study(
            storage=storage,
            study_name="one",
            load_if_exists=True,
            sampler=LearningRateSampler(RULES),
        )
        pieces.append(run_one(study))
        storage.engine.dispose()
    assert pieces == whole


@pytest.mark.parametrize("trials", [0, 4])
def test_parallel_asks_spread_and_stay_apart(trials: int) -> None:
    study = study_of(LearningRateSampler(RULES), trials=trials)
    together = [ask(study) for _ in range(4)]
    tried = [trial.params[PARAMETER] for trial in study.trials]
    assert min(gaps(tried)) >= APART - 1e-9
    assert max(gaps(together)) > 0.3


def test_threads_may_share_a_study_and_a_process() -> None:
    def search(optimum: float) -> Study:
        def objective(trial: optuna.Trial) -> float:
            rate = trial.suggest_float(PARAMETER, SPACE.low, SPACE.high, log=True)
            return perplexity(rate * OPTIMUM / optimum)

        study = study_of(LearningRateSampler(RULES))
        study.optimize(objective, n_trials=10, n_jobs=4)
        return study

    optima = (OPTIMUM, 5 * OPTIMUM)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(search, optima))
    for study, optimum in zip(found, optima, strict=True):
        assert len(study.trials) == 10
        assert abs(math.log(study.best_params[PARAMETER] / optimum)) < 0.7


def test_a_waiting_rate_is_not_asked_for_again() -> None:
    study = study_of(LearningRateSampler({"sqrt": 8e-4}))
    study.enqueue_trial({PARAMETER: 8e-4})
    rate = make_free_ask(study)
    assert abs(math.log(rate / 8e-4)) >= APART


def make_free_ask(study: Study) -> float:
    """The sampler's answer beside the queue."""
    number = len(study.trials)
    trial = create_trial(state=TrialState.RUNNING)
    trial.number = number
    return float(study.sampler.sample_independent(study, trial, PARAMETER, SPACE))


def test_a_rate_that_failed_is_not_asked_for_again_at_once() -> None:
    study = study_of(LearningRateSampler(RULES), trials=3)
    before = make_free_ask(study)
    add(study, before, TrialState.FAIL)
    assert abs(math.log(make_free_ask(study) / before)) >= APART


def test_where_every_trial_fails_each_has_a_rate_of_its_own() -> None:
    def breaks(trial: optuna.Trial) -> float:
        trial.suggest_float(PARAMETER, SPACE.low, SPACE.high, log=True)
        raise OSError

    study = study_of(LearningRateSampler(RULES))
    study.optimize(breaks, n_trials=8, catch=OSError)
    assert min(gaps([trial.params[PARAMETER] for trial in study.trials])) >= APART - 1e-9


@pytest.mark.parametrize("fails", [1, 2])
def test_a_rate_that_failed_first_is_found_all_the_same(fails: int) -> None:
    """Ctrl-C is a failure to Optuna, and so is a mistake in the code that is then mended."""
    study = study_of(LearningRateSampler({"sqrt": Prior(OPTIMUM, 0.3)}))
    for _ in range(fails):
        add(study, OPTIMUM, TrialState.FAIL)
    for _ in range(5):
        run_one(study)
    assert study.best_value < 12 * 1.002


@pytest.mark.parametrize("priors", [{}, RULES, {"linear": 5e-2}])
@pytest.mark.parametrize("wall", [1.3e-3, 3e-3])
def test_it_moves_away_from_rates_that_return_nan(
    priors: dict[str, float | Prior], wall: float
) -> None:
    def loses_above(trial: optuna.Trial) -> float:
        rate = trial.suggest_float(PARAMETER, SPACE.low, SPACE.high, log=True)
        return perplexity(rate) if rate < wall else math.nan

    study = study_of(LearningRateSampler(priors))
    study.optimize(loses_above, n_trials=20)
    assert study.best_value < 12 * 1.01
    assert sum(trial.state == TrialState.FAIL for trial in study.trials) <= 14


@pytest.mark.parametrize(
    ("state", "more"),
    [
        (TrialState.PRUNED, {"value": math.inf, "intermediate_values": {1: 400.0, 2: math.inf}}),
        (TrialState.PRUNED, {"intermediate_values": {1: math.inf}}),
        (TrialState.FAIL, {"intermediate_values": {1: 400.0, 2: math.nan}}),
    ],
)
def test_no_rate_above_a_diverged_one_is_asked_for(
    state: TrialState, more: dict[str, object]
) -> None:
    study = study_of(LearningRateSampler({"linear": 2e-2}))
    add(study, 1e-2, state, **more)
    rates = [run_one(study) for _ in range(6)]
    assert max(rates) < 1e-2
    assert study.best_value < 12 * 1.01


def test_a_complete_trial_of_infinite_value_is_a_wall_too() -> None:
    study = study_of(LearningRateSampler({"linear": 2e-2}))
    add(study, 1e-2, TrialState.COMPLETE, value=math.inf)
    assert ask(study) < 1e-2


def test_a_paused_trial_goes_on_where_its_rate_is_asked_for_again() -> None:
    """Left at twice its final perplexity, as every trial had at that epoch."""
    study = study_of(LearningRateSampler({}, baseline=800.0))
    for rate in (2e-4, 6e-4, 2.5e-3, 4e-3):
        final = perplexity(rate)
        add(study, rate, TrialState.COMPLETE, value=final,
            intermediate_values={1: 2 * final, 2: 1.2 * final, 3: final})  # fmt: skip
    add(study, OPTIMUM, TrialState.RUNNING, intermediate_values={1: 2 * perplexity(OPTIMUM)},
        user_attrs={"paused": "after a look"})  # fmt: skip
    assert make_free_ask(study) == pytest.approx(OPTIMUM)
    add(study, OPTIMUM, TrialState.RUNNING)  # it has gone on
    assert abs(math.log(make_free_ask(study) / OPTIMUM)) >= APART


def test_a_range_of_its_own_is_kept_to_while_trials_store_the_wide_one() -> None:
    study = optuna.create_study(
        sampler=make_sampler("learning-rate", Terms(1e-5, 1e-3), seed=0, startup=3)
    )
    for _ in range(12):
        trial = study.ask({PARAMETER: WIDE})
        assert 1e-5 <= trial.params[PARAMETER] <= 1e-3
        study.tell(trial, perplexity(trial.params[PARAMETER]))
    assert {trial.distributions[PARAMETER] for trial in study.trials} == {WIDE}
    assert study.best_params[PARAMETER] > 8e-4


SAMPLER = pytest.mark.parametrize("name", ["learning-rate", "tpe", "random"])


@SAMPLER
def test_no_rate_is_stored_that_the_parameter_does_not_allow(name: str) -> None:
    study = optuna.create_study(sampler=make_sampler(name, Terms(1e-6, 1e-2), seed=0, startup=1))
    narrow = FloatDistribution(1e-3, 1.0, log=True)
    for _ in range(6):
        trial = study.ask({PARAMETER: narrow})
        assert 1e-3 <= trial.params[PARAMETER] <= 1e-2
        study.tell(trial, perplexity(trial.params[PARAMETER]))
    for _ in range(2):  # one rate alone is in both
        assert study.ask({PARAMETER: FloatDistribution(1e-2, 1.0, log=True)}).params == {
            PARAMETER: pytest.approx(1e-2)
        }


@SAMPLER
def test_a_range_is_no_excuse_for_a_distribution_that_cannot_be_searched(name: str) -> None:
    study = optuna.create_study(sampler=make_sampler(name, Terms(1e-3, 1e-1), seed=0, startup=1))
    with pytest.raises(StudyError, match="learning_rate must be a float on a log scale"):
        study.ask({PARAMETER: FloatDistribution(1e-4, 1.0)})
    with pytest.raises(
        StudyError,
        match=r"searched from 0.001 to 0.1, where its distribution, from 1e-06 to 1e-05, allows no",
    ):
        study.ask({PARAMETER: FloatDistribution(1e-6, 1e-5, log=True)})
    for low, high in ((1e-1, 1e-3), (math.nan, 1.0)):
        turned = optuna.create_study(sampler=LearningRateSampler({}, low=low, high=high))
        with pytest.raises(StudyError, match="allows no rate"):
            ask(turned)


def test_a_full_range_still_gets_a_rate() -> None:
    study = optuna.create_study(sampler=LearningRateSampler({}, low=1e-3, high=1.2e-3))
    rates = [ask(study) for _ in range(20)]
    assert all(1e-3 <= rate <= 1.2e-3 for rate in rates)
    assert min(gaps(rates)) > 1e-3


def test_it_leaves_a_plateau_where_nothing_is_learned() -> None:
    ended = {8e-5: 70.4, 1.3e-4: 70.0, 2e-4: 69.8, 3.1e-4: 69.9, 5e-4: 70.5}
    asked = []
    for baseline in (None, 71.0):
        study = study_of(LearningRateSampler({"sqrt": 2e-4}, baseline=baseline))
        for rate, value in ended.items():
            add(study, rate, TrialState.COMPLETE, value=value)
        asked.append(ask(study))
    assert not any(3e-5 < rate < 1.2e-3 for rate in asked)


def test_other_parameters_are_drawn_at_random_by_seed_and_trial() -> None:
    def draw(seed: int) -> list[float]:
        study = optuna.create_study(sampler=LearningRateSampler(RULES, seed=seed))
        return [study.ask().suggest_float("dropout", 0.0, 0.5) for _ in range(4)]

    assert draw(0) == draw(0)
    assert len({*draw(0), *draw(1)}) == 8


def test_bad_input_is_refused_in_words() -> None:
    study = optuna.create_study(sampler=LearningRateSampler({}))
    with pytest.raises(StudyError, match="learning_rate must be a float on a log scale"):
        study.ask({PARAMETER: FloatDistribution(0.0, 1.0)})
    upwards = optuna.create_study(direction="maximize", sampler=LearningRateSampler({}))
    with pytest.raises(StudyError, match="direction must be minimize"):
        ask(upwards)
    with pytest.raises(StudyError, match="prior rate must be positive and finite, got 0"):
        LearningRateSampler({"sqrt": 0.0})
    with pytest.raises(StudyError, match="prior width must be positive and finite, got -1"):
        LearningRateSampler({"sqrt": Prior(1e-3, width=-1.0)})
    with pytest.raises(StudyError, match=r"baseline must be a perplexity, at least 1, got 0.5"):
        LearningRateSampler({}, baseline=0.5)
    negative = optuna.create_study(sampler=LearningRateSampler({}))
    add(negative, 1e-3, TrialState.COMPLETE, value=-0.5)
    with pytest.raises(
        StudyError, match=r"trial 0: value must be a perplexity, at least 1, got -0.5"
    ):
        ask(negative)


def test_it_says_so_once_where_losses_are_returned() -> None:
    def run(value: Callable[[float], float], baseline: float | None) -> list[str]:
        study = study_of(LearningRateSampler(RULES, baseline=baseline))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("default")
            for _ in range(4):
                trial = study.ask({PARAMETER: SPACE})
                study.tell(trial, value(perplexity(trial.params[PARAMETER])))
        return [str(each.message) for each in said]

    (line,) = run(math.log, 900.0)
    assert "looks like a loss in nats beside 900, the text's unigram perplexity" in line
    assert line.endswith("; return that")
    assert run(math.log, None) == run(float, 900.0) == run(float, 20.0) == []


def test_importing_it_loads_no_torch() -> None:
    code = "import sys; from studies import LearningRateSampler; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
