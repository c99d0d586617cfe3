"""The README is run as written: its tour in one folder, from the first command to the last.

The commands are the README's; a sweep.toml beside them makes the sweep small, for CI's sake.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sweep.cli import cli

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Exact on every machine; the rest is measured or hashed, so its numbers are masked.
EXACT = ("sweep priors",)

SMALL = """
[study]
trials = 4

[profiles.cpu.trainer]
lr_schedule = { warmup_share = 0.0 }

[profiles.cpu.data]
train_sequences = 16384
validation_sequences = 500
"""

Step = tuple[str, list[str]]


def tour() -> list[Step]:
    """Each command of the console blocks with the output pasted under it."""
    steps: list[Step] = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line.removeprefix("$ "), []))
            else:
                steps[-1][1].append(line)
    return steps


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a README command with this interpreter's sweep, as a user's shell would."""
    first, *arguments = shlex.split(command)
    assert first == "sweep"
    threads = str(os.cpu_count())
    return subprocess.run(
        [sys.executable, "-m", "sweep", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "CUDA_VISIBLE_DEVICES": "",
            "COLUMNS": "100",
        },
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


def masked(line: str) -> str:
    """A line without what differs by machine: numbers, hashes, chosen rules, spaces."""
    line = re.sub(r"-[0-9a-f]{8}\b", "-HASH", line)
    line = re.sub(r"\b(sqrt_model_size|model_size|unscaled|linear|sqrt)\b", "RULE", line)
    line = re.sub(r"\b(complete|pruned|failed)(, best rule)?", "STATE", line)
    line = re.sub(r"^Trials: .*", "Trials: #", line)
    line = re.sub(r"\binf\b", "#", line)
    line = re.sub(r"\b([\d.]+) (s|min|h)\b", r"\1 UNIT", line)
    line = re.sub(r"[\d,]*\d\.?\d*(e-?\d+)?", "#", line)
    return re.sub(r"\s+", " ", re.sub(r"─+", "-", line)).strip()


@pytest.mark.timeout(1200)
def test_the_tour_is_true(tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(SMALL, encoding="utf-8")
    steps = tour()
    assert len(steps) >= 8
    for command, pasted in steps:
        done = run(command, tmp_path)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        if command.startswith(EXACT):
            said = [line.split() for line in done.stdout.splitlines()]
            assert [line.split() for line in pasted] == said
            continue
        lines = {masked(line) for line in done.stdout.splitlines()}
        missing = [line for line in pasted if line != "..." and masked(line) not in lines]
        assert not missing, f"{command}: not said any more: {missing}\n{done.stdout}"


def test_the_install_lines_run_the_tour_s_main_job_and_the_tests() -> None:
    install = re.search(r"<!-- install and run -->\n```sh\n(.*)\n```", README)
    test = re.search(r"<!-- install and test -->\n```sh\n(.*)\n```", README)
    assert install is not None
    assert test is not None
    main_job = install.group(1).rpartition(".venv/bin/")[2]
    assert main_job in [command for command, _ in tour()]
    assert test.group(1).endswith("&& .venv/bin/pytest")


def inline_commands() -> list[str]:
    """Every `sweep ...` in running text."""
    return sorted(set(re.findall(r"`(sweep [a-z]+[^`\n]*)`", README)))


@pytest.mark.parametrize("command", inline_commands())
def test_commands_in_running_text_exist_with_their_options(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    context = click.Context(cli)
    found = cli.get_command(context, name)
    assert found is not None, name
    options = {option for parameter in found.params for option in parameter.opts}
    assert [word for word in arguments if word.startswith("-") and word not in options] == []
