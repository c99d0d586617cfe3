"""When a run is left as it is, and when it goes on: starting, pausing and resuming are one rule."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from studies import PARAMETER, WIDE, LearningRatePruner, Prior, StudyError, make_pruner
from studies.numbers import LOOKS
from studies.observed import Terms
from studies.sampler import LearningRateSampler
from studies.strategy import next_training
from studies.table import Table
from studies.trials import LOOKED, PAUSED

EPOCHS, BEST, BASELINE = 12, 1e-3, 400.0
TERMS = Terms(1e-5, 1e-1, {"rule": Prior(BEST)}, BASELINE, steps=EPOCHS)
Schedule = Callable[[int, float], float]


def constant(epoch: int, x: float) -> float:
    """ln perplexity above the final one: high rates are nearly there early, low ones are late."""
    return 0.8 * math.exp(-epoch / (3.0 - 0.6 * x)) - 0.8 * math.exp(-EPOCHS / (3.0 - 0.6 * x))


def decaying(epoch: int, x: float) -> float:
    """High rates come down only as the rate decays."""
    return (0.3 + 0.12 * x) * (1 - epoch / EPOCHS)


def final(x: float) -> float:
    return 4.0 + 0.1 * x**2


def losses(x: float, schedule: Schedule = constant, worse: float = 0.0) -> list[float]:
    return [final(x) + worse + schedule(epoch, x) for epoch in range(1, EPOCHS + 1)]


STUCK = [math.log(BASELINE) + 0.003 * (-1) ** epoch for epoch in range(EPOCHS)]


def trained(
    x: float,
    ended: list[float],
    *,
    number: int = 0,
    epochs: int = EPOCHS,
    state: TrialState = TrialState.COMPLETE,
    **attributes: object,
) -> FrozenTrial:
    """A run at an offset from the best rate, with its ln perplexities so far."""
    values = {epoch: math.exp(loss) for epoch, loss in enumerate(ended[:epochs], 1)}
    trial = create_trial(
        state=state,
        value=min(values.values()) if state == TrialState.COMPLETE else None,
        params={PARAMETER: BEST * math.exp(x)},
        distributions={PARAMETER: WIDE},
        intermediate_values=values,
        user_attrs=dict(attributes),
    )
    trial.number = number
    return trial


def study_of(*offsets: float, schedule: Schedule = constant) -> list[FrozenTrial]:
    return [trained(x, losses(x, schedule), number=n) for n, x in enumerate(offsets)]


def number_that_is(audited: bool, pruner: LearningRatePruner) -> int:
    """The first trial number from 100 on that is, or is not, audited."""
    running = create_trial(state=TrialState.RUNNING)
    for number in range(100, 300):
        running.number = number
        if pruner._is_audited(running) is audited:
            return number
    raise AssertionError("no such number")


PRUNER = LearningRatePruner(terms=TERMS)
SOUND, AUDITED = (number_that_is(audited, PRUNER) for audited in (False, True))


def said_at(
    trials: list[FrozenTrial],
    x: float,
    ended: list[float],
    pruner: LearningRatePruner = PRUNER,
    **attributes: object,
) -> dict[int, str]:
    """What is said after each epoch of a run that nobody leaves; only what is no "" is kept."""
    found = {}
    for epoch in range(1, EPOCHS + 1):
        running = trained(x, ended, number=SOUND, epochs=epoch, state=TrialState.RUNNING,
                          **attributes)  # fmt: skip
        reason = pruner.reason([*trials, running], running)
        if reason:
            found[epoch] = reason
    return found


@pytest.mark.parametrize("x", [-3.0, 0.4, 2.5, 3.5])
def test_a_run_at_the_unigrams_level_is_left_whatever_its_rate(x: float) -> None:
    """Also above the highest finished rate, where others have learned."""
    said = said_at(study_of(-0.5, 0.0), x, STUCK)
    assert min(said) == 1
    assert set(said) == set(range(1, EPOCHS))
    now, best = math.exp(STUCK[1]), math.exp(min(losses(x)[1] for x in (-0.5, 0.0)))
    assert said[2] == (
        f"perplexity {now:.4g} after step 2 is no better than a model without context (400), "
        f"where another rate had {best:.4g}"
    )


def test_one_that_is_stuck_goes_on_where_no_other_has_learned() -> None:
    also_stuck = trained(-1.0, STUCK, number=0)
    assert said_at([], 0.0, STUCK) == {}
    assert not any("no better" in said for said in said_at([also_stuck], 0.0, STUCK).values())


def test_one_that_still_has_time_to_learn_is_compared_at_its_own_epoch() -> None:
    """All are at the unigram's level for two epochs: no look before the third."""
    late = [math.log(BASELINE)] * 2 + losses(0.0)[2:]
    learned = said_at([trained(0.0, late)], 0.05, late)
    assert not any("no better than" in reason for reason in learned.values())
    assert min(said_at([trained(0.0, late)], 0.05, STUCK)) == 3


