"""The trainer that runs a program: real programs, real signals, and nothing left of them."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from trainers import process_tree
from trainers.config import ProgramConfig, TrainConfig
from trainers.errors import TrainerError
from trainers.naming import OUTPUT_FILE
from trainers.program.trainer import run
from trainers.report import Ending, Outcome, Progress, Report, Verdict

WAIT_S = 60.0
REPORTING = """
import json, os, sys, time
rate = float(sys.argv[1])
def report(step, **fields):
    with open(os.environ["SWEEP_REPORTS"], "a") as file:
        file.write(json.dumps({"step": step, **fields}) + "\\n")
"""
# A child in a session of its own, deaf to SIGTERM, whose parent is gone: as data loaders may be.
DEAF = """
import subprocess, sys, time
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
parent = (
    "import subprocess, sys;"
    "subprocess.Popen([sys.executable, '-c', sys.argv[1]], start_new_session=True)"
)
subprocess.run([sys.executable, "-c", parent, deaf], start_new_session=True)
time.sleep(0.5)
"""

Drive = Callable[..., tuple[list[Report], Ending]]


def config(*command: str, grace: float = 0.5, **program: object) -> TrainConfig:
    whole = ProgramConfig(command=(sys.executable, *command), grace=grace, **program)  # type: ignore[arg-type]
    return TrainConfig(learning_rate=2e-3, metric="validation_loss", program=whole)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    def drive(
        train: TrainConfig, answer: Callable[[object], Verdict] = lambda _: Verdict.CONTINUE
    ) -> tuple[list[Report], Ending]:
        running = run(train, device="cpu", directory=tmp_path / "0003")
        reports, verdict = [], None
        while True:
            try:
                said = running.send(verdict)
            except StopIteration as stop:
                return reports, stop.value
            if isinstance(said, Report):
                reports.append(said)
            verdict = answer(said)

    yield drive
    assert process_tree.members(tmp_path / "0003") == [], "nothing outlives its trial"


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def script(text: str) -> str:
        path = tmp_path / "program.py"
        path.write_text(REPORTING + text)
        return str(path)

    return script


def test_reports_come_in_order_and_its_end_is_an_end(drive: Drive, script) -> None:
    train = config(
        script("for s in (5, 10): report(s, validation_loss=3 - s / 10)"), "{learning_rate}"
    )
    reports, ending = drive(train)
    assert [(each.step, each.validation_loss) for each in reports] == [(5, 2.5), (10, 2.0)]
    assert ending == Ending(Outcome.COMPLETED)


def test_it_is_told_its_trial(drive: Drive, script, tmp_path: Path) -> None:
    text = "report(int(sys.argv[2]), validation_loss=rate, seed=float(os.environ['SWEEP_SEED']))"
    reports, _ = drive(config(script(text), "{learning_rate}", "{trial}"))
    assert (reports[0].step, reports[0].validation_loss, reports[0].metrics) == (
        3,
        2e-3,
        {"seed": 0},
    )
    assert f"{2e-3} 3" in (tmp_path / "0003" / OUTPUT_FILE).read_text()


def test_what_it_prints_is_read_as_it_is_printed(drive: Drive, script) -> None:
    """Python holds output back that goes into a file, and no line of it is changed."""
    text = "print('step 1: train loss 3.0, val loss 2.0'); time.sleep(1000)"
    reports, ending = drive(
        config(script(text), "{learning_rate}", pattern="nanogpt"),
        lambda said: Verdict.PRUNE if isinstance(said, Report) else Verdict.CONTINUE,
    )
    assert [each.step for each in reports] == [1]
    assert ending == Ending(Outcome.PRUNED)


@pytest.mark.parametrize(
    ("text", "outcome", "words"),
    [
        ("raise ValueError('no such file')", Outcome.FAILED, "code 1: ValueError: no such file"),
        ("sys.exit(3)", Outcome.FAILED, "exit code 3"),
        ("print('bye')", Outcome.FAILED, "without a report; its last lines: bye"),
        ("pass", Outcome.FAILED, "without a report, and printed nothing"),
        ("report(1, bleu=0.5)", Outcome.FAILED, "reported bleu, but no validation_loss (--metric)"),
        ("os.kill(os.getpid(), 9)", Outcome.LOST, "killed by signal 9"),
        ("os.abort()", Outcome.LOST, "killed by signal 6"),
        (
            "raise RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB')",
            Outcome.OUT_OF_MEMORY,
            "ran out of memory: RuntimeError: CUDA out of memory",
        ),
        ("raise OSError(28, os.strerror(28))", Outcome.NO_SPACE, "found no room on the disk"),
        ("report(4, validation_loss=float('nan')); time.sleep(9)", Outcome.DIVERGED, "at step 4"),
        ("report(4, train_loss=float('nan')); time.sleep(9)", Outcome.DIVERGED, "at step 4"),
    ],
)
def test_how_it_ends_is_said_with_its_last_words(
    drive: Drive, script, text: str, outcome: Outcome, words: str
) -> None:
    _, ending = drive(config(script(text), "{learning_rate}"))
    assert ending.outcome is outcome
    assert words in ending.message
    assert "\n" not in ending.message


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to whom it wants")
def test_a_daemon_that_hides_ends_too(drive: Drive, script, tmp_path: Path) -> None:
    """Without its parent, in a session of its own, with nothing in its environment."""
    text = """
