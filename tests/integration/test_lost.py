"""Workers that die, hang and take too long, in sweeps by the command line."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial
from support import Workspace, gone, refusal

# No model, so that an attempt costs nothing; what is trained is kept, as in a checkpoint.
FAULTY = """\
    import math, os, signal, subprocess, time
    from trainers.report import Ending, Report, Outcome, Progress

    def attempt(directory):
        file = directory / "attempts"
        with file.open("a") as log:
            log.write("x")
        return len(file.read_text())

    def train(config, *, device, directory):
        directory.mkdir(parents=True, exist_ok=True)
        fault, first = FAULTS.get(int(directory.name)), attempt(directory) == 1
        file = directory / "trained"
        done = len(file.read_text().split()) if file.exists() else 0
        for epoch in range(1, config.epochs + 1):
            if (yield Progress(epoch)) == "pause":
                return Ending(Outcome.PAUSED)
            if fault and epoch == 2 and (ending := (yield from fault(first, directory))):
                return ending
            if epoch > done:
                with file.open("a") as log:
                    log.write(f"{epoch} ")
            perplexity = 60 - epoch + int(directory.name)
            yield Report(epoch=epoch, validation_loss=math.log(perplexity))
        return Ending(Outcome.COMPLETED)

    def dies(first, directory):
        yield Progress(2)
        os.kill(os.getpid(), signal.SIGKILL)

    def dies_once(first, directory):
        if first:
            yield from dies(first, directory)

    def hangs_once(first, directory):
        if first:
            child = subprocess.Popen(["sleep", "1000"])
            (directory / "child").write_text(f"{child.pid} {os.getpid()}")
            time.sleep(1000)
        yield Progress(2)

    def dawdles_once(first, directory):
        while first:
            if (yield Progress(2)) == "pause":
                return Ending(Outcome.PAUSED)
            time.sleep(0.2)

