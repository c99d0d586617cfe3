"""Completion as a shell asks for it: by its script, and by the variables that the script sets."""

import os
import shutil
import subprocess
import sys

import pytest
from support import Workspace, open_ledger


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_shells_own(workspace: Workspace, shell: str) -> None:
    script = workspace.invoke("completion", shell).out
    assert f"_SWEEP_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        checked = [shell, "-n"] if shell != "fish" else [shell, "--no-execute"]
        subprocess.run(checked, input=script, text=True, check=True, timeout=60)


def complete(workspace: Workspace, *words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "sweep"],
        cwd=workspace.path,
        env={
            **os.environ,
            "_SWEEP_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["sweep", *words]),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_commands_options_and_studies_are_offered(workspace: Workspace) -> None:
    with open_ledger(workspace.path):
        pass
    assert complete(workspace, "co") == ["compare", "completion", "confirm"]
    assert complete(workspace, "export", "--form") == ["--format"]
    assert complete(workspace, "export", "--format", "h") == ["hf"]
    assert complete(workspace, "status", "--study", "st") == ["study"]
    assert complete(workspace, "status", "--storage", "none.db", "--study", "") == []


def test_a_file_that_is_no_database_offers_nothing(workspace: Workspace) -> None:
    workspace.write("sweep.db", "no database at all")
    assert complete(workspace, "status", "--study", "") == []
