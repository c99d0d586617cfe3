"""What is read and written in bulk is what Optuna reads and writes one by one."""

import math
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial
from support import open_ledger, report

from studies.definition import PARAMETER
from studies.objective import Objective
from sweep.errors import SweepError
from sweep.results.rows import rows_of, trial_row
from sweep.results.types import TrialRow
from sweep.storage.connect import open_storage
from sweep.workflows.add import add
from trainers.report import Outcome


def comparable(rows: list[TrialRow]) -> list[str]:
    return [repr(row) for row in rows]  # NaN, which a trial without a rate has, equals itself here


def test_every_kind_of_trial_gives_the_same_row(tmp_path: Path) -> None:
    endings = [
        ((50.0, 40.0), Outcome.COMPLETED),
        ((70.0, 60.0), Outcome.PRUNED),
        ((55.0, math.inf), Outcome.DIVERGED),
        ((80.0,), Outcome.FAILED),
        ((45.0,), None),
        ((), None),
    ]
    with open_ledger(tmp_path, trials=20) as ledger:
        for perplexities, outcome in endings:
            number = ledger.ask().number
            for epoch, perplexity in enumerate(perplexities, 1):
                ledger.report({number: report(epoch, perplexity)})
            if outcome is not None:
                ledger.tell(number, outcome, "how it ended")
        study = ledger.study
        ledger._lease.release()
        add(study, 1e-3, 30.0, "by hand")
        study.enqueue_trial({PARAMETER: 2e-3})
        wide = FloatDistribution(1e-7, 10.0, log=True)
        odd = create_trial(
            state=TrialState.COMPLETE,
            params={PARAMETER: 0.1},
            distributions={PARAMETER: wide},
            value=33.0,
        )
        study.add_trial(odd)
        other = optuna.create_study(study_name="other", storage=study._storage)
        other.add_trial(odd)
        expected = [trial_row(trial, Objective()) for trial in study.get_trials(deepcopy=False)]
        found = rows_of(study)
        plain = RDBStorage(f"sqlite:///{tmp_path / 'sweep.db'}")
        for each in (study, other):
            assert read_again(each) == plain.get_all_trials(each._study_id)
    states = ["complete", "pruned", "pruned", "failed", "running", "running"]
    assert [row.state for row in found] == [*states, "complete", "waiting", "complete"]
    assert comparable(found) == comparable(expected)


def read_again(study: Study) -> list[FrozenTrial]:
    """All trials, as one reads them who opens the database."""
    return open_storage(str(study._storage._backend.url), create=False).get_all_trials(  # type: ignore[attr-defined]
        study._study_id
    )


def test_all_that_optuna_can_store_is_read_in_bulk(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "sweep.db"), create=True)
    study = optuna.create_study(storage=storage, directions=["minimize", "maximize"])
    trial = study.ask()
    trial.suggest_int("layers", 1, 8, log=True)
    trial.suggest_categorical("optimizer", ["adam", "adamw", None])
    trial.suggest_float("dropout", 0.0, 0.5, step=0.1)
    trial.set_user_attr("words", {"nested": [1, None]})
    study._storage.set_trial_system_attr(trial._trial_id, "of optuna", "x")
    study.tell(trial, [-math.inf, 2.0])
    running = study.ask()
    for step, value in enumerate((math.inf, -math.inf, 1.5)):
        study._storage.set_trial_intermediate_value(running._trial_id, step, value)
    plain = RDBStorage(f"sqlite:///{tmp_path / 'sweep.db'}").get_all_trials(study._study_id)
    assert storage.get_all_trials(study._study_id) == plain == study.trials
    with pytest.raises(SweepError, match="was deleted from the database by another program"):
        storage.get_all_trials(study._study_id + 1)


def test_more_trials_are_read_again_than_an_expression_may_be_deep(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "sweep.db"), create=True)
    study = optuna.create_study(storage=storage)
    first, second, third = (study.ask()._trial_id for _ in range(3))
    wanted = {first, *range(third + 1, third + 2000)}
    found = storage._get_trials(study._study_id, None, wanted, second)
    assert [trial._trial_id for trial in found] == [first, third]
    assert [t._trial_id for t in storage._get_trials(study._study_id, None, set(), second)] == [
        third
    ]


def test_attributes_of_a_trial_are_written_all_or_none(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "sweep.db"), create=True)
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    storage.set_trial_user_attrs(trial._trial_id, {"a": 1, "b": 2})
    with pytest.raises(TypeError):
        storage.set_trial_user_attrs(trial._trial_id, {"a": 3, "b": object()})
    assert study.trials[0].user_attrs == {"a": 1, "b": 2}
    study.tell(trial, 1.0)
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_user_attrs(trial._trial_id, {"a": 3})


def test_it_sees_what_another_program_has_written(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        assert rows_of(ledger.study) == []
        name, storage = ledger.study.study_name, f"sqlite:///{tmp_path / 'sweep.db'}"
        optuna.load_study(study_name=name, storage=storage).enqueue_trial({PARAMETER: 2e-3})
        assert [row.learning_rate for row in rows_of(ledger.study)] == [2e-3]
