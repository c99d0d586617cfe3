"""The README is run as written, and docs/ after it: in one folder, from the first command on.

The commands are the documents'; a sweep.toml beside them makes the sweep small, for CI's sake.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from sweep.cli import cli
from trainers.report import Outcome

ROOT = Path(__file__).parent.parent.parent
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDE = ROOT / "CONTRIBUTING.md"  # whose package is another test's
README, *_ = TEXTS = [file.read_text(encoding="utf-8") for file in FILES]
# They take finished studies with three whole trials, or train many.
ONLY_CHECKED = ("sweep predict", "sweep plan", "sweep run --plan", "sweep run --model")
# Exact on every machine; the rest is measured or hashed, so its numbers are masked.
EXACT = ("sweep priors",)

SMALL = """
[study]
trials = 4

[profiles.cpu.trainer]
lr_schedule = { warmup_share = 0.0 }

[profiles.cpu.data]
train_sequences = 8192
validation_sequences = 500

[profiles.cpu.models.context_vector]
embed = 32
hidden = 32
layers = 1
context = 32

[profiles.cpu.reference]
parameters = 70312
"""

Step = tuple[str, list[str]]


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """The fenced blocks of a document: their language, and their lines."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [(language, block.splitlines()) for language, block in found]


def tour() -> list[Step]:
    """Each command of the console blocks with the output pasted under it, and those of sh."""
    steps: list[Step] = []
    for language, lines in [block for text in TEXTS for block in blocks(text)]:
        if language == "sh":
            steps += [(line, []) for line in lines if line.startswith("sweep ")]
        for line in lines if language == "console" else ():
            if line.startswith("$ "):
                steps.append((line.removeprefix("$ "), []))
            else:
                steps[-1][1].append(line)
    return steps


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a document's command with this interpreter's sweep, as a user's shell would."""
    first, *arguments = shlex.split(command, comments=True)
    assert first == "sweep"
    return subprocess.run(
        [sys.executable, "-m", "sweep", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
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
    steps = [step for step in tour() if not step[0].startswith(ONLY_CHECKED)]
    assert len(steps) >= 10
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


def test_your_own_script_is_swept_as_written(tmp_path: Path) -> None:
    _, script = README.split("<!-- your own script -->\n```python\n", 1)
    script, rest = script.split("```\n", 1)
    (command,) = dict(blocks(rest))["shell"]
    (tmp_path / "train.py").write_text(script, encoding="utf-8")
    done = run(command.replace("sweep run", "sweep run --trials 3"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Best learning rate .*, validation loss [12]\.", done.stdout, re.MULTILINE)
    assert "step 300/300" in done.stdout


def named_commands() -> list[str]:
    """Every `sweep ...` in running text, and those of the blocks that are not run."""
    texts = [*TEXTS, GUIDE.read_text(encoding="utf-8")]
    found = {command for text in texts for command in re.findall(r"`(sweep [a-z-]+[^`]*)`", text)}
    listed = {command for command, _ in tour() if command.startswith(ONLY_CHECKED)}
    return sorted(" ".join(command.split()) for command in found | listed)


@pytest.mark.parametrize("command", named_commands())
def test_commands_in_running_text_exist_with_their_options(command: str) -> None:
    _, name, *arguments = shlex.split(command.partition(" -- ")[0])
    if name.startswith("-"):
        return
    context = click.Context(cli)
    found = cli.get_command(context, name)
    assert found is not None, name
    options = {option for parameter in found.params for option in parameter.opts} | {"--help"}
    assert [word for word in arguments if word.startswith("-") and word not in options] == []


def test_the_tour_is_short() -> None:
    whole = README.partition("## A tour\n")[2].partition("\n## ")[0]
    assert len(whole.splitlines()) <= 120


@pytest.mark.parametrize("file", [*FILES, GUIDE], ids=lambda file: file.name)
def test_what_a_document_links_to_is_there(file: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text(encoding="utf-8"))
    assert [link for link in links if not (file.parent / link).exists()] == []


@pytest.mark.parametrize("outcome", Outcome)
def test_how_a_trial_may_end_is_explained(outcome: Outcome) -> None:
    explained = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    whole = f"| {outcome.sentence} |" in explained
    assert whole or f"| {outcome.sentence.partition(':')[0]}: ... |" in explained


@pytest.mark.parametrize("file", [*FILES, GUIDE], ids=lambda file: file.name)
def test_settings_that_a_document_names_exist(file: Path) -> None:
    known = tomllib.loads((ROOT / "sweep.toml").read_text(encoding="utf-8"))
    for table, key in re.findall(r"`(?:--set )?(study|trainer|data)\.(\w+)[`= ]", file.read_text()):
        assert key in known[table], f"{table}.{key}"


@pytest.mark.parametrize("file", [*FILES, GUIDE], ids=lambda file: file.name)
def test_what_a_document_names_of_the_repository_is_there(file: Path) -> None:
    named = re.findall(r"`((?:sweep|studies|trainers|tests)/[\w/.]*)", file.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("package", ["sweep", "studies", "trainers"])
def test_the_map_has_every_room(package: str) -> None:
    rooms = [
        package,
        *(f"{package}/{file.parent.name}" for file in ROOT.glob(f"{package}/*/__init__.py")),
    ]
    table = "".join(line for line in GUIDE.read_text().splitlines() if line.startswith("| "))
    assert [room for room in rooms if f"`{room}`" not in table and room != "sweep"] == []
