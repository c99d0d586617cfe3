"""Programs of the user's own, swept by the command line: by what they print, say, and suffer."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Done, Live, Workspace, alive, gone, refusal, wait_for

from trainers import process_tree

SETTINGS = ("--profile", "program", "--set", "study.publish=false")
RUN = ("run", *SETTINGS, "--set", "study.until=''", "--json")
LOSS = "loss = 3 + abs(math.log10(rate / 1e-3)) - step / 10"
PRINTS = f"""\
    import math, sys
    rate = float(sys.argv[1])
    for step in (1, 2, 3, 4):
        {LOSS}
        print(f"step {{step}}: train loss 1.0, val loss {{loss:.4f}}")
"""
REPORTS = f"""\
    import math
    from sweep.client import learning_rate, report
    rate = learning_rate(1.0)
    for step in (1, 2, 3, 4):
        {LOSS}
        if report(step, validation_loss=loss, steps=4).stop:
            break
"""
SHELL = """\
    for step in 1 2 3 4; do
        echo "{\\"step\\": $step, \\"validation_loss\\": $((5 - step))}" >>"$SWEEP_REPORTS"
    done
"""
# Goes on from the step it reported last; its child is in a session of its own.
LONG = """\
    import os, subprocess, sys, time
    from pathlib import Path
    from sweep.client import report

    folder = Path(os.environ["SWEEP_DIRECTORY"])
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    said = (folder / "reports.jsonl").read_text().splitlines()
    begun = len(said) if "--resume" in sys.argv else 0
    for step in range(begun + 1, 7):
        while step == 4 and not Path("go").exists():
            time.sleep(0.02)
        report(step, validation_loss=5 - step / 10, steps=6)
    # Its child outlives it.
"""
TWO_RANKS = (
    "--", sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2,
    "ranks.py", "{learning_rate}",
)  # fmt: skip
RANKS = """\
    import sys, time
    import torch.distributed
    from sweep.client import report

    torch.distributed.init_process_group("gloo")
    rate = float(sys.argv[1])
    for step in (1, 2, 3, 4):
        report(step, validation_loss=3.0 + rate, steps=4)
        torch.distributed.barrier()
    time.sleep(1000)
