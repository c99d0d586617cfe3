"""Trials as jobs: against stand-ins for Slurm's commands, and by submitit's local executor."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from slurm_standin import Slurm
from support import Workspace, gone, refusal, wait_for

from sweep.execution.executors import _job, make_executor
from sweep.execution.protocol import Ended, Event, Executor, Progressed, Reported, Resources
from sweep.execution.protocol import TrialSpec as Spec
from trainers.config import ProgramConfig, TrainConfig
from trainers.report import Outcome, Progress, Report, Verdict

pytest.importorskip("submitit")

JOB = {"time": 10, "nodes": 2, "memory": 1.5, "partition": "gpu", "account": ""}
RESOURCES = Resources(
    ("cuda:0,1",), gpus=2, cpus=1, jobs=2, job={**JOB, "extra": {"qos": "long", "hold": True}}
)

# Each goes on where its file says, as from a checkpoint.
TRAINERS = """\
    import os, time
    from trainers.report import Ending, Report, Outcome, Progress

    def steps(config, *, device, directory):
        (directory / "pids").open("a").write(f"{os.getpid()}\\n")
        file = directory / "step"
        begun = int(file.read_text()) if file.exists() else 0
        if begun:
            yield Report(step=begun, validation_loss=4.0)
        for step in range(begun + 1, 5):
            if step == 3:
                while not (directory / "go").exists():
                    if (yield Progress(step, 4)) == "pause":
                        return Ending(Outcome.PAUSED)
                    time.sleep(0.02)
            file.write_text(str(step))
            if (yield Report(step=step, validation_loss=4.0)) == "pause":
                return Ending(Outcome.PAUSED)
        return Ending(Outcome.COMPLETED, f"on {device}")
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    cluster = Slurm(tmp_path / "cluster", monkeypatch)
    yield cluster
    cluster.end()


@pytest.fixture
def executor(slurm: Slurm, tmp_path: Path) -> Iterator[Executor]:
    (tmp_path / "jobs.py").write_text(dedent(TRAINERS))
    with contextlib.chdir(tmp_path), make_executor("slurm", RESOURCES) as made:
        yield made


def spec(
    number: int = 0, *, config: TrainConfig | None = None, trainer: str = "jobs:steps"
) -> Spec:
    train = config or TrainConfig(learning_rate=1e-3)
    return Spec(number, train, Path.cwd() / f"{number:04d}", trainer=trainer)


def hear(executor: Executor, until: type[Event], *, step: int = 0) -> list[Event]:
    """All events up to one of a kind, of at least this step; reports are answered."""
    events: list[Event] = []
    while True:
        for event in executor.events(1.0):
            events.append(event)
            if isinstance(event, Reported):
                executor.reply(event.number, Verdict.CONTINUE)
            at = 0 if isinstance(event, Ended | Reported) else event.progress.step
            if isinstance(event, until) and at >= step:
                return events


def started(executor: Executor, slurm: Slurm, number: int = 0) -> str:
    """A trial that has reported twice and waits for its file `go`; its job."""
    executor.submit(spec(number))
    hear(executor, Progressed, step=3)
    return slurm.jobs[-1]


def end_of(executor: Executor) -> Ended:
    last = hear(executor, Ended)[-1]
    assert isinstance(last, Ended)
    return last


def pids() -> list[int]:
    return [int(line) for line in Path("0000", "pids").read_text().split()]