if not os.fork():
    os.setsid()
    if not os.fork():
        os.execve("/bin/sleep", ["sleep", "1000"], {})
    os._exit(0)
os.wait()
report(1, validation_loss=2.0)
"""
    _, ending = drive(config(script(text), "{learning_rate}"))
    assert ending == Ending(Outcome.COMPLETED)
    assert process_tree.members(tmp_path / "0003", strangers=frozenset()) == []


def test_last_words_are_a_line_of_plain_text(drive: Drive, script) -> None:
    text = "sys.stdout.buffer.write(bytes(range(256)) * 4000 + b'\\n\\x1b[31mlow\\0er\\x1b[0m')"
    _, ending = drive(config(script(f"{text}; sys.stdout.flush(); os._exit(1)"), "{learning_rate}"))
    assert ending.message.endswith("low er")
    assert ending.message.isprintable()


@pytest.mark.parametrize("verdict", [Verdict.PRUNE, Verdict.PAUSE])
def test_all_that_it_started_ends_with_it(drive: Drive, script, verdict: Verdict) -> None:
    text = f"{DEAF}\nreport(1, validation_loss=2.0)\ntime.sleep(1000)"
    _, ending = drive(
        config(script(text), "{learning_rate}"),
        lambda said: verdict if isinstance(said, Report) else Verdict.CONTINUE,
    )
    assert ending.outcome is (Outcome.PRUNED if verdict is Verdict.PRUNE else Outcome.PAUSED)


def test_what_a_finished_program_left_ends_too(drive: Drive, script) -> None:
    _, ending = drive(config(script(f"{DEAF}\nreport(1, validation_loss=2.0)"), "{learning_rate}"))
    assert ending == Ending(Outcome.COMPLETED)


def test_a_silent_one_gives_no_sign_of_life_but_can_be_paused(drive: Drive, script) -> None:
    alive: list[bool] = []

    def answer(said: object) -> Verdict:
        assert isinstance(said, Progress)
        alive.append(said.alive)
        return Verdict.PAUSE if len(alive) == 4 else Verdict.CONTINUE

    _, ending = drive(
        config(script("print('begins'); time.sleep(1000)"), "{learning_rate}"), answer
    )
    assert ending == Ending(Outcome.PAUSED)
    assert alive[-2:] == [False, False]
    assert True in alive, "it printed a line"


def test_one_that_is_asked_to_stop_has_time_to_save(drive: Drive, script, tmp_path: Path) -> None:
    text = """
