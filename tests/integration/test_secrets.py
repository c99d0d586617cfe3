"""No command shows the password of a database's URL, whatever it does with it."""

import click
import optuna_dashboard
import pytest
from servers import PASSWORD, URL_PASSWORD, Postgres
from support import Workspace, refusal

from sweep.cli import cli, command_kind

pytestmark = pytest.mark.more

# Of every command that takes a database: what else it is given.
ARGUMENTS = {
    "add": "--rate 1e-3 --perplexity 20",
    "backup": "copy.db",
    "calibrate": "",
    "compare": "",
    "confirm": "",
    "dashboard": "",
    "export": "",
    "list": "",
    "predict": "--batch 128",
    "reproduce": "seed-table",
    "report": "",
    "run": "",
    "show": "0",
    "status": "",
}
# (password as it stands in the URL, what of it no line may hold)
PASSWORDS = [
    ("s3cret", ["s3cret"]),
    ("two s3cret words", ["two", "s3cret", "words"]),
    ("s3c@ret", ["s3c", "ret"]),
    ("s3cret%40host", ["s3cret"]),
    ("s3:cr@et/s3cret", ["s3:cr", "s3cret"]),
]


def test_every_command_that_takes_a_database_is_tried() -> None:
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in command_kind().names()}
    takes = {
        name
        for name, made in found.items()
        if made and "storage" in [option.name for option in made.params]
    }
    assert takes == set(ARGUMENTS)


@pytest.mark.parametrize(("password", "secrets"), PASSWORDS)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_server_that_does_not_answer_is_named_without_it(
    workspace: Workspace, name: str, password: str, secrets: list[str]
) -> None:
    storage = f"postgresql://me:{password}@127.0.0.1:1/x"
    done = workspace.invoke(name, *ARGUMENTS[name].split(), "--storage", storage, code=2)
    assert "me:***@127.0.0.1:1/x" in refusal(done)
    assert not [secret for secret in secrets if secret in done.out + done.err]


def test_nor_where_sweep_toml_has_it(workspace: Workspace) -> None:
    text = "[study]\nstorage = 'postgresql://me:s3cret@127.0.0.1:1/x'\n"
    workspace.write("other.toml", text)
    for words in ("run --config other.toml", "run --set study.storage=3"):
        assert "s3cret" not in workspace.invoke(*words.split(), code=2).err


def test_what_a_server_keeps_is_shown_without_it(
    workspace: Workspace, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers, suggested commands, files: all commands where they succeed, one after another."""
    monkeypatch.setattr(optuna_dashboard, "run_server", lambda *_, **__: None)
    url = postgres.url("secrets")
    words = {**ARGUMENTS, "run": "--trials 3 --study mine", "export": "--study mine"}
    left_out = ("reproduce", "calibrate", "compare", "confirm", "backup")  # long, or refused
    order = ["run", *(name for name in words if name not in ("run", *left_out))]
    said = [workspace.invoke(each, *words[each].split(), "--storage", url) for each in order]
    texts = [done.out + done.err for done in said]
    texts += [
        file.read_text(encoding="utf-8", errors="replace")
        for file in workspace.path.rglob("*")
        if file.is_file()
    ]
    for secret in (PASSWORD, URL_PASSWORD):
        assert not [text for text in texts if secret in text]
    assert all("sweeper:***@127.0.0.1" in done.out for done in (said[0], said[-1]))