@pytest.mark.more
class TestAJob:
    def test_it_asks_for_what_the_settings_say_and_trains(
        self, executor: Executor, slurm: Slurm
    ) -> None:
        job = started(executor, slurm)
        script = slurm.script(job)
        for option in (
            "job-name=sweep-0", "time=10", "nodes=2", "gpus-per-node=2", "cpus-per-task=1",
            "mem=1536M", "partition=gpu", "qos=long", "hold", "requeue", "signal=B:USR2@90",
        ):  # fmt: skip
            assert f"\n#SBATCH --{option}\n" in script
        assert "account" not in script
        assert pids() == [slurm.pid(job)]  # the warning is sent to it alone
        Path("0000", "go").touch()
        ended = end_of(executor)
        assert ended == Ended(0, Outcome.COMPLETED, "on cuda:0,1")
        slurm.wait(job, "COMPLETED")

    def test_a_sweep_that_is_a_job_itself_hands_down_nothing_but_where_slurm_is(
        self, executor: Executor, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLURM_NTASKS", "7")
        monkeypatch.setenv("SLURM_CONF", "/shared/slurm.conf")
        executor.submit(spec())
        names = (slurm.queue / slurm.jobs[0] / "environment").read_text().split()
        assert "SLURM_CONF" in names
        assert "SLURM_NTASKS" not in names

    def test_to_wait_in_the_queue_is_to_live_and_a_pause_takes_it_out(
        self, executor: Executor, slurm: Slurm
    ) -> None:
        (slurm.queue / "full").touch()
        executor.submit(spec())
        (life,) = hear(executor, Progressed)
        assert isinstance(life, Progressed)
        assert life.progress.alive
        executor.reply(0, Verdict.PAUSE)
        assert end_of(executor).outcome is Outcome.PAUSED
        assert slurm.state(slurm.jobs[0]) == "CANCELLED"

    def test_a_kill_and_the_end_of_the_sweep_cancel_it(
        self, executor: Executor, slurm: Slurm
    ) -> None:
        first, second = started(executor, slurm), started(executor, slurm, 1)
        executor.kill(0)
        ended = end_of(executor)
        assert (ended.number, ended.outcome) == (0, Outcome.LOST)
        assert gone(slurm.pid(first))
        executor.__exit__(None, None, None)
        assert slurm.state(second) == "CANCELLED"
        assert gone(slurm.pid(second))

    def test_one_that_is_cancelled_from_outside_is_lost(
        self, executor: Executor, slurm: Slurm
    ) -> None:
        job = started(executor, slurm)
        slurm.cancel(job)
        ended = end_of(executor)
        assert ended.outcome is Outcome.LOST
        assert ended.message.startswith(f"lost: its job {job} is CANCELLED")

    def test_one_that_dies_is_lost_with_its_last_lines(
        self, executor: Executor, slurm: Slurm
    ) -> None:
        job = started(executor, slurm)
        (errors,) = Path("0000", "slurm").glob("*/*.err")
        errors.write_text("slurmstepd: error: a node burns\n")
        slurm.kill(job)
        message = f"lost: its job {job} is FAILED: slurmstepd: error: a node burns"
        assert end_of(executor) == Ended(0, Outcome.LOST, message)

    def test_one_without_memory_is_killed(self, executor: Executor, slurm: Slurm) -> None:
        job = started(executor, slurm)
        slurm.kill_for_memory(job)
        ended = end_of(executor)
        assert ended.outcome is Outcome.KILLED
        assert ended.message == f"ran out of memory: Slurm ended its job {job}"

    def test_while_slurm_does_not_answer_it_goes_on(self, executor: Executor, slurm: Slurm) -> None:
        started(executor, slurm)
        (slurm.queue / "silent").touch()
        Path("0000", "go").touch()
        assert end_of(executor).outcome is Outcome.COMPLETED


class TestATimeLimit:
    def test_the_trial_pauses_and_its_requeued_job_goes_on_without_a_word_twice(
        self, executor: Executor, slurm: Slurm
    ) -> None:
        job = started(executor, slurm)
        (slurm.queue / "full").touch()
        slurm.warn(job)
        slurm.wait(job, "PENDING")
        (life,) = hear(executor, Progressed)[-1:]
        assert isinstance(life, Progressed)
        assert life.progress.step == 3
        (slurm.queue / "full").unlink()
        wait_for(lambda: len(pids()) == 2)
        Path("0000", "go").touch()
        *events, ended = hear(executor, Ended)
        assert [each.report.step for each in events if isinstance(each, Reported)] == [3, 4]
        assert isinstance(ended, Ended)
        assert ended.outcome is Outcome.COMPLETED
        assert slurm.jobs == [job]

    def test_a_pause_while_it_waits_once_more_is_one(
        self, executor: Executor, slurm: Slurm
    ) -> None:
        job = started(executor, slurm)
        (slurm.queue / "full").touch()
        slurm.warn(job)
        slurm.wait(job, "PENDING")
        executor.reply(0, Verdict.PAUSE)
        assert end_of(executor).outcome is Outcome.PAUSED
        assert slurm.state(job) == "CANCELLED"

    def test_a_program_that_cannot_go_on_is_lost(self, executor: Executor, slurm: Slurm) -> None:
        program = ProgramConfig(command=("sleep", "1000"), grace=0)
        config = TrainConfig(learning_rate=1e-3, program=program)
        executor.submit(spec(config=config, trainer="trainers.program.trainer:run"))
        hear(executor, Progressed)
        wait_for(lambda: Path("0000", "output.log").exists())
        slurm.warn(slurm.jobs[0])
        ended = end_of(executor)
        assert ended.outcome is Outcome.LOST
        assert "program.resume" in ended.message


class TestAnEarlierRun:
    def test_its_job_is_cancelled_before_the_trial_is_trained_again(
        self, executor: Executor, slurm: Slurm
    ) -> None:
        """The first executor is never left, as one whose process was killed."""
        first = started(executor, slurm)
        with make_executor("slurm", RESOURCES) as another:
            another.submit(spec())
            hear(another, Progressed, step=3)
            assert slurm.state(first) == "CANCELLED"
            assert gone(slurm.pid(first))
            assert len(slurm.jobs) == 2
            executor._trials.clear()  # type: ignore[attr-defined]

    def test_a_job_whose_number_nobody_knows_ends_itself(
        self, executor: Executor, slurm: Slurm
    ) -> None:
        first = started(executor, slurm)
        Path("0000", "slurm", "current.json").write_text('{"submission": "another"}')
        slurm.wait(first, "COMPLETED")
        executor._trials.clear()  # type: ignore[attr-defined]


@pytest.mark.parametrize("waits", [True, False])
def test_a_job_whose_orchestrator_is_gone_ends_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """In this process, as there is nobody to wait for it otherwise."""

    def trial() -> Iterator[Event]:
        verdict = None
        while verdict is not Verdict.PAUSE:
            report = Reported(0, Report(step=1, validation_loss=4.0))
            verdict = yield report if waits else Progressed(0, Progress())
        yield Ended(0, Outcome.PAUSED, "")

    monkeypatch.setattr(_job, "ORPHANED_S", 0.5)
    monkeypatch.setattr(_job, "WANTED_LOOK_S", 0.1)
    submission = _job.Submission(tmp_path, "slurm", "1-a")
    submission.make_current("100")
    with contextlib.ExitStack() as before:
        for number in (signal.SIGUSR2, signal.SIGTERM):
            before.callback(signal.signal, number, signal.getsignal(number))
        signals = _job._Signals(signal.SIGUSR2)
    assert _job._Talk(submission, 0, signals).hold(trial()) is None


RUN = ("run", "--executor", "slurm", "--json", "--trials", 1, "--set", "slurm.jobs=1")


def test_what_slurm_refuses_is_one_line(workspace: Workspace, slurm: Slurm) -> None:
    (slurm.queue / "refuses").write_text("invalid partition specified: none")
    line = refusal(workspace.invoke(*RUN, code=2))
    assert line.startswith("sweep: Slurm refuses a job: ")
    assert "invalid partition specified: none" in line


def test_without_submitit_there_is_one_line(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.delitem(sys.modules, "sweep.execution.executors.slurm")
    assert "pip install 'lr-sweep[slurm]'" in refusal(workspace.invoke(*RUN, code=2))


def test_without_slurm_there_is_one_line(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert "there is no Slurm here: no command sbatch" in refusal(workspace.invoke(*RUN, code=2))


@pytest.mark.more
def test_a_killed_sweep_goes_on_and_no_trial_is_trained_twice(
    workspace: Workspace, slurm: Slurm
) -> None:
    workspace.write("jobs.py", TRAINERS)
    run = (*RUN, "--trainer", "jobs:steps")
    with workspace.start(*run) as live:
        live.until("trial_reported", step=2)
        live.signal(signal.SIGKILL)
        live.process.wait()
    (first,) = slurm.jobs
    assert slurm.state(first) == "RUNNING"
    with workspace.start(*run) as live:
        wait_for(lambda: len(slurm.jobs) == 2)
        assert gone(slurm.pid(first))
        (workspace.folder(0) / "go").touch()
        done = live.end(0)
    assert slurm.state(first) == "CANCELLED"
    assert [event["report"]["step"] for event in done.events if "report" in event] == [3, 4]
    assert not [event for event in done.events if event["event"] == "warning"]
    assert list(workspace.curves()[0]) == [1, 2, 3, 4]


@pytest.mark.more
def test_a_pause_of_the_sweep_pauses_the_trials(workspace: Workspace, slurm: Slurm) -> None:
    workspace.write("jobs.py", TRAINERS)
    run = (*RUN, "--trainer", "jobs:steps")
    with workspace.start(*run) as live:
        live.until("trial_reported", step=2)
        live.signal(signal.SIGTERM)
        live.end(3)
    slurm.wait(slurm.jobs[0], "COMPLETED")  # it was not cancelled: it paused
    assert gone(slurm.pid(slurm.jobs[0]))


@pytest.mark.more
def test_a_time_limit_costs_no_retry(workspace: Workspace, slurm: Slurm) -> None:
    workspace.write("jobs.py", TRAINERS)
    with workspace.start(*RUN, "--trainer", "jobs:steps", "--set", "study.retries=0") as live:
        live.until("trial_reported", step=2)
        (job,) = slurm.jobs
        first = slurm.pid(job)
        slurm.warn(job)
        wait_for(lambda: slurm.state(job) == "RUNNING" and slurm.pid(job) != first)
        (workspace.folder(0) / "go").touch()
        done = live.end(0)
    assert [event["report"]["step"] for event in done.events if "report" in event] == [1, 2, 3, 4]
    assert not [event for event in done.events if event["event"] == "warning"]


@pytest.mark.more
def test_the_local_cluster_has_time_limits_too(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(dedent(TRAINERS))
    resources = Resources(address="local", job={"time": 0.5})
    with contextlib.chdir(tmp_path), make_executor("slurm", resources) as executor:
        executor.submit(spec())
        hear(executor, Progressed, step=3)
        assert len(pids()) == 1
        while len(pids()) == 1:
            executor.events(0.5)
        Path("0000", "go").touch()
        *events, ended = hear(executor, Ended)
    assert [each.report.step for each in events if isinstance(each, Reported)] == [3, 4]
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.COMPLETED


LOCAL = ("run", "--executor", "slurm", "--set", "slurm.cluster=local", "--json")


@pytest.mark.more
def test_the_shared_trainer_gives_what_it_gives_here(workspace: Workspace) -> None:
    settings = ("--trials", 3, "--set", "study.sampler=random")
    workspace.invoke(*LOCAL, *settings, "--set", "slurm.jobs=2")
    workspace.invoke("run", *settings, "--storage", "alone.db")
    assert workspace.curves() == workspace.curves("alone.db")
    assert workspace.states() == ["COMPLETE"] * 3


# Two ranks that must agree on a number, the first of which reports.
RANKS = """\
    import sys
    import torch
    import torch.distributed as ranks
    from sweep.client import report

    ranks.init_process_group("gloo")
    assert ranks.get_world_size() == 2
    rate = torch.tensor([float(sys.argv[1])])
    ranks.all_reduce(rate)
    for step in (1, 2, 3):
        loss = (rate.item() / 2 - 1e-3) ** 2 + 3 - step / 10
        if report(step=step, validation_loss=loss).stop:
            break
    ranks.destroy_process_group()
"""


@pytest.mark.more
def test_a_program_of_two_ranks(workspace: Workspace) -> None:
    workspace.write("ranks.py", RANKS)
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    done = workspace.invoke(
        *LOCAL, "--trials", 2, "--profile", "program", "--set", "study.publish=false",
        "--set", "study.until=''", "--set", "study.pruner=none",
        "--", *command, "ranks.py", "{learning_rate}",
    )  # fmt: skip
    assert workspace.states()[:2] == ["COMPLETE"] * 2
    assert [list(workspace.curves()[number]) for number in (0, 1)] == [[1, 2, 3]] * 2
    assert not [event for event in done.events if event["event"] == "warning"]
