import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from studies import PARAMETER, WIDE, LearningRatePruner, StudyError, make_pruner
from studies.student import student_t_cdf

EPOCHS = 12
Schedule = Callable[[int, float], float]


def constant(epoch: int, x: float) -> float:
    """ln perplexity above the final one: high rates are nearly there early, low ones are late."""
    return 0.8 * math.exp(-epoch / (3.0 - 0.6 * x)) - 0.8 * math.exp(-EPOCHS / (3.0 - 0.6 * x))


def decaying(epoch: int, x: float) -> float:
    """High rates come down only as the rate decays."""
    return (0.3 + 0.12 * x) * (1 - epoch / EPOCHS)


def final(x: float) -> float:
    return 4.0 + 0.03 * x**2


def stored(
    x: float,
    schedule: Schedule,
    *,
    number: int = 0,
    epochs: int = EPOCHS,
    state: TrialState = TrialState.COMPLETE,
    worse: float = 0.0,
) -> FrozenTrial:
    values = {
        epoch: math.exp(final(x) + worse + schedule(epoch, x)) for epoch in range(1, epochs + 1)
    }
    trial = create_trial(
        state=state,
        value=min(values.values()) if state == TrialState.COMPLETE else None,
        params={PARAMETER: 1e-3 * math.exp(x)},
        distributions={PARAMETER: WIDE},
        intermediate_values=values,
    )
    trial.number = number
    return trial


def study_of(schedule: Schedule, *offsets: float) -> Study:
    study = optuna.create_study()
    study.add_trials([stored(x, schedule) for x in offsets])
    return study


def pruned_at(
    study: Study,
    x: float,
    schedule: Schedule,
    pruner: LearningRatePruner,
    worse: float = 0.0,
) -> int | None:
    """The epoch after which a trial at offset x is pruned, None where it runs to its end."""
    for epoch in range(1, EPOCHS + 1):
        running = stored(
            x,
            schedule,
            number=sound_number(pruner),
            epochs=epoch,
            state=TrialState.RUNNING,
            worse=worse,
        )
        if pruner.reason(study.trials, running):
            return epoch
    return None


def sound_number(pruner: LearningRatePruner, *, audited: bool = False) -> int:
    """The first trial number from 100 on that is, or is not, audited."""
    running = create_trial(state=TrialState.RUNNING)
    for number in range(100, 200):
        running.number = number
        if pruner._is_audited(running) is audited:
            return number
    raise AssertionError("no such number")


@pytest.mark.parametrize("schedule", [constant, decaying])
def test_a_trial_far_from_the_best_is_pruned_with_every_schedule(schedule: Schedule) -> None:
    study = study_of(schedule, -1.5, -0.6, 0.0, 0.7, 1.5)
    at = pruned_at(study, -3.0, schedule, LearningRatePruner(), worse=0.6)
    assert at is not None
    assert 3 <= at < EPOCHS


@pytest.mark.parametrize("schedule", [constant, decaying])
@pytest.mark.parametrize("x", [-0.35, 0.0, 0.3])
def test_a_trial_near_the_best_runs_to_its_end(schedule: Schedule, x: float) -> None:
    """With a constant rate 1.5 leads early, with a decaying one -1.5 does: neither misleads."""
    study = study_of(schedule, -1.5, -0.6, 0.7, 1.5)
    assert pruned_at(study, x, schedule, LearningRatePruner()) is None


def test_the_rung_alone_would_mislead() -> None:
    """The best rate stands last of all at epoch 4 of a decaying schedule, and is kept."""
    study = optuna.create_study()
    study.add_trials([stored(x, steep) for x in (-2.0, -1.2, 1.0)])
    running = stored(0.5, steep, number=101, epochs=4, state=TrialState.RUNNING)
    behind = [
        trial.intermediate_values[4] < running.intermediate_values[4] for trial in study.trials
    ]
    assert sum(behind) >= 2
    assert not LearningRatePruner().reason(study.trials, running)


def steep(epoch: int, x: float) -> float:
    return (0.4 + 0.2 * x) * (1 - epoch / EPOCHS)


@pytest.mark.parametrize(("floor", "earliest"), [(None, 3), (7, 7), (1, 2)])
def test_no_trial_ends_before_its_floor(floor: int | None, earliest: int) -> None:
    study = study_of(constant, -1.0, -0.5, 0.0, 0.5, 1.0)
    at = pruned_at(study, 0.0, constant, LearningRatePruner(floor=floor), worse=2.0)
    assert at == earliest


def test_three_complete_trials_are_needed() -> None:
    two = study_of(constant, -0.5, 0.5)
    assert pruned_at(two, 0.0, constant, LearningRatePruner(startup=0), worse=2.0) is None
    three = study_of(constant, -0.5, 0.0, 0.5)
    assert pruned_at(three, 0.0, constant, LearningRatePruner(startup=0), worse=2.0) is not None
    assert pruned_at(three, 0.0, constant, LearningRatePruner(startup=4), worse=2.0) is None


