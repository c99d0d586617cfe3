"""What every command must keep, found by its file: a new one is tested before its own test is."""

import contextlib
import importlib
import io
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from support import Workspace, refusal

from sweep.cli import SECTIONS, command_kind, main

ROOT = Path(__file__).parents[2]
NAMES = sorted(command_kind().built_in)
HEAVY = ("torch", "optuna", "datasets", "pandas", "sqlalchemy", "tokenizers")
# It reads entry points, slowly: not before an installed package is known to have some of ours.
LATER = "importlib.metadata"

# Asks for every command's help in one fresh process, and says what that has loaded.
EVERY_HELP = """
import json, sys
from sweep.cli import main
for name in {names}:
    main([*name, "--help"])
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def command(name: str) -> click.Command:
    found = command_kind().find(name)
    assert isinstance(found, click.Command)
    return found


def help_of(*arguments: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main([*arguments, "--help"])
    return out.getvalue()


def test_it_says_what_it_is_for(name: str) -> None:
    text = command(name).help or ""
    assert len(text.split()) >= 4
    assert text.splitlines()[0].endswith(".")
    # All of it, and wrapped to the terminal.
    assert " ".join(text.split()) in " ".join(help_of(name).split())
    assert f"Usage: sweep {name}" in help_of(name)


def test_the_list_of_commands_has_it_in_a_section(name: str) -> None:
    assert f"\n  {name} " in help_of()
    assert [name in section for section in SECTIONS.values()].count(True) == 1


def test_every_option_has_a_help_text(name: str) -> None:
    options = [each for each in command(name).params if isinstance(each, click.Option)]
    plain = ("output", "port")  # their names and defaults say it
    assert [each.name for each in options if not each.help and each.name not in plain] == []


def test_its_module_says_which_command_it_is(name: str) -> None:
    module = importlib.import_module(command_kind().built_in[name].partition(":")[0])
    assert f"`sweep {name}`" in (module.__doc__ or "")


def test_the_documents_mention_it(name: str) -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert any(f"sweep {name}" in file.read_text(encoding="utf-8") for file in documents)


def test_an_unknown_option_is_one_line_and_exit_2(name: str, workspace: Workspace) -> None:
    line = refusal(workspace.invoke(name, "--no-such-option", code=2))
    assert "--no-such-option" in line


def test_too_many_arguments_are_one_line_and_exit_2(name: str, workspace: Workspace) -> None:
    refusal(workspace.invoke(name, "1", "2", "3", code=2))


def test_help_loads_nothing_heavy() -> None:
    script = EVERY_HELP.format(names=[[], *([name] for name in NAMES)])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert [module for module in (*HEAVY, LATER) if module in loaded] == []
    assert "sweep.cli.commands.run" in loaded
