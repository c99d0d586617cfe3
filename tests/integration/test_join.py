"""Two orchestrators on one study: refused, or side by side with --join."""

import contextlib
import signal

import pytest
from optuna.trial import FrozenTrial
from support import Workspace, gone, refusal, wait_for

# No model. An epoch of a trial waits while the file `hold` names the trial.
SLOW = """\
    import math, os, time
    from pathlib import Path
    from trainers.report import Ending, Report, Outcome, Progress

    def train(config, *, device, directory):
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "parents").open("a") as file:
            file.write(f"{os.getppid()} ")
        for epoch in range(1, config.epochs + 1):
            yield Progress(epoch)
            while epoch == 2 and directory.name in Path("hold").read_text().split():
                if (yield Progress(epoch)) == "pause":
                    return Ending(Outcome.PAUSED)
                time.sleep(0.2)
            perplexity = 60 - epoch + abs(math.log(config.learning_rate / 0.03))
            yield Report(epoch=epoch, validation_loss=math.log(perplexity))
        return Ending(Outcome.COMPLETED)
"""
RUN = ("run", "--trainer", "slow:train", "--study", "shared", "--json", "--trials", 8)


def hold(workspace: Workspace, *numbers: int) -> None:
    (workspace.path / "hold").write_text(" ".join(f"{number:04d}" for number in numbers))


def trials(workspace: Workspace) -> list[FrozenTrial]:
    return workspace.study().get_trials(deepcopy=False)


def runners(workspace: Workspace, number: int) -> list[int]:
    """The orchestrators that ran a trial, one after the other."""
    return [int(pid) for pid in (workspace.folder(number) / "parents").read_text().split()]


@pytest.fixture
def shared(workspace: Workspace) -> Workspace:
    workspace.write("slow.py", SLOW)
    hold(workspace, 0, 1)
    return workspace


@pytest.mark.more
def test_the_second_is_refused_or_joins_and_no_trial_is_repeated(shared: Workspace) -> None:
    with shared.start(*RUN) as first:
        first.until("trial_progressed", number=0, step=2)
        line = refusal(shared.invoke(*RUN, code=2))
        assert f"is being run by process {first.process.pid} on " in line
        assert "--join" in line
        other_total = refusal(shared.invoke(*RUN, "--trials", 9, "--join", code=2))
        assert "is run to 8 trials in all, not to 9: join it with --trials 8" in other_total

        with shared.start(*RUN, "--join") as second:
            second.until("trial_progressed", number=1, step=2)
            hold(shared)
            said = second.end(0)
            pids = {first.process.pid, second.process.pid}
        said_first = first.end(0)
    for done in (said, said_first):
        assert done.events[-1]["event"] == "study_finished"
    assert shared.states() == ["COMPLETE"] * 8
    ran = [runners(shared, number) for number in range(8)]
    assert all(len(each) == 1 for each in ran)
    assert {pid for each in ran for pid in each} == pids
    assert (ran[0], ran[1]) == ([first.process.pid], [second.process.pid])
    rates = [trial.params["learning_rate"] for trial in trials(shared)]
    assert len(set(rates)) == 8
    assert shared.sql("select pid from sweep_leases") == []


@pytest.mark.more
def test_several_that_begin_at_once_train_each_trial_once(shared: Workspace) -> None:
    hold(shared)
    with contextlib.ExitStack() as running:
        begun = [running.enter_context(shared.start(*RUN, "--join")) for _ in range(3)]
        for live in begun:
            live.end(0)
    assert shared.states() == ["COMPLETE"] * 8
    assert all(len(runners(shared, number)) == 1 for number in range(8))


@pytest.mark.more
def test_one_that_slept_stops_where_another_has_taken_its_trial_over(shared: Workspace) -> None:
    with shared.start(*RUN) as first:
        first.until("trial_progressed", number=0, step=2)
        first.signal(signal.SIGSTOP, group=True)
        with shared.start(*RUN) as second:
            warning = second.until("warning")["text"]
            assert f"waiting for process {first.process.pid} on " in warning
            second.until("trial_progressed", number=0, step=2)
            first.signal(signal.SIGCONT, group=True)
            said = first.end(2)
            assert "another one took it over" in said.err
            hold(shared)
            second.end(0)
    assert shared.states() == ["COMPLETE"] * 8
    assert runners(shared, 0) == [first.process.pid, second.process.pid]


@pytest.mark.more
def test_a_killed_ones_trial_is_taken_over_and_goes_on(shared: Workspace) -> None:
    with shared.start(*RUN) as first:
        first.until("trial_progressed", number=0, step=2)
        with shared.start(*RUN, "--join") as second:
            second.until("trial_progressed", number=1, step=2)
            first.signal(signal.SIGKILL)
            first.end(-signal.SIGKILL)
            hold(shared)
            second.end(0)
    assert shared.states() == ["COMPLETE"] * 8
    assert runners(shared, 0) == [first.process.pid, second.process.pid]
    assert list(shared.curves()[0]) == [1, 2, 3]
    assert gone(first.process.pid)


@pytest.mark.more
def test_one_that_has_nothing_left_to_start_waits_for_the_other(shared: Workspace) -> None:
    with shared.start(*RUN[:-1], 2) as first:
        first.until("trial_progressed", number=0, step=2)
        with shared.start(*RUN[:-1], 2, "--join") as second:
            second.until("trial_progressed", number=1, step=2)
            hold(shared, 0)
            second.until("note", text="nothing left to start: 1 trials still run elsewhere")
            assert second.process.poll() is None
            first.signal(signal.SIGINT)
            first.end(3)
            wait_for(lambda: len(runners(shared, 0)) == 2)  # paused there, so taken over here
            hold(shared)
            second.end(0)
    assert shared.states()[:2] == ["COMPLETE", "COMPLETE"]