"""


def trials(workspace: Workspace) -> list[FrozenTrial]:
    return workspace.study().get_trials(deepcopy=False)


def trained(workspace: Workspace, number: int) -> str:
    return (workspace.folder(number) / "trained").read_text()


def run(workspace: Workspace, faults: str, *flags: object) -> Workspace:
    workspace.write("faulty.py", FAULTY + f"    FAULTS = {faults}\n")
    workspace.said = workspace.sweep(
        "run", "--trainer", "faulty:train", "--json", "--set", "study.pruner=none", *flags
    )
    return workspace


def warnings(workspace: Workspace) -> list[str]:
    return [event["text"] for event in workspace.said.events if event["event"] == "warning"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("faulty"), english)
    return run(workspace, "{1: dies, 2: dies_once}", "--trials", 4)


class TestOneWorker:
    def test_a_trial_that_always_dies_fails_after_two_retries_with_its_reason(
        self, sweep: Workspace
    ) -> None:
        trial = trials(sweep)[1]
        reason = "lost: its worker process died (killed by SIGKILL)"
        assert (trial.state.name, trial.user_attrs["reason"]) == ("FAIL", reason)
        assert trial.user_attrs["setbacks"] == [reason] * 2
        assert (sweep.folder(1) / "attempts").read_text() == "xxx"
        assert trained(sweep, 1) == "1 "

    def test_one_that_dies_once_goes_on_where_it_was(self, sweep: Workspace) -> None:
        trial = trials(sweep)[2]
        assert trial.state.name == "COMPLETE"
        assert len(trial.user_attrs["setbacks"]) == 1
        assert trained(sweep, 2) == "1 2 3 "

    def test_the_others_never_notice(self, sweep: Workspace) -> None:
        for number in (0, 3):
            assert trials(sweep)[number].state.name == "COMPLETE"
            assert "setbacks" not in trials(sweep)[number].user_attrs
            assert (sweep.folder(number) / "attempts").read_text() == "x"

    def test_each_setback_is_one_line(self, sweep: Workspace) -> None:
        line = "lost: its worker process died (killed by SIGKILL); a fresh worker goes on"
        assert warnings(sweep) == [f"trial {number}: {line}" for number in (1, 1, 2)]


@pytest.mark.more
def test_workers_lost_for_a_reason_outside_use_up_no_trials(workspace: Workspace) -> None:
    command = ("run", "--trainer", "faulty:train", "--trials", 3, "--epochs", 2, "--json")
    broken = FAULTY.replace("directory.mkdir", "os._exit(9); directory.mkdir")
    workspace.write("faulty.py", broken + "    FAULTS = {}\n")
    line = refusal(workspace.sweep(*command, "--set", "study.retries=0", code=1))
    assert line == (
        "sweep: nothing was trained: trial 2 lost: its worker process died (exit code 9): put that "
        "right, then the same command goes on"
    )
    run(workspace, "{}", "--trials", 3, "--epochs", 2)
    assert workspace.states() == ["FAIL"] * 3 + ["COMPLETE"] * 3
    lost, again = trials(workspace)[:3], trials(workspace)[3:]
    assert {trial.params["learning_rate"] for trial in lost} == {
        trial.params["learning_rate"] for trial in again
    }


@pytest.mark.more
def test_trials_that_share_the_culprits_worker_complete(workspace: Workspace) -> None:
    run(workspace, "{1: dies}", "--trials", 3, "--set", "study.cohort=3")
    assert [trial.state.name for trial in trials(workspace)] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert [trained(workspace, number) for number in range(3)] == ["1 2 3 ", "1 ", "1 2 3 "]
    assert (workspace.folder(1) / "attempts").read_text() == "xxx"
    assert sum("goes on, alone" in line for line in warnings(workspace)) == 3


@pytest.mark.more
def test_a_trial_that_hangs_or_takes_too_long_is_stopped_with_all_it_started_and_goes_on(
    workspace: Workspace,
) -> None:
    limit = 1 + round(3 * seconds_to_start_a_worker(workspace))
    run(
        workspace, "{1: hangs_once, 2: dawdles_once}", "--trials", 3,
        "--hang-timeout", limit, "--trial-timeout", 2 * limit, "--set", "study.retries=5",
    )  # fmt: skip
    assert workspace.states() == ["COMPLETE"] * 3
    assert [trained(workspace, number) for number in range(3)] == ["1 2 3 "] * 3
    hung, slow = (trial.user_attrs["setbacks"][-1] for trial in trials(workspace)[1:])
    assert hung == f"hung: no sign of life for {limit} s, so its worker was stopped"
    assert slow == f"over its time: {2 * limit} s for a trial, so its worker was stopped"
    child, worker = map(int, (workspace.folder(1) / "child").read_text().split())
    assert gone(child)
    assert gone(worker)


def seconds_to_start_a_worker(workspace: Workspace) -> float:
    """By a sound trial: on a busy machine it may be many."""
    workspace.write("faulty.py", FAULTY + "    FAULTS = {}\n")
    with workspace.start("run", "--trainer", "faulty:train", "--trials", 1, "--json") as live:
        live.until("trial_started", number=0)
        began = time.monotonic()
        live.until("trial_progressed", number=0)
        seconds = time.monotonic() - began
        live.end(0)
    return seconds


HUNGRY = """\
    import torch
    from trainers.steps.memory import total_memory_bytes

    class Model(torch.nn.Module):
        def __init__(self, words, share):
            super().__init__()
            self.embedding, self.head = torch.nn.Embedding(words, 8), torch.nn.Linear(8, words)
            self.room = int(share * total_memory_bytes(torch.device("cpu")))

        def forward(self, tokens_BT):
            if self.training:
                torch.empty(len(tokens_BT) * self.room, dtype=torch.uint8)
            return self.head(self.embedding(tokens_BT))

    def modest(words):
        return Model(words, 0)

    def hungry(words):
        return Model(words, 1 / 20)  # more than 20 rows are refused by the system

    def insatiable(words):
        return Model(words, 10)