def test_where_nothing_is_known_of_the_unigram_none_is_stuck() -> None:
    pruner = LearningRatePruner(terms=Terms(1e-5, 1e-1, steps=EPOCHS))
    said = said_at(study_of(-0.5, 0.0), 0.3, STUCK, pruner)
    assert not any("no better than" in reason for reason in said.values())


@pytest.mark.parametrize("schedule", [constant, decaying])
def test_a_run_far_from_the_best_is_left_at_its_look_alone(schedule: Schedule) -> None:
    trials = study_of(-1.0, -0.4, 0.1, 0.6, 1.2, schedule=schedule)
    said = said_at(trials, -2.5, losses(-2.5, schedule))
    assert list(said) == [1]
    assert said[1].startswith("after step 1, perplexity ")
    assert said[1].endswith("promises more")
    rate = float(said[1].split("rate ")[1].split()[0])
    assert abs(math.log(rate / BEST)) < 0.5


@pytest.mark.parametrize("schedule", [constant, decaying])
@pytest.mark.parametrize("x", [0.0, 0.1])
def test_a_run_near_the_best_goes_on(schedule: Schedule, x: float) -> None:
    """With a constant rate 1.0 leads early, with a decaying one -1.0 does: neither misleads."""
    trials = study_of(-1.5, -0.8, 0.8, 1.4, schedule=schedule)
    assert said_at(trials, x, losses(x, schedule)) == {}


def test_a_run_that_went_on_after_its_look_is_left_only_where_it_is_stuck() -> None:
    trials = study_of(-1.0, -0.4, 0.1, 0.6, 1.2)
    assert said_at(trials, -2.5, losses(-2.5), **{LOOKED: 1}) == {}
    assert min(said_at(trials, 0.3, STUCK, **{LOOKED: 4})) == 5


def test_a_diverged_run_ends_at_once() -> None:
    running = trained(1.2, losses(1.2), number=AUDITED, epochs=3, state=TrialState.RUNNING)
    running.intermediate_values[4] = math.inf
    said = PRUNER.reason([*study_of(0.0), running], running)
    assert said == "perplexity is not finite after step 4"
    assert PRUNER.audit([running], running) == ""


def test_the_first_rate_of_a_study_is_not_left_before_anything_was_compared() -> None:
    assert said_at([], 0.0, losses(0.0)) == {}
    for x in (-3.0, 2.0):  # a user's own first rate, far from the rule's
        assert all("promises more" in reason for reason in said_at([], x, losses(x)).values())


def test_where_no_rate_is_believed_the_first_run_is_but_a_look() -> None:
    pruner = LearningRatePruner(terms=dataclasses.replace(TERMS, priors={}))
    said = said_at([], 0.0, losses(0.0), pruner)
    assert min(said) == 1
    assert said[1].startswith("a look up to step 1")


# --- the audit


