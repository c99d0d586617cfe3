import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from studies.definition import PARAMETER, WIDE
from studies.errors import StudyError
from studies.patient import StudyPruner
from studies.pruner import make_pruner

EPOCHS = 12
Curve = Callable[[int], float]


@pytest.fixture(autouse=True)
def _quiet_optuna() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(verbosity)


def falling(end: float, start: float = 1000.0, tau: float = 1.5) -> Curve:
    """A healthy trial: perplexity after an epoch, falling from `start` to `end`."""
    return lambda epoch: end + (start - end) * math.exp(-epoch / tau)


def stored(
    curve: Curve, epochs: int = EPOCHS, state: TrialState = TrialState.COMPLETE
) -> FrozenTrial:
    values = {epoch: curve(epoch) for epoch in range(1, epochs + 1)}
    return create_trial(
        state=state,
        value=min(values.values()) if state == TrialState.COMPLETE else None,
        params={PARAMETER: 1e-3},
        distributions={PARAMETER: WIDE},
        intermediate_values=values,
    )


def study_of(*trials: FrozenTrial) -> Study:
    study = optuna.create_study()
    study.add_trials(trials)
    return study


def three_good() -> Study:
    return study_of(*(stored(falling(end)) for end in (20.0, 22.0, 25.0)))


def median(floor: int = 3, startup: int = 3) -> StudyPruner:
    return make_pruner("patient-median", floor=floor, startup=startup)


def pruned_at(study: Study, curve: Curve, pruner: optuna.pruners.BasePruner) -> int | None:
    """Trains a trial and answers the epoch after which it was pruned, None where it never was."""
    study.pruner = pruner
    trial = study.ask({PARAMETER: WIDE})
    for epoch in range(1, EPOCHS + 1):
        trial.report(curve(epoch), epoch)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return epoch
    study.tell(trial, curve(EPOCHS))
    return None


def test_optunas_own_patient_median_never_prunes_a_trial_that_still_improves() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        theirs = optuna.pruners.PatientPruner(
            optuna.pruners.MedianPruner(n_startup_trials=3), patience=2
        )
    assert pruned_at(three_good(), falling(500.0), theirs) is None
    assert pruned_at(three_good(), falling(500.0), median()) == 3


@pytest.mark.parametrize(("floor", "epoch"), [(1, 2), (2, 2), (3, 3), (6, 6), (20, None)])
def test_a_hopeless_trial_ends_at_the_floor_and_not_before(floor: int, epoch: int | None) -> None:
    assert pruned_at(three_good(), falling(500.0), median(floor)) == epoch


def test_the_best_and_the_better_half_are_never_pruned() -> None:
    assert pruned_at(three_good(), falling(19.0), median()) is None
    assert pruned_at(three_good(), falling(21.9), median()) is None


def test_one_bad_epoch_is_forgiven_and_two_in_a_row_are_not() -> None:
    good = falling(20.0)
    study = study_of(*(stored(lambda epoch: 100.0) for _ in range(3)))
    assert pruned_at(study, lambda epoch: 150.0 if epoch <= 3 else good(epoch), median(4)) is None
    assert pruned_at(study, lambda epoch: 150.0 if epoch <= 4 else good(epoch), median(4)) == 4


def test_nothing_is_pruned_before_enough_trials_are_complete() -> None:
    study = study_of(stored(falling(20.0)), stored(falling(22.0)))
    study.add_trial(stored(falling(50.0), 4, TrialState.PRUNED))
    assert pruned_at(study, falling(500.0), median()) is None
    # That one ran to its end: it is the third.
    assert pruned_at(study, falling(600.0), median()) == 3


def test_no_startup_still_needs_one_complete_trial() -> None:
    assert pruned_at(study_of(), falling(500.0), median(startup=0)) is None


def test_bad_first_trials_lower_no_bar() -> None:
    study = study_of(*(stored(falling(end)) for end in (400.0, 500.0, 600.0)))
    assert pruned_at(study, falling(450.0), median()) is None
    assert pruned_at(study, falling(20.0), median()) is None
    assert pruned_at(study, falling(550.0), median()) == 3


