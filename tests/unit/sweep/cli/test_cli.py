"""The command line itself: its flags, what it makes of errors, and how its layers lie."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError
from support import Workspace, open_ledger, refusal

from studies.errors import StudyError
from sweep import __version__
from sweep.cli import cli, main
from sweep.cli.commands.run import command as run
from sweep.cli.options import load_config
from sweep.config.messages import FLAGS, named
from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.url import masked
from trainers.errors import TrainerError
from trainers.refusals import shown

# Small on purpose: anything else is --set KEY=VALUE. A new flag is added here as well.
RUN_FLAGS = (
    "--batch --precision --profile --device --config --study --storage --trials --epochs "
    "--until --timeout --trial-timeout --hang-timeout --seed --model --data --range --trainer "
    "--rates --workers --devices --executor --ray-address --gpus-per-trial "
    "--plan --no-transfer --join --dry-run --json --set "
    "--metric --direction --steps --tokens --pattern --optimizer --same-program program "
    "--with --decay-range"
)


def test_the_flags_of_run_are_these_and_no_more() -> None:
    flags = {flag for parameter in run.params for flag in parameter.opts}
    assert flags == set(RUN_FLAGS.split())


def test_every_flag_for_a_key_is_a_flag_of_run() -> None:
    assert {f"--{flag}" for flag in FLAGS} <= set(RUN_FLAGS.split())


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Has `sweep status` raise an error."""

    def fail_with(error: BaseException) -> None:
        def command() -> None:
            raise error

        monkeypatch.setattr(
            cli, "get_command", lambda ctx, name: click.Command(name, callback=command)
        )

    return fail_with


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SweepError("there is no such thing"), "there is no such thing"),
        (TrainerError("data.name: no text"), "data.name: no text"),
        (StudyError("two\n  lines"), "two lines"),
        (click.UsageError("no such option"), "no such option"),
        (PermissionError(13, "Permission denied", "runs"), "Permission denied: runs"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (
            OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked")),
            "the database cannot be used: database is locked. What was stored before is kept",
        ),
        (
            StorageInternalError("it is gone"),
            "the database cannot be used: it is gone. What was stored before is kept",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_user_can_mend_is_one_line_and_exit_2(
    fails: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    line: str,
) -> None:
    fails(error)
    with pytest.raises(SystemExit) as end:
        main(["status"])
    assert end.value.code == 2
    assert capsys.readouterr() == ("", f"sweep: {line}\n")


def test_our_own_mistakes_keep_their_traceback(fails: Callable[[BaseException], None]) -> None:
    fails(AssertionError("ours"))
    with pytest.raises(AssertionError, match="ours"):
        main(["status"])


def test_a_second_interrupt_exits_130_and_says_how_to_go_on(
    fails: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fails(KeyboardInterrupt())
    with pytest.raises(SystemExit) as end:
        main(["status"])
    assert end.value.code == 130
    # click ends the terminal's line, the one with its ^C, first.
    assert capsys.readouterr().err == "\nsweep: stopped at once; the same command goes on\n"


def test_without_a_command_it_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert "Usage: sweep" in capsys.readouterr().out


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert __version__ in capsys.readouterr().out


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "sweep.toml"


def loaded(**flags: object) -> SweepConfig:
    return load_config(check=False, profile="cpu", **flags)  # type: ignore[arg-type]


def test_each_layer_lies_over_the_one_before(here: Path) -> None:
    assert loaded().trainer.epochs == 10  # the shipped [profiles.cpu.trainer]
    here.write_text("[trainer]\nepochs = 3\npatience = 4\n")
    assert loaded().trainer.epochs == 3  # a file's own keys over the shipped profile
    here.write_text("[trainer]\nepochs = 3\n[profiles.cpu.trainer]\nepochs = 5\n")
    assert loaded().trainer.epochs == 5  # its profile over its own keys
    assert loaded(assignments=("trainer.epochs=6",)).trainer.epochs == 6
    assert loaded(assignments=("trainer.epochs=6",), epochs=7).trainer.epochs == 7


def test_the_last_assignment_of_a_key_counts(here: Path) -> None:
    twice = ("trainer.weight_decay=0.1", "trainer.weight_decay=0.2")
    assert loaded(assignments=twice).trainer.weight_decay == 0.2


def test_a_zero_is_no_missing_flag(here: Path) -> None:
    assert loaded(assignments=("trainer.seed=5",), seed=0).trainer.seed == 0


def test_a_key_is_named_with_its_flag() -> None:
    assert named("trainer.batch_size") == "trainer.batch_size (--batch)"
    assert named("study.range.0") == "study.range.0 (--range)"
    assert named("trainer.eps") == "trainer.eps"
    assert named("devices") == "devices"


def test_a_long_value_is_cut_off() -> None:
    assert shown("x" * 1000) == "'" + "x" * 79 + "..."
    assert shown(0.5) == "0.5"


@pytest.mark.parametrize(
    ("storage", "shown_as"),
    [
        ("postgresql://me:secret@host/base", "postgresql://me:***@host/base"),
        ("postgresql://me:p@ss:w/rd@host/base", "postgresql://me:***@host/base"),
        ("postgresql://me@host/base", "postgresql://me@host/base"),
        (
            "postgresql://host/base?user=me&password=secret&sslmode=require",
            "postgresql://host/base?user=me&password=***&sslmode=require",
        ),
        ("postgresql://me:two words@host/base", "postgresql://me:***@host/base"),
        ("--storage=postgresql://me:secret@host/base", "--storage=postgresql://me:***@host/base"),
        (
            "postgresql://host/base?passwd=a b&sslpassword=c",
            "postgresql://host/base?passwd=***&sslpassword=***",
        ),
        ("me@home:else", "me@home:else"),
        ("sqlite:///sweep.db", "sqlite:///sweep.db"),
        ("results/sweep.db", "results/sweep.db"),
        ("://x", "://x"),
    ],
)
def test_a_password_is_not_shown(storage: str, shown_as: str) -> None:
    assert masked(storage) == shown_as


def test_the_folders_sweep_toml_says_which_database_is_read(workspace: Workspace) -> None:
    (workspace.path / "kept").mkdir()
    with open_ledger(workspace.path / "kept"):
        pass
    text = (workspace.path / "sweep.toml").read_text()
    workspace.write("sweep.toml", f"{text}\n[study]\nstorage = 'kept/sweep.db'\n")
    assert "study" in workspace.invoke("list").out
    assert "study" in workspace.invoke("status").out
    workspace.invoke("add", "--rate", "1e-3", "--perplexity", "30")
    assert "by hand" in workspace.invoke("show", "0").out
    assert "trial 0 of study" in workspace.invoke("export", "-o", "mine best.yaml").out
    assert "sweep train 'mine best.yaml'" in workspace.invoke("export", "-o", "mine best.yaml").out
    workspace.invoke("backup", "copy.db")
    workspace.write("sweep.toml", f"{text}\n[study]\nname = 'x'\nstorage = 'kept/sweep.db'\n")
    assert "there is no study 'x'" in refusal(workspace.invoke("status", code=2))
    workspace.invoke("status", "--storage", "copy.db")


def test_an_output_replaces_no_database_and_may_be_standard_output(workspace: Workspace) -> None:
    with open_ledger(workspace.path):
        pass
    workspace.invoke("add", "--rate", "1e-3", "--perplexity", "30")
    database = (workspace.path / "sweep.db").read_bytes()
    for words in ("export -o sweep.db", "export --format hf -o sweep.db"):
        said = refusal(workspace.invoke(*words.split(), code=2))
        assert "sweep.db was not written by this command" in said
        assert "--force" in said
    workspace.write("notes.md", "mine")
    assert "notes.md" in refusal(workspace.invoke("report", "-o", "notes.md", code=2))
    for words in ("report -o notes.md --force", "report -o notes.md", "report -o page.html"):
        workspace.invoke(*words.split())
        assert (workspace.path / "sweep.db").read_bytes() == database
    for words in ("report -o page.html", "report -o all.json", "report -o all.json", "export"):
        workspace.invoke(*words.split())
    shown = workspace.invoke("export", "-o", "-")
    assert shown.out == (workspace.path / "best.yaml").read_text()
    assert "trial 0 of study" in shown.err
    assert workspace.invoke("report", "-o", "-").out.startswith("# Learning-rate report of study")
    workspace.invoke("report", "--png", "pictures")
    workspace.invoke("report", "--png", "pictures")


def test_a_sweep_toml_is_replaced_by_force_alone(workspace: Workspace) -> None:
    before = (workspace.path / "sweep.toml").read_text()
    assert "--force" in refusal(workspace.invoke("init", code=2))
    assert (workspace.path / "sweep.toml").read_text() == before
    workspace.invoke("init", "--force")
    written = (workspace.path / "sweep.toml").read_text()
    assert written != before
    assert workspace.invoke("init", "-").out == written
    workspace.invoke("init", "other.toml")
    assert (workspace.path / "other.toml").read_text() == written