def test_an_audited_run_goes_on_and_says_why_it_would_have_been_left() -> None:
    running = trained(0.3, STUCK, number=AUDITED, epochs=4, state=TrialState.RUNNING)
    trials = [*study_of(-0.5, 0.0), running]
    assert PRUNER.reason(trials, running) == ""
    said = PRUNER.audit(trials, running)
    assert said.startswith("audit, runs on to check the pruner: perplexity 398.8 after step 4 is")
    good = trained(0.1, losses(0.1), number=AUDITED, epochs=4, state=TrialState.RUNNING)
    assert PRUNER.audit([*study_of(-0.5, 0.0), good], good) == ""


def test_an_audited_run_is_left_for_a_look_at_others_as_that_is_no_claim_to_check() -> None:
    running = trained(1.0, losses(1.0), number=AUDITED, epochs=1, state=TrialState.RUNNING)
    trials = [*study_of(-2.0), running]
    assert PRUNER.reason(trials, running).startswith("a look up to step 1: others tell more")
    assert PRUNER.audit(trials, running) == ""


def test_that_it_has_learned_nothing_is_a_claim_also_where_others_are_to_be_looked_at() -> None:
    running = trained(1.0, STUCK, number=AUDITED, epochs=1, state=TrialState.RUNNING)
    trials = [*study_of(-2.0), running]
    assert PRUNER.reason(trials, running) == ""
    assert "no better than a model without context" in PRUNER.audit(trials, running)


def test_one_in_twenty_of_those_to_be_left_is_audited() -> None:
    trials = study_of(-0.5, 0.0)

    def spared(pruner: LearningRatePruner) -> set[int]:
        found = set()
        for number in range(1000, 1400):
            running = trained(0.3, STUCK, number=number, epochs=4, state=TrialState.RUNNING)
            both = [*trials, running]
            reason, audit = pruner.reason(both, running), pruner.audit(both, running)
            assert bool(reason) != bool(audit)
            if audit:
                found.add(number)
        return found

    one, again, other = (spared(LearningRatePruner(terms=TERMS, seed=seed)) for seed in (1, 1, 2))
    assert 8 <= len(one) <= 40
    assert one == again != other


# --- a whole search, run by run


