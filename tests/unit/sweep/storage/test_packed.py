"""A finished trial that is kept small says what Optuna's own says."""

import copy
import math
import pickle
import tracemalloc
import zlib
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from support import open_ledger, report

from sweep.storage import packed
from sweep.storage.connect import open_storage
from sweep.storage.packed import PackedTrial
from trainers.report import Outcome

RATES = FloatDistribution(1e-7, 10.0, log=True)
NAMES = CategoricalDistribution(["adam", None])


def trial_of(rate: float) -> FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE,
        value=33.0,
        params={"learning_rate": rate, "optimizer": None},
        distributions={"learning_rate": RATES, "optimizer": NAMES},
        user_attrs={"multiples": {"sqrt": rate, "linear": 1.0}, "reason": "trained to its end"},
        system_attrs={"fixed": [1, "two", None, True]},
        intermediate_values={**{step: 30.0 + rate + step for step in range(1, 21)}, 21: math.inf},
    )


def pickled(trial: FrozenTrial) -> FrozenTrial:
    again: FrozenTrial = pickle.loads(pickle.dumps(trial))
    return again


def test_it_equals_what_was_packed_in_all_its_fields() -> None:
    plain, small = trial_of(0.1), PackedTrial(trial_of(0.1))
    plain.datetime_start, plain.datetime_complete = small.datetime_start, small.datetime_complete
    assert small == plain
    assert plain == small
    for name in (
        *("number", "state", "value", "values", "params", "distributions", "user_attrs"),
        *("system_attrs", "intermediate_values", "last_step", "duration", "datetime_complete"),
    ):
        assert getattr(small, name) == getattr(plain, name), name


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_its_copy_equals_it(again) -> None:
    small = PackedTrial(trial_of(0.1))
    assert again(small) == small


def test_trials_read_in_turns_are_not_mixed_up() -> None:
    one, other = PackedTrial(trial_of(0.1)), PackedTrial(trial_of(0.2))
    assert one != other
    for _ in range(2):
        assert [trial.params["learning_rate"] for trial in (one, other)] == [0.1, 0.2]
        assert [trial.intermediate_values[1] for trial in (one, other)] == [31.1, 31.2]
    assert one.distributions is other.distributions


def test_what_was_packed_before_there_was_a_pattern_stays_what_it_is(monkeypatch) -> None:
    monkeypatch.setattr("sweep.storage.packed._pattern", b"")
    pruned = trial_of(0.1)
    pruned.state = TrialState.PRUNED
    small = [PackedTrial(trial) for trial in (pruned, trial_of(0.2), pruned)]
    assert [trial.state for trial in small if trial._pattern] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
    ]
    assert [trial.params["learning_rate"] for trial in small] == [0.1, 0.2, 0.1]
    assert small[0] == small[2] == pruned


def test_a_pattern_that_another_thread_finds_meanwhile_changes_nothing(monkeypatch) -> None:
    monkeypatch.setattr("sweep.storage.packed._pattern", b"")

    class Meanwhile:
        def __getattr__(self, name: str) -> object:
            if not packed._pattern:
                PackedTrial(trial_of(0.2))
            return getattr(zlib, name)

    monkeypatch.setattr("sweep.storage.packed.zlib", Meanwhile())
    pruned = trial_of(0.1)
    pruned.state = TrialState.PRUNED
    assert PackedTrial(pruned) == pruned


def test_it_has_no_more_fields_than_a_trial() -> None:
    assert one_error(PackedTrial(trial_of(0.1))) == "a trial has no perplexity"
    assert PackedTrial(trial_of(0.1)) != "a trial"


def one_error(trial: PackedTrial) -> str:
    with pytest.raises(AttributeError) as raised:
        trial.perplexity  # noqa: B018
    return str(raised.value)


def test_it_takes_a_fraction_of_the_memory() -> None:
    def bytes_of(kind) -> int:
        tracemalloc.start()
        trials = [kind(trial_of(0.1 + number / 1e4)) for number in range(200)]
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return taken // len(trials)

    bytes_of(PackedTrial)
    assert bytes_of(PackedTrial) < 0.25 * bytes_of(lambda trial: trial)


def test_a_ledger_s_finished_trials_are_packed_and_what_the_database_says(tmp_path: Path) -> None:
    with open_ledger(tmp_path, trials=9) as ledger:
        for perplexities, outcome in (((50.0, 40.0), Outcome.COMPLETED), ((70.0,), None)):
            number = ledger.ask().number
            for epoch, perplexity in enumerate(perplexities, 1):
                ledger.report({number: report(epoch, perplexity)})
            if outcome is not None:
                ledger.tell(number, outcome, "how it ended")
        found = ledger.study.get_trials(deepcopy=False)
        plain = RDBStorage(f"sqlite:///{tmp_path / 'sweep.db'}")
        assert found == plain.get_all_trials(ledger.study._study_id)
    assert [isinstance(trial, PackedTrial) for trial in found] == [True, False, False]


def test_others_who_read_a_database_get_optuna_s_own_trials(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "sweep.db"), create=True)
    study = optuna.create_study(storage=storage)
    study.add_trial(trial_of(0.1))
    assert type(study.trials[0]) is FrozenTrial
