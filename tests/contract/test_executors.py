"""What every executor keeps, whatever runs its trials. A new file there is tested by this one."""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from textwrap import dedent
from unittest import mock

import pytest
from support import WAIT_S, gone, wait_for

from sweep.execution.executors import EXECUTORS, make_executor
from sweep.execution.protocol import (
    Ended,
    Event,
    Executor,
    Progressed,
    Reported,
    Resources,
    TrialSpec,
)
from trainers.config import TrainConfig
from trainers.report import Outcome, Verdict

# Generators without a model: an executor knows no more of a trainer than what it says.
TRAINERS = """\
    import math, os, time
    from trainers.report import Ending, Report, Outcome, Progress

    def reports(epoch):
        return Report(epoch=epoch, validation_loss=math.log(60 - epoch))

    def three_epochs(config, *, device, directory):
        for epoch in (1, 2, 3):
            verdict = yield reports(epoch)
            if verdict == "prune":
                return Ending(Outcome.PRUNED)
            if verdict == "pause":
                return Ending(Outcome.PAUSED)
        return Ending(Outcome.COMPLETED)

    def until_paused(config, *, device, directory):
        for step in range(1000):
            if (yield Progress(step, 1000)) == "pause":
                return Ending(Outcome.PAUSED)
            time.sleep(0.01)

    def epochs_with_progress(config, *, device, directory):
        for epoch in (1, 2):
            said = yield Progress(epoch)
            assert said is None, said
            assert (yield reports(epoch)) == "continue"

    def many_epochs(config, *, device, directory):
        for epoch in range(1, 50):
            yield Progress(epoch)
            yield reports(epoch)

    def tells_its_arguments(config, *, device, directory):
        rate = config.learning_rate
        return Ending(Outcome.COMPLETED, f"{rate} {device} {directory.name} {os.getpid()}")
        yield

    def raises(config, *, device, directory):
        yield reports(1)
        raise ValueError("the first line\\nthe second line")

    def raises_at_once(config, *, device, directory):
        raise ZeroDivisionError
        yield

    def out_of_memory(config, *, device, directory):
        yield reports(1)
        raise MemoryError("8 GiB")

    def device_gone(config, *, device, directory):
        yield reports(1)
        raise RuntimeError("No CUDA GPUs are available")

    def says_nonsense(config, *, device, directory):
        yield "epoch 1"

    def prints(config, *, device, directory):
        print("loud", flush=True)
        yield reports(1)

    def dies(config, *, device, directory):
        yield reports(1)
        os.kill(os.getpid(), 9)

    def leaves(config, *, device, directory):
        yield reports(1)
        os._exit(7)

    def says_where_it_is(config, *, device, directory):
        import torch
        words = f"{os.getpid()} {device} {torch.get_num_threads()} threads"
        (directory / "where").write_text(words)
        while not (directory / "go").exists():
            yield Progress(1)
            time.sleep(0.01)
        yield reports(1)

    def hangs_beside_another(config, *, device, directory):
        training = starts_another(config, device=device, directory=directory)
        yield next(training)
        time.sleep(1000)

    def starts_another(config, *, device, directory):
        import subprocess
        child = subprocess.Popen(["sleep", "1000"])
        (directory / "child").write_text(str(child.pid))
        yield from until_paused(config, device=device, directory=directory)
"""
MODULE = "contract_trainers"
RESOURCES = {"slurm": Resources(address="local")}  # the jobs are processes of this machine
NUMBERS = count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder that holds the trainers."""
    path = tmp_path_factory.mktemp("executors")
    (path / f"{MODULE}.py").write_text(dedent(TRAINERS))
    with contextlib.chdir(path):
        yield path


# A Ray cluster takes long to start, and so does each job; not everybody has Ray.
NAMES = [
    pytest.param(name, marks=pytest.mark.more) if name in ("ray", "slurm") else name
    for name in sorted(EXECUTORS.built_in)
]


@pytest.fixture(scope="module", params=NAMES)
def executor(request: pytest.FixtureRequest, folder: Path) -> Iterator[Executor]:
    """One of each kind, alive through all the tests as through all the trials of a study."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
    with make_executor(request.param, RESOURCES.get(request.param)) as made:
        yield made


@pytest.fixture(scope="module")
def local(folder: Path) -> Iterator[Executor]:
    with make_executor("local") as made:
        yield made