class Runs:
    """Trains what is asked for; what is left stays paused, and goes on where its rate returns."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.trials: list[FrozenTrial] = []
        self.epochs, self.resumed, self.looks = 0, [], 0

    def train(self) -> None:
        """One ask, and the run until it is left or whole."""
        found = next_training(Table(self.trials), self.terms)
        rate, number = found.rate, found.number
        if number is None:
            number = len(self.trials)
            x = math.log(rate / BEST)
            self.trials.append(trained(x, [], number=number, epochs=0, state=TrialState.RUNNING))
        else:
            self.resumed.append(number)
        trial = self.trials[number]
        assert trial.params[PARAMETER] == pytest.approx(rate)
        trial.user_attrs[PAUSED] = ""
        course = losses(math.log(rate / BEST))
        pruner = LearningRatePruner(terms=self.terms)
        for epoch in range(len(trial.intermediate_values) + 1, EPOCHS + 1):
            trial.intermediate_values[epoch] = math.exp(course[epoch - 1])
            self.epochs += 1
            reason = pruner.reason(self.trials, trial)
            if reason:
                trial.user_attrs.update({PAUSED: reason, LOOKED: epoch})
                self.looks += 1
                return
        trial.state, trial.value = TrialState.COMPLETE, min(trial.intermediate_values.values())

    @property
    def best(self) -> float:
        whole = [each.value for each in self.trials if each.value is not None]
        return math.log(min(whole, default=math.inf))


@pytest.mark.parametrize("off", [-2.0, 0.0, 2.0])
@pytest.mark.parametrize("constant_rate", [True, False])
def test_a_search_with_looks_finds_the_best_rate(off: float, constant_rate: bool) -> None:
    rule = {"rule": Prior(BEST * math.exp(off))}
    runs = Runs(Terms(1e-5, 1e-1, rule, BASELINE, constant_rate, EPOCHS))
    for _ in range(14):
        runs.train()
    assert runs.best < 4.0 + 0.01
    first = runs.trials[0]
    assert first.state == TrialState.COMPLETE
    assert runs.epochs < 0.95 * 14 * EPOCHS
    scanned = sum("others tell more" in trial.user_attrs.get(PAUSED, "") for trial in runs.trials)
    assert scanned <= LOOKS
    assert all(len(trial.intermediate_values) <= EPOCHS for trial in runs.trials)


def test_a_paused_run_is_resumed_where_its_rate_is_asked_for_again() -> None:
    whole = study_of(-1.6, -0.6, 0.7, 1.4)
    paused = trained(
        0.05, losses(0.05), number=4, epochs=1, state=TrialState.RUNNING, paused="a look", looked=1
    )
    far = trained(
        -3.0, losses(-3.0), number=5, epochs=1, state=TrialState.RUNNING, paused="a look", looked=1
    )
    found = next_training(Table([*whole, paused, far]), TERMS)
    rate, number = found.rate, found.number
    assert number == 4
    assert rate == pytest.approx(BEST * math.exp(0.05))
    under_way = trained(0.05, losses(0.05), number=4, epochs=1, state=TrialState.RUNNING,
                        paused="", looked=1)  # fmt: skip
    assert next_training(Table([*whole, under_way, far]), TERMS).number is None


# --- in any Optuna study, and by name


def test_in_any_optuna_study_the_reason_is_stored_and_the_verdict_repeats(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"

    def opened() -> Study:
        return optuna.create_study(storage=url, study_name="one", load_if_exists=True,
                                   pruner=LearningRatePruner(terms=TERMS, seed=3))  # fmt: skip

    study = opened()
    study.add_trials(study_of(-0.5, 0.0))
    study.enqueue_trial({PARAMETER: 1.3e-3})
    trial = study.ask({PARAMETER: WIDE})
    for epoch, loss in enumerate(STUCK[:4], 1):
        trial.report(math.exp(loss), epoch)
    pruned = trial.should_prune()
    stored_as = "reason" if pruned else "audit"
    assert "is no better than a model without context" in study.trials[-1].user_attrs[stored_as]
    reopened = opened()
    assert reopened.pruner.prune(reopened, reopened.trials[-1]) is pruned


@pytest.mark.parametrize("asks_for_it", [True, False])
def test_without_terms_of_its_own_it_takes_the_samplers(asks_for_it: bool) -> None:
    """To a sampler that does not ask for the rate that promises more, no run is lost."""
    sampler = LearningRateSampler() if asks_for_it else optuna.samplers.RandomSampler(0)
    study = optuna.create_study(pruner=LearningRatePruner(), sampler=sampler)
    study.add_trials(study_of(-1.0, -0.4, 0.1, 0.6, 1.2))
    study.enqueue_trial({PARAMETER: BEST * math.exp(-4.0)})
    trial = study.ask({PARAMETER: WIDE})
    for epoch, loss in enumerate(losses(-4.0), 1):
        trial.report(math.exp(loss), epoch)
        if trial.should_prune():
            break
    said = str(study.trials[-1].user_attrs)
    assert ("promises more" in said or "others tell more" in said) == asks_for_it


def test_the_sweeps_pruners_by_name() -> None:
    named = make_pruner("learning-rate", floor=5, startup=3, terms=TERMS)
    assert isinstance(named, LearningRatePruner)
    with pytest.raises(StudyError, match="pruner floor must be at least 1, got 0"):
        make_pruner("learning-rate", floor=0, startup=3)
    with pytest.raises(StudyError, match=r"one of learning-rate, none, patient-median, percentile"):
        make_pruner("hyperband", floor=1, startup=1)
