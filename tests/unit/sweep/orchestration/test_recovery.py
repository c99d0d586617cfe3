"""Who is stopped, who is tried again, and who is to blame: with a clock of the test's own."""

from dataclasses import replace
from pathlib import Path

import pytest

from sweep.execution.protocol import Ended, Progressed, TrialSpec
from sweep.orchestration.recovery import Recovery
from trainers.config import TrainConfig
from trainers.report import Outcome, Progress

CONFIG = TrainConfig(learning_rate=1e-3, batch_size=64)
LOST = "lost: its worker process died (killed by SIGKILL)"


class Fleet:
    """What a recovery needs of an executor: workers with trials, which it may kill."""

    def __init__(self, *workers: set[int]) -> None:
        self.workers = workers
        self.killed: list[int] = []

    def sharing_worker(self, number: int) -> frozenset[int]:
        return frozenset(next((worker for worker in self.workers if number in worker), set()))

    def kill(self, number: int) -> None:
        self.killed.append(number)


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def trial(number: int, attempt: int = 1) -> TrialSpec:
    return TrialSpec(number, CONFIG, Path(f"{number:04d}"), attempt)


def started(fleet: Fleet, *, retries: int = 2, **limits: float) -> tuple[Recovery, Time]:
    time = Time()
    recovery = Recovery(fleet, retries=retries, clock=time, **limits)  # type: ignore[arg-type]
    for number in sorted(set().union(*fleet.workers)):
        recovery.began(trial(number))
    return recovery, time


def test_silence_is_a_hang_and_a_sign_of_life_is_none() -> None:
    fleet = Fleet({1}, {2})
    recovery, time = started(fleet, hang_s=60)
    time.now = 59
    recovery.saw_life([1])
    recovery.stop_overdue()
    assert fleet.killed == []
    time.now = 60
    recovery.stop_overdue()
    recovery.stop_overdue()
    assert fleet.killed == [2]
    message, again = recovery.ended(trial(2), Ended(2, Outcome.LOST, LOST))
    assert message == "hung: no sign of life for 60 s, so its worker was stopped"
    assert again == trial(2, attempt=2)


def test_who_shares_a_worker_lives_as_long_as_one_of_them_speaks() -> None:
    fleet = Fleet({1, 2})
    recovery, time = started(fleet, hang_s=60)
    for time.now in (50, 100, 150):
        recovery.saw_life([1])
        recovery.stop_overdue()
    assert fleet.killed == []


def test_signs_of_life_do_not_make_a_trial_longer() -> None:
    fleet = Fleet({1})
    recovery, time = started(fleet, hang_s=60, trial_s=90)
    for time.now in (50, 89):
        recovery.saw_life([1])
        recovery.stop_overdue()
    assert fleet.killed == []
    time.now = 90
    recovery.stop_overdue()
    assert fleet.killed == [1]
    message, again = recovery.ended(trial(1), Ended(1, Outcome.LOST, LOST))
    assert message == "over its time: 90 s for a trial, so its worker was stopped"
    assert again is not None
    recovery.began(again)
    time.now = 179
    recovery.saw_life([1])
    recovery.stop_overdue()
    assert fleet.killed == [1]  # each attempt has its own time


def test_the_time_in_a_queue_is_no_time_of_the_trial() -> None:
    fleet = Fleet({1})
    recovery, time = started(fleet, trial_s=90)
    for time.now in (50, 500):
        recovery.progressed(Progressed(1, Progress(), queued=True))
        recovery.stop_overdue()
    for time.now in (550, 589):
        recovery.progressed(Progressed(1, Progress(step=3)))
        recovery.stop_overdue()
    assert fleet.killed == []
    time.now = 590
    recovery.stop_overdue()
    assert fleet.killed == [1]