@pytest.fixture
def cohort(folder: Path) -> Iterator[Executor]:
    """A worker with room for three trials."""
    with make_executor("local", Resources(cohort=3)) as made:
        yield made


@pytest.fixture(scope="module")
def pool(folder: Path) -> Iterator[Executor]:
    devices = ("cuda:1", "cuda:0")  # never touched: the trainers here only say their own
    with mock.patch("torch.get_num_threads", return_value=7):
        made = make_executor("local", Resources(devices, cohort=2))
    with made:
        yield made


def spec(trainer: str) -> TrialSpec:
    number = next(NUMBERS)
    directory = Path.cwd() / f"{number:04d}"
    config = TrainConfig(learning_rate=1e-3)
    path = trainer if ":" in trainer else f"{MODULE}:{trainer}"
    return TrialSpec(number, config, directory, trainer=path)


def some(executor: Executor) -> list[Event]:
    """The next events, however long the executor takes."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if events := executor.events(1.0):
            return events
    raise AssertionError("no event came")


def run(executor: Executor, trial: TrialSpec, *verdicts: Verdict) -> tuple[list[Event], Ended]:
    """Submits a trial, answers its reports one by one (then CONTINUE), and waits for its end."""
    answers = iter(verdicts)
    executor.submit(trial)
    events: list[Event] = []
    while not (events and isinstance(events[-1], Ended)):
        for event in some(executor):
            events.append(event)
            if isinstance(event, Reported):
                executor.reply(event.number, next(answers, Verdict.CONTINUE))
    assert {event.number for event in events} == {trial.number}
    *before, last = events
    assert not any(isinstance(event, Ended) for event in before)
    assert isinstance(last, Ended)
    return before, last


class TestATrial:
    def test_it_reports_every_epoch_and_ends_once(self, executor: Executor) -> None:
        events, ended = run(executor, spec("three_epochs"))
        assert [event.report.epoch for event in events if isinstance(event, Reported)] == [1, 2, 3]
        assert ended.outcome is Outcome.COMPLETED
        assert ended.message == Outcome.COMPLETED.sentence

    def test_nothing_comes_after_its_end(self, executor: Executor) -> None:
        _, ended = run(executor, spec("three_epochs"))
        executor.reply(ended.number, Verdict.CONTINUE)
        assert executor.events(0.2) == []

    def test_it_gets_its_configuration_device_and_folder(self, executor: Executor) -> None:
        trial = spec("tells_its_arguments")
        _, ended = run(executor, trial)
        assert ended.message.split()[:3] == ["0.001", "cpu", trial.directory.name]

    def test_it_may_be_the_shared_trainer_or_any_other_name(self, executor: Executor) -> None:
        _, ended = run(executor, spec("no_such_module:train"))
        assert ended.outcome is Outcome.FAILED
        assert "there is no module no_such_module" in ended.message

    def test_a_report_waits_for_its_verdict(self, executor: Executor) -> None:
        trial = spec("three_epochs")
        executor.submit(trial)
        (first,) = some(executor)
        assert executor.events(0.2) == []
        executor.reply(first.number, Verdict.PRUNE)
        (ended,) = some(executor)
        assert isinstance(ended, Ended)
        assert ended.outcome is Outcome.PRUNED

    def test_progress_waits_for_none(self, executor: Executor) -> None:
        events, ended = run(executor, spec("epochs_with_progress"))
        kinds = [type(event) for event in events]
        assert kinds == [Progressed, Reported, Progressed, Reported]
        assert ended.outcome is Outcome.COMPLETED

    def test_a_verdict_for_another_trial_changes_nothing(self, executor: Executor) -> None:
        trial = spec("three_epochs")
        executor.submit(trial)
        some(executor)
        executor.reply(trial.number + 1000, Verdict.PRUNE)
        executor.reply(trial.number, Verdict.CONTINUE)
        (second,) = some(executor)
        assert isinstance(second, Reported)
        executor.reply(trial.number, Verdict.PRUNE)
        assert isinstance(some(executor)[-1], Ended)


class TestAPause:
    def test_it_takes_effect_at_the_next_sign_of_life(self, executor: Executor) -> None:
        trial = spec("until_paused")
        executor.submit(trial)
        some(executor)
        executor.reply(trial.number, Verdict.PAUSE)
        assert self.end(executor).outcome is Outcome.PAUSED

    def test_it_may_be_asked_before_the_first_one(self, executor: Executor) -> None:
        trial = spec("until_paused")
        executor.submit(trial)
        executor.reply(trial.number, Verdict.PAUSE)
        assert self.end(executor).outcome is Outcome.PAUSED

    def test_a_report_may_be_answered_with_it(self, executor: Executor) -> None:
        events, ended = run(executor, spec("three_epochs"), Verdict.CONTINUE, Verdict.PAUSE)
        assert len(events) == 2
        assert ended.outcome is Outcome.PAUSED

    def end(self, executor: Executor) -> Ended:
        while True:
            last = some(executor)[-1]
            if isinstance(last, Ended):
                return last


class TestAKill:
    def test_it_loses_the_trial_and_the_next_one_is_sound(self, executor: Executor) -> None:
        trial = spec("until_paused")
        executor.submit(trial)
        some(executor)
        assert executor.sharing_worker(trial.number) == {trial.number}
        executor.kill(trial.number)
        while not isinstance(last := some(executor)[-1], Ended):
            pass
        assert (last.number, last.outcome) == (trial.number, Outcome.LOST)
        assert executor.sharing_worker(trial.number) == frozenset()
        _, ended = run(executor, spec("three_epochs"))
        assert ended.outcome is Outcome.COMPLETED

    def test_of_an_unknown_trial_it_changes_nothing(self, executor: Executor) -> None:
        trial = spec("three_epochs")
        executor.submit(trial)
        executor.kill(trial.number + 1000)
        assert executor.sharing_worker(trial.number + 1000) == frozenset()
        (first,) = some(executor)
        executor.reply(first.number, Verdict.PRUNE)
        assert isinstance(some(executor)[-1], Ended)


class TestAFailure:
    @pytest.mark.parametrize(
        ("trainer", "outcome", "message"),
        [
            ("raises", Outcome.FAILED, "failed: ValueError: the first line"),
            ("raises_at_once", Outcome.FAILED, "failed: ZeroDivisionError: ZeroDivisionError"),
            ("out_of_memory", Outcome.OUT_OF_MEMORY, "ran out of memory: 8 GiB"),
            (
                "says_nonsense",
                Outcome.FAILED,
                "failed: TypeError: a trainer yields Progress and Report, not 'epoch 1'",
            ),
        ],
    )
    def test_what_a_trainer_raises_becomes_an_outcome_and_one_line(
        self, executor: Executor, trainer: str, outcome: Outcome, message: str
    ) -> None:
        _, ended = run(executor, spec(trainer))
        assert (ended.outcome, ended.message) == (outcome, message)

    def test_the_next_trial_is_sound(self, executor: Executor) -> None:
        run(executor, spec("raises"))
        _, ended = run(executor, spec("three_epochs"))
        assert ended.outcome is Outcome.COMPLETED


class TestADeath:
    """However a worker ends, each of its trials ends in exactly one `Ended`."""

    def ends(self, executor: Executor, *trials: TrialSpec) -> list[Ended]:
        """All ends until none is owed, and whatever comes after them."""
        ended: list[Ended] = []
        while len(ended) < len(trials):
            self.hear(executor, some(executor), ended)
        for _ in range(3):
            self.hear(executor, executor.events(0.1), ended)
        assert sorted(each.number for each in ended) == [trial.number for trial in trials]
        return ended

    def hear(self, executor: Executor, events: list[Event], ended: list[Ended]) -> None:
        for event in events:
            if isinstance(event, Ended):
                ended.append(event)
            elif isinstance(event, Reported):
                executor.reply(event.number, Verdict.CONTINUE)

    def test_between_trials_it_costs_none(self, executor: Executor) -> None:
        _, before = run(executor, spec("tells_its_arguments"))
        end_process(before)
        _, ended = run(executor, spec("three_epochs"))
        assert ended.outcome is Outcome.COMPLETED

    @pytest.mark.parametrize("events", range(4), ids="after {} events".format)
    def test_while_a_trial_runs_it_is_lost_once(self, executor: Executor, events: int) -> None:
        trial = spec("many_epochs")
        executor.submit(trial)
        for _ in range(events):
            self.hear(executor, some(executor), [])
        executor.kill(trial.number)
        (ended,) = self.ends(executor, trial)
        assert ended.outcome is Outcome.LOST
        _, ended = run(executor, spec("three_epochs"))
        assert ended.outcome is Outcome.COMPLETED

    @pytest.mark.parametrize("heard", [False, True])
    @pytest.mark.parametrize("reported", [False, True])
    def test_noticed_first_when_another_trial_comes_it_forgets_none(
        self, cohort: Executor, reported: bool, heard: bool
    ) -> None:
        first, second = spec("dies" if reported else "until_paused"), spec("until_paused")
        for trial in (first, second):
            cohort.submit(trial)
        process = cohort._process  # type: ignore[attr-defined]
        while heard and first.number not in {each.number for each in some(cohort)}:
            pass  # the other one's may come first
        if reported and heard:
            cohort.reply(first.number, Verdict.CONTINUE)
            cohort.events(0)
        else:
            cohort.kill(first.number)
        process.join()
        third = spec("three_epochs")
        cohort.submit(third)
        assert cohort.sharing_worker(third.number) == {third.number}
        with pytest.raises(RuntimeError):
            cohort.submit(spec("three_epochs"))
        outcomes = {each.number: each.outcome for each in self.ends(cohort, first, second, third)}
        lost = Outcome.LOST
        assert outcomes == {
            first.number: lost, second.number: lost, third.number: Outcome.COMPLETED
        }  # fmt: skip

    def test_whose_device_is_gone_is_lost_and_the_next_one_has_a_fresh_process(
        self, cohort: Executor
    ) -> None:
        before = cohort._process  # type: ignore[attr-defined]
        _, ended = run(cohort, spec("device_gone"))
        assert ended.outcome is Outcome.LOST
        assert ended.message == "lost: its device is gone: No CUDA GPUs are available"
        run(cohort, spec("three_epochs"))
        assert cohort._process is not before  # type: ignore[attr-defined]

    def test_a_worker_that_cannot_start_is_a_lost_trial(self, cohort: Executor) -> None:
        trial = spec("three_epochs")
        refused = OSError(errno.EAGAIN, "Resource temporarily unavailable")
        with mock.patch("multiprocessing.context.SpawnProcess.start", side_effect=refused):
            cohort.submit(trial)
        (ended,) = self.ends(cohort, trial)
        said = "lost: no worker process could be started: Resource temporarily unavailable"
        assert ended == Ended(trial.number, Outcome.LOST, said)
        _, ended = run(cohort, spec("three_epochs"))
        assert ended.outcome is Outcome.COMPLETED


def end_process(ended: Ended) -> None:
    """Kills the process that a trial told of, where it is not this one."""
    process = int(ended.message.split()[3])
    if process != os.getpid():
        with contextlib.suppress(ProcessLookupError):  # Ray ends it with its trial
            os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # Ray's are no children of this one
            os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        assert gone(process)


class TestCapacity:
    def test_it_is_at_least_one_and_no_trial_more_is_taken(self, executor: Executor) -> None:
        assert executor.capacity >= 1
        trials = [spec("three_epochs") for _ in range(executor.capacity)]
        for trial in trials:
            executor.submit(trial)
        with pytest.raises(RuntimeError):
            executor.submit(spec("three_epochs"))
        ended = 0
        while ended < len(trials):
            for event in some(executor):
                ended += isinstance(event, Ended)
                executor.reply(event.number, Verdict.CONTINUE)

    def test_an_idle_executor_has_no_events(self, executor: Executor) -> None:
        assert executor.events(0.1) == []


@pytest.mark.parametrize("name", NAMES)
def test_leaving_it_ends_a_trial_that_still_runs(
    name: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    if name == "ray":
        request.getfixturevalue("cluster")
    trial = spec("until_paused")
    with make_executor(name, RESOURCES.get(name)) as executor:
        executor.submit(trial)
        some(executor)
    assert executor.events(0.1) == []


class TestPool:
    """Several workers as one executor."""

    def next(self, pool: Executor, trial: TrialSpec) -> Event:
        """The next that a trial says but for its progress; the others' words are dropped."""
        while True:
            for event in some(pool):
                if event.number == trial.number and not isinstance(event, Progressed):
                    return event

    def start(self, pool: Executor, count: int) -> list[TrialSpec]:
        """Trials that have begun, and wait for the file `go`."""
        trials = [spec("says_where_it_is") for _ in range(count)]
        for trial in trials:
            pool.submit(trial)
        wait_for(lambda: bool(pool.events(0.1)) and all(map(where, trials)))
        return trials

    def finish(self, pool: Executor, trial: TrialSpec) -> Event:
        (trial.directory / "go").touch()
        assert isinstance(self.next(pool, trial), Reported)
        pool.reply(trial.number, Verdict.CONTINUE)
        return self.next(pool, trial)

    def test_each_worker_has_its_device_and_trials_go_where_most_room_is(
        self, pool: Executor
    ) -> None:
        assert pool.capacity == 4
        trials = self.start(pool, 4)
        with pytest.raises(RuntimeError):
            pool.submit(spec("three_epochs"))
        first, second, third, fourth = map(where, trials)
        assert first == third != second == fourth
        assert [first.split()[1], second.split()[1]] == ["cuda:1", "cuda:0"]
        assert all(words.endswith("3 threads") for words in map(where, trials))
        for trial in trials:
            ended = self.finish(pool, trial)
            assert ended == Ended(trial.number, Outcome.COMPLETED, Outcome.COMPLETED.sentence)

    def test_a_kill_takes_those_of_its_worker_and_no_others(self, pool: Executor) -> None:
        first, second, third, fourth = self.start(pool, 4)
        assert pool.sharing_worker(first.number) == {first.number, third.number}
        pool.kill(first.number)
        ended = self.next(pool, first)
        assert isinstance(ended, Ended)
        assert ended.outcome is Outcome.LOST
        assert pool.sharing_worker(third.number) == frozenset()
        for trial in (second, fourth):
            assert isinstance(self.finish(pool, trial), Ended)

    def test_a_dead_worker_takes_only_its_own_trials(self, pool: Executor) -> None:
        bad, good = self.start(pool, 2)
        before = where(good)
        os.kill(int(where(bad).split()[0]), signal.SIGKILL)
        message = "lost: its worker process died (killed by SIGKILL)"
        assert self.next(pool, bad) == Ended(bad.number, Outcome.LOST, message)
        pool.submit(replace(bad, attempt=2, trainer=f"{MODULE}:three_epochs"))
        assert isinstance(self.next(pool, bad), Reported)
        pool.reply(bad.number, Verdict.PRUNE)
        assert isinstance(self.next(pool, bad), Ended)
        assert isinstance(self.finish(pool, good), Ended)
        assert where(good) == before


