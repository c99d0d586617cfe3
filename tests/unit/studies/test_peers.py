import itertools
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from studies.definition import PARAMETER, WIDE
from studies.errors import StudyError
from studies.observed import Terms
from studies.peers import PEERS, _quiet, middle_of_widest_gap
from studies.sampler import make_sampler

LOW, HIGH = 1e-5, 1e-1
OPTIMUM = 8e-4

names = pytest.mark.parametrize("name", sorted(PEERS))


@pytest.fixture(autouse=True)
def _quiet_optuna() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(verbosity)


def perplexity(rate: float) -> float:
    """A parabola in ln(rate) as measured: curvature 0.023 nats."""
    return 20 * math.exp(0.023 * math.log(rate / OPTIMUM) ** 2)


def ask(study: Study, name: str = "tpe", low: float = LOW, high: float = HIGH) -> optuna.Trial:
    study.sampler = make_sampler(name, Terms(low, high), seed=7, startup=3)
    return study.ask({PARAMETER: WIDE})


def run(study: Study, trials: int, name: str = "tpe") -> list[float]:
    rates = []
    for _ in range(trials):
        trial = ask(study, name)
        rates.append(trial.params[PARAMETER])
        study.tell(trial, perplexity(rates[-1]))
    return rates


def ratios(rates: list[float]) -> list[float]:
    return [max(a / b, b / a) for a, b in itertools.combinations(rates, 2)]


