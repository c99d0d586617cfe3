"""A ledger's cache answers as Optuna's own does."""

from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.study import Study
from optuna.trial import TrialState
from support import open_ledger

from sweep.storage.cache import TrialCache
from sweep.storage.connect import open_storage

STATES = [
    None,
    (),
    (TrialState.WAITING,),
    (TrialState.RUNNING,),
    (TrialState.COMPLETE,),
    (TrialState.RUNNING, TrialState.WAITING),
    (TrialState.WAITING, TrialState.PRUNED),
    tuple(TrialState),
]


@pytest.fixture
def studies(tmp_path: Path) -> tuple[Study, Study]:
    """One study by our cache and by Optuna's."""
    url = str(tmp_path / "sweep.db")
    mine = optuna.create_study(study_name="one", storage=TrialCache(open_storage(url, create=True)))
    return mine, optuna.load_study(study_name="one", storage=f"sqlite:///{url}")


def check(mine: Study, other: Study) -> None:
    for states in STATES:
        expected = other.get_trials(deepcopy=False, states=states)
        assert mine.get_trials(deepcopy=False, states=states) == expected, states


def test_it_gives_the_same_trials_whoever_made_and_ended_them(studies: tuple[Study, Study]) -> None:
    mine, other = studies
    check(mine, other)
    made = []
    for turn in range(4):  # another program's trials come in between, and are read later
        theirs, own = other.ask(), mine.ask()
        made += [own, theirs]
        mine.enqueue_trial({"x": turn})
        if turn % 2:
            check(mine, other)
    mine.tell(made[0], 1.0)
    other.tell(made[1], state=TrialState.PRUNED)
    check(mine, other)
    other.tell(made[4], state=TrialState.FAIL)
    mine.tell(made[7], 2.0)
    check(mine, other)
    numbers = [trial.number for trial in mine.trials]
    assert numbers == list(range(len(numbers)))


def test_a_copy_of_a_trial_is_nobody_else_s(studies: tuple[Study, Study]) -> None:
    mine, _ = studies
    trial = mine.ask()
    mine.get_trials(deepcopy=True)[0].user_attrs["word"] = 1
    assert mine.get_trials(deepcopy=False)[0].user_attrs == {}
    mine.tell(trial, 1.0)


def test_a_ledger_reads_through_it(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        assert isinstance(ledger.study._storage, TrialCache)


def test_no_question_goes_through_all_trials_in_the_database(studies: tuple[Study, Study]) -> None:
    mine, _ = studies
    for _ in range(3):
        mine.tell(mine.ask(), 1.0)
    mine.ask()  # it is read anew each time, until it ends
    mine.get_trials(deepcopy=False)
    asked = []
    engine = mine._storage._backend.engine
    listener = (
        "before_cursor_execute",
        lambda _c, _k, text, values, *_: asked.append((text, values)),
    )
    sa.event.listen(engine, *listener)
    mine.get_trials(deepcopy=False)
    sa.event.remove(engine, *listener)
    assert any("FROM trials" in text for text, _ in asked)
    with engine.connect() as connection:
        for text, values in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()
            assert not any("SCAN" in step[-1] for step in plan), (text, plan)