def test_pruned_trials_count_at_the_epochs_they_reached() -> None:
    study = three_good()
    study.add_trials(stored(falling(500.0), 4, TrialState.PRUNED) for _ in range(4))
    late = falling(30.0)
    # Behind the complete ones only: safe while the pruned ones still count, not after.
    assert pruned_at(study, late, median()) == 6


def test_diverged_trials_count_neither_as_good_nor_as_infinite() -> None:
    study = three_good()
    for _ in range(5):
        diverging = stored(lambda epoch: 10.0 if epoch < 3 else math.inf, 3, TrialState.PRUNED)
        study.add_trial(diverging)
    assert pruned_at(study, falling(21.9), median()) is None
    assert pruned_at(study, falling(500.0), median()) == 3


def test_a_diverged_trial_ends_at_once() -> None:
    study = three_good()
    assert pruned_at(study, lambda epoch: math.inf, median(floor=10)) == 1
    assert (
        median().reason(study.trials, study.trials[-1]) == "perplexity is not finite after step 1"
    )


def test_an_early_stopped_trial_counts_with_its_best_to_the_end() -> None:
    study = study_of(*(stored(falling(20.0), epochs=4) for _ in range(3)))
    slow = falling(100.0, start=150.0, tau=0.5)
    # Ahead at epoch 3, when they were at 153; from 4 on behind the 88 that they ended with.
    assert pruned_at(study, slow, median()) == 5


def test_the_lowest_at_its_epoch_is_safe_from_those_that_were_better_before() -> None:
    overfit = stored(lambda epoch: 30.0 + 10.0 * abs(epoch - 2))
    study = study_of(overfit, overfit, overfit)
    assert pruned_at(study, lambda epoch: 120.0 - 10.0 * epoch, median(floor=8)) is None


def test_the_percentile_ends_only_the_worst_quarter() -> None:
    study = study_of(*(stored(falling(end)) for end in (20.0, 30.0, 40.0, 50.0, 60.0)))
    lenient = make_pruner("percentile", floor=3, startup=3)
    assert pruned_at(study, falling(45.0), lenient) is None
    assert pruned_at(study, falling(70.0), lenient) == 3
    assert "the 75th percentile of 6 trials, for 2 reports" in lenient.reason(
        study.trials, study.trials[-1]
    )


def test_none_never_prunes() -> None:
    never = make_pruner("none", floor=1, startup=0)
    study = three_good()
    assert pruned_at(study, falling(500.0), never) is None
    assert never.reason(study.trials, study.trials[-1]) == ""


def test_the_reason_in_words() -> None:
    study = study_of(
        *(stored(lambda epoch, end=end: end) for end in (70.0, 70.5, 71.0, 80.0, 90.0))
    )
    pruner = median(floor=4)
    assert pruned_at(study, lambda epoch: 93.1, pruner) == 4
    assert pruner.reason(study.trials, study.trials[-1]) == (
        "perplexity 93.10 after step 4 is above 71.00, the median of 5 trials, for 2 reports"
    )
    good = stored(falling(20.0), 6, TrialState.RUNNING)
    assert pruner.reason(study.trials, good) == ""


def test_the_verdict_is_the_same_in_a_reopened_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    storage = optuna.storages.RDBStorage(url)
    study = optuna.create_study(storage=storage, study_name="one")
    study.add_trials(three_good().trials)
    study.add_trial(stored(lambda epoch: math.inf, 1, TrialState.PRUNED))
    assert pruned_at(study, falling(500.0), median()) == 3
    first = median().reason(study.trials, study.trials[-1])
    storage.engine.dispose()
    reopened = optuna.load_study(study_name="one", storage=url)
    assert median().reason(reopened.trials, reopened.trials[-1]) == first != ""
    assert not median().prune(reopened, reopened.trials[0])


def test_bad_names_and_numbers_are_refused() -> None:
    with pytest.raises(StudyError, match=r"got 'median'; did you mean 'patient-median'\?"):
        make_pruner("median", floor=1, startup=1)
    with pytest.raises(StudyError, match="pruner floor must be at least 1, got 0"):
        make_pruner("percentile", floor=0, startup=1)
    with pytest.raises(StudyError, match="pruner startup must be at least 0, got -1"):
        make_pruner("percentile", floor=1, startup=-1)
    with pytest.raises(StudyError, match="patience must be at least 1"):
        make_pruner("percentile", floor=1, startup=1, patience=0)