def finished(rate: float, value: float, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    return create_trial(
        state=state,
        value=None if state == TrialState.FAIL else value,
        params={PARAMETER: rate},
        distributions={PARAMETER: WIDE},
        intermediate_values={1: value},
    )


@names
def test_rates_stay_in_the_range_apart_and_are_stored_as_wide(name: str) -> None:
    study = optuna.create_study()
    rates = run(study, 25, name)
    assert all(LOW <= rate <= HIGH for rate in rates)
    assert min(ratios(rates)) >= 1.05 * (1 - 1e-9)
    assert {trial.distributions[PARAMETER] for trial in study.trials} == {WIDE}


def test_tpe_finds_the_optimum_of_a_measured_curve() -> None:
    study = optuna.create_study()
    run(study, 20)
    assert study.best_value < 20 * 1.01


@names
def test_a_reopened_study_goes_on_as_one_never_closed(name: str, tmp_path: Path) -> None:
    whole = run(optuna.create_study(), 8, name)
    pieces = []
    for _ in range(8):
        storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
        study = optuna.create_study(storage=storage, study_name="one", load_if_exists=True)
        pieces += run(study, 1, name)
        storage.engine.dispose()
    assert pieces == whole
    assert len(set(whole)) == 8


@names
def test_the_given_trial_number_seeds_the_draw(name: str) -> None:
    def draw(trial_number: int | None, seed: int = 7) -> float:
        terms = Terms(LOW, HIGH)
        sampler = make_sampler(name, terms, seed=seed, startup=3, trial_number=trial_number)
        study = optuna.create_study(sampler=sampler)
        return float(study.ask({PARAMETER: WIDE}).params[PARAMETER])

    assert draw(0) == draw(None) == draw(0)
    assert len({draw(0), draw(1), draw(2), draw(0, seed=8)}) == 4


@pytest.mark.parametrize("before", [0, 6])
def test_parallel_asks_do_not_repeat(before: int) -> None:
    study = optuna.create_study()
    run(study, before)
    together = [ask(study).params[PARAMETER] for _ in range(3)]
    assert min(ratios(together)) >= 1.05


def test_a_waiting_rate_is_not_proposed_and_is_asked_as_enqueued() -> None:
    study = optuna.create_study()
    run(study, 4)
    study.enqueue_trial({PARAMETER: 8e-4})
    study.enqueue_trial({PARAMETER: 6.4e-3})
    assert ask(study).params[PARAMETER] == 8e-4
    # Resumed after a kill between ask and suggest: the sampler is never asked.
    trial = study.ask()
    assert trial.suggest_float(PARAMETER, WIDE.low, WIDE.high, log=True) == 6.4e-3


def test_after_widening_the_old_trials_still_guide_the_draws() -> None:
    study = optuna.create_study()
    for rate in (1e-5, 3e-5, 1e-4, 3e-4, 9e-4):
        study.add_trial(finished(rate, perplexity(rate)))
    draws = []
    for _ in range(8):
        trial = ask(study, high=1.0)
        draws.append(trial.params[PARAMETER])
        study.tell(trial, perplexity(draws[-1]))
    assert all(LOW <= rate <= 1.0 for rate in draws)
    assert sorted(draws)[4] > 1e-4
    assert min(ratios([*draws, 9e-4])) >= 1.05 * (1 - 1e-9)


def test_trials_outside_a_narrowed_range_do_not_pull_to_its_edge() -> None:
    study = optuna.create_study()
    for rate in (1e-5, 1e-4, 8e-4):
        study.add_trial(finished(rate, perplexity(rate)))
    draws = [ask(study, low=1e-2, high=1e-1).params[PARAMETER] for _ in range(4)]
    assert all(1e-2 <= rate <= 1e-1 for rate in draws)
    assert max(draws) > 2e-2


def test_diverged_and_failed_trials_do_not_break_tpe() -> None:
    study = optuna.create_study()
    run(study, 4)
    study.add_trial(finished(5e-2, math.inf, TrialState.PRUNED))
    study.add_trial(create_trial(state=TrialState.FAIL))
    assert LOW <= ask(study).params[PARAMETER] <= HIGH


def test_a_full_range_gets_the_middle_of_its_widest_gap() -> None:
    study = optuna.create_study()
    rates = [1e-3 * 1.04**k for k in range(19) if k != 10]
    for rate in rates:
        study.add_trial(finished(rate, perplexity(rate)))
    rate = ask(study, low=rates[0], high=rates[-1]).params[PARAMETER]
    assert rate == pytest.approx(1e-3 * 1.04**10)


def test_a_rate_that_failed_is_not_drawn_again() -> None:
    study = optuna.create_study()
    rates = [1e-3 * 1.04**k for k in range(19) if k != 10]
    for rate in rates:
        study.add_trial(finished(rate, perplexity(rate)))
    asked = []
    for _ in range(2):
        trial = ask(study, low=rates[0], high=rates[-1])
        asked.append(trial.params[PARAMETER])
        study.tell(trial, state=TrialState.FAIL)
    assert asked[0] != pytest.approx(asked[1], rel=0.01)


def test_tpe_leaves_rates_that_reported_nan_before_they_failed() -> None:
    def draws(reported: float) -> list[float]:
        study = optuna.create_study()
        for rate in (1e-5, 3e-5, 1e-4):
            study.add_trial(finished(rate, perplexity(rate)))
        for rate in (1e-2, 2e-2, 4e-2, 8e-2):
            study.add_trial(finished(rate, reported, TrialState.FAIL))
        return [ask(study).params[PARAMETER] for _ in range(8)]

    assert sum(rate > 5e-3 for rate in draws(math.nan)) < sum(rate > 5e-3 for rate in draws(50.0))


def test_the_widest_gap_counts_the_ends() -> None:
    assert middle_of_widest_gap(1e-4, 1e-2, []) == pytest.approx(1e-3)
    assert middle_of_widest_gap(1e-4, 1e-2, [2e-4, 1.0]) == pytest.approx(math.sqrt(2e-6))


def test_asking_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    study = optuna.create_study()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    ask(study)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert capsys.readouterr() == ("", "")


def test_threads_that_ask_leave_optuna_as_talkative_as_it_was() -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    entered, may_leave = threading.Event(), threading.Event()

    def other() -> None:
        with _quiet():
            entered.set()
            may_leave.wait(60)

    thread = threading.Thread(target=other)
    with _quiet():
        thread.start()
        entered.wait(0.5)  # it may have to wait for us
    may_leave.set()
    thread.join()
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


def test_an_unknown_sampler_is_refused_with_the_nearest_name() -> None:
    known = "learning-rate, random, tpe"
    with pytest.raises(StudyError, match=f"sampler must be one of {known}, got 'rando'; did"):
        make_sampler("rando", Terms(LOW, HIGH), seed=0, startup=3)
    with pytest.raises(StudyError, match=r"range\.low"):
        make_sampler("tpe", Terms(0.0, HIGH), seed=0, startup=3)