import signal
def save(*_):
    open(os.environ["SWEEP_DIRECTORY"] + "/saved", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
report(1, validation_loss=2.0)
time.sleep(1000)
"""
    drive(
        config(script(text), "{learning_rate}", grace=20.0),
        lambda said: Verdict.PAUSE if isinstance(said, Report) else Verdict.CONTINUE,
    )
    assert (tmp_path / "0003" / "saved").exists()


def test_a_resumed_one_says_its_reports_again_and_gets_what_is_appended(
    drive: Drive, script, tmp_path: Path
) -> None:
    text = """
begin = int(open(sys.argv[3] + "/at").read()) if len(sys.argv) > 2 else 0
for step in range(begin + 1, 5):
    report(step, validation_loss=5.0 - step)
    open(os.environ["SWEEP_DIRECTORY"] + "/at", "w").write(str(step))
    time.sleep(0.6 if step == 2 and not begin else 0)
"""
    train = config(script(text), "{learning_rate}", resume=("--from", "{directory}"))
    first, ending = drive(
        train, lambda said: Verdict.PAUSE if isinstance(said, Progress) else Verdict.CONTINUE
    )
    assert ending == Ending(Outcome.PAUSED)
    assert [each.step for each in first] == [1, 2]
    again, ending = drive(train)
    assert [each.step for each in again] == [1, 2, 3, 4]
    assert ending == Ending(Outcome.COMPLETED)
    assert (tmp_path / "0003" / OUTPUT_FILE).read_text().count("--from") == 1


def test_one_that_cannot_resume_begins_anew(drive: Drive, script) -> None:
    train = config(script("report(1, validation_loss=2.0); time.sleep(1)"), "{learning_rate}")
    drive(train, lambda said: Verdict.PAUSE if isinstance(said, Report) else Verdict.CONTINUE)
    reports, ending = drive(train)
    assert [each.step for each in reports] == [1]
    assert ending == Ending(Outcome.COMPLETED)


def test_what_cannot_be_started_is_a_line(tmp_path: Path) -> None:
    train = config()
    missing = ProgramConfig(command=("no-such-program", "{learning_rate}"))
    train = TrainConfig(learning_rate=1e-3, metric="validation_loss", program=missing)
    with pytest.raises(TrainerError, match="no-such-program cannot be run: No such file"):
        next(run(train, device="cpu", directory=tmp_path / "0000"))


@pytest.mark.parametrize("grace", [0.5, 20.0])
def test_its_guard_ends_it_where_the_worker_is_killed(tmp_path: Path, script, grace: float) -> None:
    path = script("report(1, validation_loss=2.0)\ntime.sleep(1000)")
    driver = f"""
from pathlib import Path
from trainers.config import ProgramConfig, TrainConfig
from trainers.program.trainer import run
program = ProgramConfig(command=({sys.executable!r}, {path!r}, "{{learning_rate}}"), grace={grace})
train = TrainConfig(learning_rate=1e-3, metric="validation_loss", program=program)
for said in run(train, device="cpu", directory=Path({str(tmp_path / "0001")!r})):
    print(said, flush=True)
"""
    worker = subprocess.Popen([sys.executable, "-c", driver], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert "Report" in worker.stdout.readline()
    found = process_tree.members(tmp_path / "0001")
    assert found
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    psutil.wait_procs(found, timeout=WAIT_S)
    assert process_tree.members(tmp_path / "0001") == []


def test_the_answers_stand_in_a_file(drive: Drive, script, tmp_path: Path) -> None:
    drive(config(script("report(1, validation_loss=2.0); report(2, note=1.0)"), "{learning_rate}"))
    lines = (tmp_path / "0003" / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "stop": False},
        {"step": 2, "stop": False},
    ]


def test_two_trials_do_not_end_each_other(tmp_path: Path, script) -> None:
    """Of one folder whose name begins as the other's does."""
    train = config(script("report(1, validation_loss=2.0)\ntime.sleep(1000)"), "{learning_rate}")
    running = [run(train, device="cpu", directory=tmp_path / name) for name in ("1", "10")]
    for each in running:
        while not isinstance(each.send(None), Report):
            time.sleep(0.01)
    running[0].close()
    assert process_tree.members(tmp_path / "1") == []
    assert process_tree.members(tmp_path / "10") != []
    running[1].close()
    assert process_tree.members(tmp_path / "10") == []