def where(trial: TrialSpec) -> str:
    """What a trial wrote down: its process, device and threads; "" before it did."""
    file = trial.directory / "where"
    return file.read_text() if file.exists() else ""


class TestLocal:
    """What only a worker process can do."""

    def pid(self, local: Executor) -> int:
        return int(run(local, spec("tells_its_arguments"))[1].message.split()[3])

    def test_one_worker_serves_many_trials_and_is_not_this_process(self, local: Executor) -> None:
        first = self.pid(local)
        assert first != os.getpid()
        assert self.pid(local) == first

    def test_it_leads_a_session_of_its_own_and_ignores_ctrl_c(self, local: Executor) -> None:
        worker = self.pid(local)
        assert os.getsid(worker) == worker != os.getsid(0)
        os.kill(worker, signal.SIGINT)
        assert self.pid(local) == worker

    def test_what_a_trainer_prints_goes_to_the_trials_log(
        self, local: Executor, capfd: pytest.CaptureFixture[str]
    ) -> None:
        trial = spec("prints")
        run(local, trial)
        assert (trial.directory / "output.log").read_text() == "loud\n"
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("trainer", "how"), [("dies", "killed by SIGKILL"), ("leaves", "exit code 7")]
    )
    def test_a_dead_worker_is_a_lost_trial_and_the_next_one_gets_a_fresh_worker(
        self, local: Executor, trainer: str, how: str
    ) -> None:
        before = self.pid(local)
        events, ended = run(local, spec(trainer))
        assert len(events) == 1  # what it had said is not lost with it
        assert ended.outcome is Outcome.LOST
        assert ended.message == f"lost: its worker process died ({how})"
        assert self.pid(local) != before

    def test_a_kill_ends_all_that_a_worker_started_also_where_it_hangs(
        self, local: Executor
    ) -> None:
        trial = spec("hangs_beside_another")
        local.submit(trial)
        some(local)
        child = int((trial.directory / "child").read_text())
        local.kill(trial.number)
        ended = some(local)[-1]
        assert isinstance(ended, Ended)
        assert ended.outcome is Outcome.LOST
        assert gone(child)

    def test_leaving_it_ends_the_worker_and_all_that_it_started(self, local: Executor) -> None:
        trial = spec("starts_another")
        worker = self.pid(local)
        local.submit(trial)
        some(local)
        child = int((trial.directory / "child").read_text())
        local.__exit__(None, None, None)
        assert gone(worker)
        assert gone(child)
