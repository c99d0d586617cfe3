"""A program's command: what it is told, and what is refused before anything runs."""

import shlex
import sys
from pathlib import Path

import pytest

from trainers.config import ProgramConfig, TrainConfig
from trainers.errors import TrainerError
from trainers.program.command import (
    check,
    check_steps,
    environment,
    expand,
    hash_of,
    name_of,
    script_of,
    values_of,
    visible_devices,
)

CONFIG = TrainConfig(
    learning_rate=8e-4,
    batch_size=2048,
    precision="fp16",
    seed=3,
    epochs=2,
    steps=500,
    program=ProgramConfig(command=("train", "{learning_rate}")),
)


def told(*command: str, device: str = "cpu") -> list[str]:
    return expand(command, values_of(CONFIG, device, Path("/runs/study/0007")))


def test_every_placeholder_has_its_value() -> None:
    every = "{learning_rate} {batch_size} {precision} {seed} {epochs} {steps} {directory} {trial}"
    assert told(every) == ["0.0008 2048 fp16 3 2 500 /runs/study/0007 7"]
    assert told("{devices}", device="cuda:2,3") == ["2,3"]
    assert told("{micro_batch}") == ["2048"]


def test_a_double_brace_is_one_and_a_format_is_heeded() -> None:
    assert told('{{"lr": {learning_rate:.1e}}}') == ['{"lr": 8.0e-04}']


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["t", "{learning_rat}"], "did you mean {learning_rate}?"),
        (["t", "{learning_rate}", "{zzz}"], "unknown placeholder {zzz}: there are learning_rate"),
        (["t", "{learning_rate}", "{"], "{{ and }} are braces"),
        (["t", '{"lr": {learning_rate}}'], "{{ is a brace"),
        (["t", "{learning_rate:d}"], "Unknown format code 'd'"),
        (["t", "{learning_rate.real}"], "unknown placeholder {learning_rate.real}"),
        (["t", "{}", "{learning_rate}"], "unknown placeholder {}"),
        (["t", "--lr", "1e-3"], "no {learning_rate}, and no file of it reads SWEEP_LEARNING_RATE"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_line(command: list[str], words: str) -> None:
    with pytest.raises(TrainerError) as refusal:
        check(command)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_is_appended_for_a_resume_is_checked_too() -> None:
    with pytest.raises(TrainerError, match=r"did you mean \{directory\}"):
        check(["t", "{learning_rate}"], ["--resume", "{directoy}"])


def test_a_script_that_reads_the_rate_from_its_environment_needs_no_placeholder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text('import os; rate = os.environ["SWEEP_LEARNING_RATE"]')
    check(["python", "train.py"])
    Path("train.py").write_text("from sweep.client import learning_rate; learning_rate(1e-3)")
    check(["python", "train.py"])
    Path("train.py").write_text("rate = 1e-3")
    with pytest.raises(TrainerError, match="no file of it reads"):
        check(["python", "train.py"])


def test_the_script_is_found_named_and_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text("1")
    Path("pkg").mkdir()
    Path("pkg/main.py").write_text("2")
    Path("other.py").write_text("3")
    ranks = ["torchrun", "--nproc-per-node", "8", "train.py", "--data", "other.py"]
    assert (script_of(ranks), name_of(ranks)) == (Path("train.py"), "train.py")
    module = [sys.executable, "-m", "pkg.main"]
    assert (script_of(module), name_of(module)) == (Path("pkg/main.py"), "main.py")
    assert (script_of(["litgpt", "pretrain"]), name_of(["litgpt", "x"])) == (None, "litgpt")
    before = hash_of(ranks)
    Path("train.py").write_text("1 ")
    assert before != hash_of(ranks) != hash_of(module)
    assert hash_of(["litgpt"]) == ""


def test_the_environment_has_every_value_and_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    directory = Path("/runs/study/0007")
    found = environment(values_of(CONFIG, "cuda:1,2", directory), "cuda:1,2", directory)
    assert found["SWEEP_LEARNING_RATE"] == "0.0008"
    assert found["SWEEP_BATCH_SIZE"] == "2048"
    assert found["SWEEP_DIRECTORY"] == "/runs/study/0007"
    assert found["SWEEP_REPORTS"] == "/runs/study/0007/reports.jsonl"
    assert found["CUDA_VISIBLE_DEVICES"] == "5,6"
    assert found["PYTHONUNBUFFERED"] == "1"
    on_cpu = environment(values_of(CONFIG, "cpu", directory), "cpu", directory)
    assert on_cpu["CUDA_VISIBLE_DEVICES"] == "4,5,6,7", "as the user set it"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_devices("cuda") == ["0"]


def test_an_argument_with_blanks_stays_one() -> None:
    assert shlex.join(told("train", "{directory}/a b")) == "train '/runs/study/0007/a b'"


def test_steps_follow_from_tokens_where_a_sequence_s_are_known() -> None:
    program = ProgramConfig(command=("t", "{learning_rate}", "{steps}"), sequence_tokens=64)
    config = TrainConfig(learning_rate=1.0, batch_size=8, tokens=1000, program=program)
    assert config.steps == 2  # 512 tokens each
    check_steps(config)
    assert TrainConfig(learning_rate=1.0, steps=7, tokens=1000, program=program).steps == 7
    with pytest.raises(TrainerError, match="by --steps, or by --tokens"):
        check_steps(TrainConfig(learning_rate=1.0, program=program))


def test_sizes_are_further_placeholders() -> None:
    check(["t", "{learning_rate}", "{width:04d}"], sizes=["width"])
    program = ProgramConfig(command=("t", "{width:04d}"), sizes={"width": 64})
    values = values_of(TrainConfig(learning_rate=1.0, program=program), "cpu", Path("/runs/7"))
    assert expand(program.command, values) == ["t", "0064"]
    assert environment(values, "cpu", Path("/runs/7"))["SWEEP_WIDTH"] == "64"
    with pytest.raises(TrainerError, match="rename it"):
        check(["t", "{learning_rate}"], sizes=["seed"])