"""
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")


@pytest.mark.skipif(
    not OVERCOMMIT.exists() or OVERCOMMIT.read_text().strip() == "1",
    reason="this system refuses no allocation",
)
@pytest.mark.more
def test_out_of_memory_goes_on_with_fewer_rows_to_the_same_result(workspace: Workspace) -> None:
    workspace.write("models.py", HUNGRY)
    found = {}
    for model in ("modest", "hungry", "insatiable"):
        database = f"{model}.db"
        flags = ("--trials", 1, "--storage", database, "--json", "--set", "study.cohort=1")
        code = 1 if model == "insatiable" else 0
        said = workspace.invoke("run", "--model", f"models:{model}", *flags, code=code)
        found[model] = (said, workspace.study(database).get_trials(deepcopy=False)[0])
    modest, hungry, insatiable = (trial for _, trial in found.values())
    assert hungry.state.name == "COMPLETE"
    assert hungry.intermediate_values == pytest.approx(modest.intermediate_values, rel=1e-4)
    assert hungry.user_attrs["micro_batch"] == 16  # of 64
    assert "micro_batch" not in modest.user_attrs
    assert insatiable.state.name == "FAIL"
    assert insatiable.user_attrs["reason"].startswith("ran out of memory: ")
    assert len(insatiable.user_attrs["setbacks"]) == 2
    shown = workspace.invoke("show", 0, "--storage", "hungry.db").out
    assert "16 rows: no room for more" in shown


KILLED = """\
    import os
    from pathlib import Path
    from trainers.report import Ending, Report, Outcome, Progress

    def train(config, *, device, directory):
        yield Progress(1)
        if not config.micro_batch:
            Path("GROUP/cgroup.procs").write_text(str(os.getpid()))
            hoard = bytearray(2**29)
        yield Report(epoch=1, validation_loss=4.0)
        return Ending(Outcome.COMPLETED)
"""


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group with room for 64 MiB; making one takes root."""
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = root / f"sweep-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            (group / limit).write_text("64M")
            yield group
            break
        if group.exists():
            group.rmdir()
    else:
        pytest.skip("no control group can be made here")
    group.rmdir()


def test_a_worker_that_the_system_kills_for_memory_is_told_apart(
    workspace: Workspace, small_group: Path
) -> None:
    workspace.write("killed.py", KILLED.replace("GROUP", str(small_group)))
    flags = ("--trials", 1, "--json", "--epochs", 1)
    said = workspace.invoke("run", "--trainer", "killed:train", *flags)
    trial = trials(workspace)[0]
    reason = "ran out of memory: the system killed its worker process to free some"
    assert (trial.state.name, trial.user_attrs["setbacks"]) == ("COMPLETE", [reason])
    assert trial.user_attrs["micro_batch"] == 16
    (warning,) = [event["text"] for event in said.events if event["event"] == "warning"]
    assert warning == f"trial 0: {reason}; a fresh worker goes on with 16 rows at once"


DEAF = """\
    import ctypes, os, subprocess, time
    from trainers.report import Progress

    def train(config, *, device, directory):
        child = subprocess.Popen(["sleep", "1000"])
        (directory / "pids").write_text(f"{os.getpid()} {child.pid}")
        yield Progress(1)
        DEAF and ctypes.PyDLL(None).sleep(1000)  # keeps Python's lock: no thread of it runs
        while True:
            yield Progress(1)
            time.sleep(0.2)
"""


@pytest.mark.parametrize("deaf", [False, True], ids=["listening", "deaf"])
def test_no_worker_outlives_a_killed_orchestrator(workspace: Workspace, deaf: bool) -> None:
    workspace.write("deaf.py", DEAF.replace("DEAF", str(deaf)))
    with workspace.start("run", "--trainer", "deaf:train", "--json") as live:
        live.until("trial_progressed", number=0)
        live.signal(signal.SIGKILL)
        live.end(-signal.SIGKILL)
    worker, child = map(int, (workspace.folder(0) / "pids").read_text().split())
    assert gone(worker)
    assert gone(child)


@pytest.mark.more
def test_the_time_of_a_study_holds_across_its_runs(workspace: Workspace) -> None:
    """The first run spends some of it and is killed; the second ends when the rest is spent."""
    workspace.write("faulty.py", FAULTY + "    FAULTS = {0: lambda *_: dawdles_once(True, None)}\n")
    command = ["run", "--trainer", "faulty:train", "--json", "--timeout"]
    with workspace.start(*command, 3600) as live:
        live.until("trial_progressed", number=0, step=2)
        live.signal(signal.SIGINT)
        live.end(3)
    spent = workspace.study().user_attrs["spent_s"]
    assert 0 < spent < 3600
    with workspace.start(*command, spent + 1) as live:  # less than a worker needs to start
        said = live.end(3)
    assert workspace.study().user_attrs["spent_s"] >= spent + 1
    notes = [event["text"] for event in said.events if event["event"] == "note"]
    assert any(note.startswith("out of time: the study's ") for note in notes)
    more = said.events[-1]["command"]
    assert more.startswith("sweep run --trainer faulty:train --json --timeout ")
    assert float(more.split()[-1]) == pytest.approx(2 * (spent + 1), rel=1e-3)

    third = workspace.sweep(*command, spent / 2, code=3)
    assert not any(event["event"] == "trial_started" for event in third.events)