def test_above_the_highest_finished_rate_only_divergence_ends_a_trial() -> None:
    study = study_of(constant, -1.0, 0.0, 1.0)
    study.add_trial(stored(2.0, constant, epochs=2, state=TrialState.PRUNED))
    assert pruned_at(study, 1.2, constant, LearningRatePruner(), worse=2.0) is None
    running = stored(1.2, constant, number=100, epochs=3, state=TrialState.RUNNING)
    running.intermediate_values[4] = math.inf
    said = LearningRatePruner().reason(study.trials, running)
    assert said == "perplexity is not finite after epoch 4"


def test_the_best_third_of_a_rung_is_never_pruned() -> None:
    """One trial is far ahead of all: the second of six goes on all the same, the last does not."""
    study = study_of(decaying, -0.4, -0.2, 0.2, 0.4)
    study.add_trial(stored(0.0, decaying, worse=-1.0))
    pruner = LearningRatePruner()

    def said(worse: float) -> str:
        number = sound_number(pruner)
        running = stored(
            0.0, decaying, number=number, epochs=11, state=TrialState.RUNNING, worse=worse
        )
        return pruner.reason(study.trials, running)

    assert said(worse=-0.01) == ""
    assert "within 0.5 % of the best" in said(worse=0.5)


def test_one_in_ten_of_those_to_be_pruned_is_audited() -> None:
    pruner, other = LearningRatePruner(seed=1), LearningRatePruner(seed=2)
    study = study_of(constant, -1.0, -0.5, 0.0, 0.5, 1.0)

    def spared(by: LearningRatePruner) -> set[int]:
        found = set()
        for number in range(300):
            running = stored(0.0, constant, number=1000 + number, epochs=6,
                             state=TrialState.RUNNING, worse=2.0)  # fmt: skip
            reason, audit = by.reason(study.trials, running), by.audit(study.trials, running)
            assert bool(reason) != bool(audit)
            if audit:
                assert audit.startswith("audit, runs on to check the pruner: perplexity ")
                found.add(number)
        return found

    assert 15 <= len(spared(pruner)) <= 50
    assert spared(pruner) == spared(LearningRatePruner(seed=1)) != spared(other)


def test_a_sound_audited_trial_has_nothing_to_say() -> None:
    pruner = LearningRatePruner()
    study = study_of(constant, -1.0, 0.0, 1.0)
    number = sound_number(pruner, audited=True)
    good = stored(0.1, constant, number=number, epochs=6, state=TrialState.RUNNING)
    assert pruner.audit(study.trials, good) == ""


def test_the_reason_in_words() -> None:
    pruner = LearningRatePruner()
    study = study_of(constant, -1.0, 0.0, 1.0)
    running = stored(0.0, constant, number=sound_number(pruner), epochs=4,
                     state=TrialState.RUNNING, worse=2.0)  # fmt: skip
    said = pruner.reason(study.trials, running)
    now, end = math.exp(6.0 + constant(4, 0.0)), math.exp(6.0)
    assert said.startswith(f"perplexity {now:.2f} after epoch 4 should end near 4")
    assert (
        f"by 3 finished trials; within 0.5 % of the best, {math.exp(4.0):.2f}, with a chance"
        in said
    )
    predicted = float(said.split("end near ")[1].split(",")[0])
    assert predicted == pytest.approx(end, rel=0.05)


def test_in_any_optuna_study_the_reason_is_stored_and_the_verdict_repeats(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    pruner = LearningRatePruner(seed=3)
    study = optuna.create_study(storage=url, study_name="one", pruner=pruner)
    study.add_trials([stored(x, constant) for x in (-1.0, -0.5, 0.0, 0.5, 1.0)])
    study.enqueue_trial({PARAMETER: 1e-3})
    trial = study.ask({PARAMETER: WIDE})
    for epoch in range(1, 7):
        trial.report(math.exp(6.0 + constant(epoch, 0.0)), epoch)
    pruned = trial.should_prune()
    stored_as = "reason" if pruned else "audit"
    assert "by 5 finished trials" in study.trials[-1].user_attrs[stored_as]
    reopened = optuna.load_study(study_name="one", storage=url, pruner=LearningRatePruner(seed=3))
    assert reopened.pruner.prune(reopened, reopened.trials[-1]) is pruned


def test_the_sweeps_pruners_by_name() -> None:
    assert isinstance(make_pruner("learning-rate", floor=5, startup=3), LearningRatePruner)
    with pytest.raises(StudyError, match="pruner floor must be at least 1, got 0"):
        make_pruner("learning-rate", floor=0, startup=3)
    with pytest.raises(StudyError, match=r"one of learning-rate, none, patient-median, percentile"):
        make_pruner("hyperband", floor=1, startup=1)


@pytest.mark.parametrize(
    ("dof", "t", "probability"),
    [
        # Quantiles as tabulated, e.g. NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2.
        (1, 6.313752, 0.95),
        (2, 2.919986, 0.95),
        (3, 4.540703, 0.99),
        (4, -3.746947, 0.01),
        (5, 2.570582, 0.975),
        (7, -4.785290, 0.001),
        (30, 2.457262, 0.99),
        (8, 0.0, 0.5),
    ],
)
def test_students_t_distribution(dof: int, t: float, probability: float) -> None:
    assert student_t_cdf(t, dof) == pytest.approx(probability, rel=1e-5)
    assert student_t_cdf(t, dof) + student_t_cdf(-t, dof) == pytest.approx(1.0)
