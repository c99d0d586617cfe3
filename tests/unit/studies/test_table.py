import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from studies import table
from studies.definition import PARAMETER, WIDE
from studies.table import Table
from studies.trials import ln_rate


def trial(rate: float, values: dict[int, float], state: TrialState) -> FrozenTrial:
    return create_trial(
        state=state,
        value=min(values.values()) if state.is_finished() else None,
        params={PARAMETER: rate},
        distributions={PARAMETER: WIDE},
        intermediate_values=values,
    )


def complete(rate: float, last: float = 20.0) -> FrozenTrial:
    return trial(rate, {1: 30.0, 2: 22.0, 3: last}, TrialState.COMPLETE)


def test_a_finished_trial_is_read_once_and_a_running_one_each_time() -> None:
    read: list[float] = []

    def rate(trial: FrozenTrial) -> float:
        read.append(trial.params.get(PARAMETER, 0.0))  # other tests' trials have none
        return read[-1]

    first, second = complete(0.1), complete(0.2)
    running = trial(0.3, {1: 30.0}, TrialState.RUNNING)
    assert list(Table([first, running]).column(rate)) == [0.1, 0.3]
    read.clear()
    assert list(Table([running, second, first]).column(rate)) == [0.3, 0.2, 0.1]
    assert sorted(read) == [0.2, 0.3]


class Slow(FrozenTrial):
    """A running trial at whose state another thread gets the time that it asks for."""

    def __init__(self, then: Callable[[], object]) -> None:
        vars(self).update(vars(trial(0.9, {1: 30.0}, TrialState.RUNNING)))
        self.then = then

    @property
    def state(self) -> TrialState:
        self.then()
        return TrialState.RUNNING

    @state.setter
    def state(self, state: TrialState) -> None: ...


def test_a_table_made_meanwhile_by_another_thread_changes_nothing() -> None:
    mine, others = ([complete(rate + more) for rate in (0.1, 0.2, 0.3)] for more in (0.0, 1.0))
    made: list[Table] = []
    thread = threading.Thread(target=lambda: made.append(Table(others)))

    def meanwhile() -> None:
        if thread.ident is None:
            thread.start()
            thread.join(0.5)  # it may have to wait for us

    Table(mine)
    read = Table([*mine, Slow(meanwhile)])
    thread.join()
    assert np.exp(read.column(ln_rate)) == pytest.approx([0.1, 0.2, 0.3, 0.9])
    assert np.exp(made[0].column(ln_rate)) == pytest.approx([1.1, 1.2, 1.3])


@pytest.fixture
def _busy_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_busy_threads")
def test_threads_do_not_read_each_other_s_rows() -> None:
    def read_as_it_grows(first: float) -> None:
        rates = first + 1e-4 * np.arange(200)
        trials = [complete(rate) for rate in rates]
        for count in range(1, len(trials)):
            read = np.exp(Table(trials[:count]).column(ln_rate))
            assert read == pytest.approx(rates[:count])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(read_as_it_grows, first) for first in (0.1, 0.2, 0.3, 0.4)]:
            done.result()


def test_what_is_kept_of_other_studies_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "SPARE", 2)
    old = [complete(rate) for rate in (0.1, 0.2, 0.3, 0.4, 0.5)]
    before = Table(old)
    Table([complete(0.6)]).column(ln_rate)
    assert len(table._finished) == 1
    assert np.exp(before.column(ln_rate)) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_a_table_without_a_trial_or_with_another_in_its_place_reads_what_is_there() -> None:
    def rates(read: Table) -> list[float]:
        return np.exp(read.column(ln_rate)).round(6).tolist()

    trials = [complete(rate) for rate in (0.1, 0.2, 0.3)]
    for number, each in enumerate(trials):
        each.number = number
    read = Table(trials)
    running = trial(0.4, {1: 30.0}, TrialState.RUNNING)
    assert rates(read.without(1)) == [0.1, 0.3]
    assert rates(Table(trials[1:]).without(1)) == [0.3]
    assert rates(read.without(7)) == rates(read) == [0.1, 0.2, 0.3]
    changed = read.replaced({2: running})
    assert rates(changed) == [0.1, 0.2, 0.4]
    running.params = {PARAMETER: 0.5}
    assert rates(changed) == [0.1, 0.2, 0.5]
    assert [*changed.without(0)] == [trials[1], running]
    assert Table.of(changed) is changed