def test_without_limits_nothing_is_ever_stopped() -> None:
    fleet = Fleet({1})
    recovery, time = started(fleet)
    time.now = 1e9
    recovery.stop_overdue()
    assert fleet.killed == []


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.OUT_OF_MEMORY])
def test_after_its_retries_an_end_is_final(outcome: Outcome) -> None:
    recovery, _ = started(Fleet({1}), retries=2)
    attempts, again = [], trial(1)
    while again is not None:
        attempts.append(again.attempt)
        recovery.began(again)
        message, again = recovery.ended(again, Ended(1, outcome, LOST))  # type: ignore[assignment]
    assert attempts == [1, 2, 3]
    assert message == LOST


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.DIVERGED, Outcome.COMPLETED])
def test_other_ends_are_final_at_once(outcome: Outcome) -> None:
    recovery, _ = started(Fleet({1}))
    assert recovery.ended(trial(1), Ended(1, outcome, "it is so")) == ("it is so", None)


def test_who_only_went_down_with_a_stopped_one_has_lost_no_attempt() -> None:
    fleet = Fleet({1, 2})
    recovery, time = started(fleet, trial_s=60)
    time.now = 30
    recovery.began(trial(2))
    time.now = 60
    recovery.stop_overdue()
    assert fleet.killed == [1]
    assert recovery.ended(trial(1), Ended(1, Outcome.LOST, LOST))[1] == trial(1, attempt=2)
    assert recovery.ended(trial(2), Ended(2, Outcome.LOST, LOST)) == (LOST, trial(2))


def test_whose_worker_is_gone_before_their_ends_are_heard_went_down_together_all_the_same() -> None:
    fleet = Fleet({1, 2})
    recovery, _ = started(fleet, retries=1)
    fleet.workers = ({3},)  # a fresh one was started meanwhile
    recovery.began(trial(3))
    _, again = recovery.ended(trial(1), Ended(1, Outcome.LOST, LOST))
    assert again == replace(trial(1, attempt=2), only_trial=True)


def test_of_those_that_went_down_together_each_has_its_last_attempt_alone() -> None:
    fleet = Fleet({1, 2})
    recovery, _ = started(fleet, retries=2)
    specs = [trial(1), trial(2)]
    for attempt, alone in ((2, False), (3, True)):
        ended = [recovery.ended(spec, Ended(spec.number, Outcome.LOST, LOST)) for spec in specs]
        specs = [spec for _, spec in ended if spec is not None]
        assert [(spec.attempt, spec.only_trial) for spec in specs] == [(attempt, alone)] * 2
        for spec in specs:
            recovery.began(spec)


def test_a_trial_with_a_worker_of_its_own_never_needs_to_be_alone() -> None:
    recovery, _ = started(Fleet({1}, {2}), retries=1)
    assert recovery.ended(trial(1), Ended(1, Outcome.LOST, LOST))[1] == trial(1, attempt=2)


def test_out_of_memory_goes_on_with_fewer_rows_and_without_company() -> None:
    recovery, _ = started(Fleet({1, 2}))
    _, again = recovery.ended(trial(1), Ended(1, Outcome.OUT_OF_MEMORY, "ran out of memory"))
    fewer = replace(CONFIG, micro_batch=16)
    assert again == replace(trial(1), config=fewer, attempt=2, only_trial=True)
    recovery.began(again)
    _, again = recovery.ended(again, Ended(1, Outcome.OUT_OF_MEMORY, "ran out of memory"))
    assert again is not None
    assert again.config.micro_batch == 4


@pytest.mark.parametrize("outcome", [Outcome.OUT_OF_MEMORY, Outcome.KILLED])
def test_what_is_divided_is_what_was_in_use(outcome: Outcome) -> None:
    recovery, _ = started(Fleet({1}))
    # Of 64: it had planned for little memory.
    recovery.progressed(Progressed(1, Progress(1, 0, 9, rows=8)))
    _, again = recovery.ended(trial(1), Ended(1, outcome, "ran out of memory"))
    assert again is not None
    assert again.config.micro_batch == 2


def test_an_earlier_runs_setbacks_count() -> None:
    recovery, _ = started(Fleet({1}), retries=2)
    assert not recovery.taken_up(trial(1, attempt=2)).only_trial
    assert recovery.taken_up(trial(1, attempt=3)).only_trial