"""


def run(*settings: object, program: str = "program.py") -> tuple[object, ...]:
    return (*RUN, *settings, "--", sys.executable, program, "{learning_rate}")


def values(done: Done) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for event in done.events:
        if event["event"] == "trial_reported":
            found.setdefault(event["trial"]["number"], []).append(event["report"]["step"])
    return found


@pytest.fixture(autouse=True)
def nothing_left(workspace: Workspace) -> Iterator[None]:
    yield
    left = [process for f in workspace.path.glob("runs/*/*") for process in process_tree.members(f)]
    assert left == []


def test_by_what_it_prints_and_all_that_is_then_asked(workspace: Workspace) -> None:
    workspace.write("program.py", PRINTS)
    command = run("--trials", 3, "--steps", 4, "--pattern", "nanogpt")
    done = workspace.invoke(*command)
    assert done.events[-1]["event"] == "study_finished"
    assert "COMPLETE" in workspace.states()
    assert "program.py" in workspace.invoke("status").out
    assert "validation loss" in workspace.invoke("report").out
    best = workspace.study().best_trial.number
    assert "step 4: train loss 1.0" in workspace.invoke("show", best, "--log").out
    workspace.invoke("export", "-o", "best.yaml")
    again = ("--", *command[command.index("--") + 1 :])
    # A file of a stranger's runs nothing that is not named.
    assert "-- " in refusal(workspace.invoke("train", "best.yaml", code=2))
    workspace.invoke("train", "best.yaml", *again)
    assert workspace.study().user_attrs  # its database is whole

    workspace.write("program.py", f"{PRINTS}\n    # changed\n")
    more = run("--trials", 4, "--steps", 4, "--pattern", "nanogpt")
    assert "--same-program" in refusal(workspace.invoke(*more, code=2))
    split = more.index("--")
    workspace.invoke(*more[:split], "--same-program", *more[split:])
    assert len(workspace.states()) == 4


@pytest.mark.parametrize(
    "command",
    [
        (sys.executable, "program.py", "--note", "no placeholder"),
        ("sh", "program.sh", "{learning_rate}"),
    ],
)
def test_by_its_own_reports(workspace: Workspace, command: tuple[str, ...]) -> None:
    workspace.write("program.py", REPORTS)
    workspace.write("program.sh", SHELL)
    workspace.invoke(*RUN, "--trials", 2, "--set", "study.pruner=none", "--", *command)
    assert [*workspace.curves()[0]] == [1, 2, 3, 4]


def test_a_dry_run_prints_what_a_shell_understands(workspace: Workspace) -> None:
    workspace.write("program.py", REPORTS)
    said = ("a b", "it's", '"', "", "ü$HOME", "{{x}}")
    line = ("--", sys.executable, "program.py", "{learning_rate}", *said)
    done = workspace.invoke("run", *SETTINGS, "--dry-run", *line)
    first = next(each for each in done.out.splitlines() if "program.py 0" in each)
    command = shlex.split(first[first.index(sys.executable) :])
    assert command[3:] == ["a b", "it's", '"', "", "ü$HOME", "{x}"]
    workspace.write("program.py", "import json, sys; print(json.dumps(sys.argv[2:]))")
    shell = subprocess.run(
        first[first.index(sys.executable) :],
        shell=True,
        cwd=workspace.path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shell.stdout) == command[3:]
    assert not (workspace.path / "sweep.db").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("program.py", "{rate}"), "unknown placeholder {rate}"),
        (("program.py",), "no {learning_rate}"),
        (("no-such-program", "{learning_rate}"), "no-such-program cannot be run"),
    ],
)
def test_what_cannot_be_run_is_a_line(
    workspace: Workspace, command: tuple[str, ...], words: str
) -> None:
    workspace.write("program.py", PRINTS)
    assert words in refusal(workspace.invoke(*RUN, "--trials", 2, "--", *command, code=2))


def test_a_run_of_one_epoch_is_pruned_before_half_its_steps(workspace: Workspace) -> None:
    workspace.write(
        "program.py",
        """\
        import math, sys
        from sweep.client import report
        rate = float(sys.argv[1])
        for step in range(10, 101, 10):
            learnt = 1.2 * (1 - math.exp(-step / 40))
            loss = 3.6 - learnt * math.exp(-(math.log10(rate / 5e-3) ** 2))
            report(step, validation_loss=loss, steps=100)
        """,
    )
    workspace.invoke(*run("--trials", 6, "--epochs", 1))
    trials = workspace.study().get_trials(deepcopy=False)
    ends = [max(trial.intermediate_values) for trial in trials if trial.state.name == "PRUNED"]
    assert min(ends) < 50


def reported_once(workspace: Workspace) -> None:
    rows = workspace.sql("select trial_id, step, intermediate_value from trial_intermediate_values")
    assert len({row[:2] for row in rows}) == len(rows)
    assert all(value == pytest.approx(5 - step / 10) for _, step, value in rows)
    assert {step for _, step, _ in rows} == {1, 2, 3, 4, 5, 6}


ALL = ("--set", "study.pruner=none")  # no trial is left for another
LONG_RUN = run(
    "--trials", 1, *ALL, "--set", 'program.resume=["--resume"]', "--set", "program.grace=5"
)


def halfway(workspace: Workspace, live: Live) -> None:
    live.until("trial_reported", number=0, step=3)
    assert len(process_tree.members(workspace.folder(0).absolute())) >= 2


def test_paused_it_goes_on_where_it_was(workspace: Workspace) -> None:
    workspace.write("program.py", LONG)
    with workspace.start(*LONG_RUN) as live:
        halfway(workspace, live)
        live.signal(signal.SIGTERM)
        live.end(3)
    assert process_tree.members(workspace.folder(0)) == []
    (workspace.path / "go").touch()
    assert values(workspace.invoke(*LONG_RUN)) == {0: [4, 5, 6]}
    reported_once(workspace)


def test_killed_with_its_orchestrator_it_goes_on(workspace: Workspace) -> None:
    workspace.write("program.py", LONG)
    with workspace.start(*LONG_RUN) as live:
        halfway(workspace, live)
        live.signal(signal.SIGKILL)
        live.process.wait()
        wait_for(lambda: process_tree.members(workspace.folder(0)) == [])
    (workspace.path / "go").touch()
    workspace.invoke(*LONG_RUN)
    reported_once(workspace)


def test_killed_with_its_worker_it_is_tried_again(workspace: Workspace) -> None:
    workspace.write("program.py", LONG)
    with workspace.start(*LONG_RUN) as live:
        halfway(workspace, live)
        program = min(
            process_tree.members(workspace.folder(0)), key=lambda each: each.create_time()
        )
        worker = program.ppid()
        (workspace.path / "go").touch()
        os.kill(worker, signal.SIGKILL)
        live.end(0)
    assert gone(worker)
    assert not alive(program.pid)
    reported_once(workspace)


@pytest.mark.parametrize("limit", ["hang", "trial"])
def test_one_that_takes_too_long_ends_with_all_it_started(workspace: Workspace, limit: str) -> None:
    workspace.write("program.py", LONG)
    settings = ("--set", "study.retries=0", "--set", "program.grace=1")
    command = run("--trials", 1, *ALL, f"--{limit}-timeout", 3, *settings)
    workspace.invoke(*command)
    assert workspace.states()[0] == "FAIL"


def test_out_of_memory_is_named(workspace: Workspace) -> None:
    workspace.write("program.py", "raise MemoryError  # SWEEP_LEARNING_RATE")
    done = workspace.invoke(*run("--trials", 1), code=1)
    assert refusal(done).endswith("ran out of memory: MemoryError")


def two_ranks(workspace: Workspace) -> None:
    workspace.write("ranks.py", RANKS)
    settings = ("--trials", 1, *ALL, "--set", "program.grace=2")
    with workspace.start(*RUN, *settings, *TWO_RANKS) as live:
        live.until("trial_reported", number=0, step=4)
        assert len(process_tree.members(workspace.folder(0))) >= 3
        live.signal(signal.SIGINT, group=True)
        live.end(3)
    assert process_tree.members(workspace.folder(0)) == []


@pytest.mark.more
def test_two_ranks_leave_nothing(workspace: Workspace) -> None:
    two_ranks(workspace)


@pytest.mark.more
@pytest.mark.timeout(1200)
def test_two_ranks_leave_nothing_at_any_time(workspace: Workspace) -> None:
    for _ in range(20):
        two_ranks(workspace)


def test_from_another_folder_and_without_its_file(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write("program.py", PRINTS)
    inside = workspace.path / "below"
    inside.mkdir()
    below = Workspace(inside, Path())
    (inside / "sweep.toml").unlink()
    command = run("--trials", 1, "--pattern", "nanogpt", program="../program.py")
    below.invoke(*command)
    assert below.states() == ["COMPLETE"]
    (workspace.path / "program.py").unlink()
    split = command.index("--")
    more = (*command[:split], "--same-program", "--trials", 3, *command[split:])
    assert "No such file" in below.invoke(*more, code=2).err
