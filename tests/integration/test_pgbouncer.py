"""A sweep on PostgreSQL behind PgBouncer, which gives each transaction another connection."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from support import Workspace, wait_for

pytestmark = pytest.mark.more

SETTINGS = """\
[databases]
* = host=127.0.0.1 port={server} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = 3
ignore_startup_parameters = extra_float_digits
"""


@pytest.fixture
def bouncer(postgres: servers.Postgres, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh database behind it."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    database = postgres.fresh().rpartition("/")[2]
    port, folder = servers.free_port(), postgres.folder
    file = folder / f"bouncer-{port}.ini"
    user = f"'{servers.USER}'"
    text = SETTINGS.format(
        server=postgres.port, user=user, password=f"'{servers.PASSWORD}'", port=port, folder=folder
    )
    file.write_text(text, encoding="utf-8")
    file.chmod(0o644)
    owner = {"user": "postgres", "group": "postgres", "extra_groups": []}
    running = subprocess.Popen([program, str(file)], **(owner if os.geteuid() == 0 else {}))
    with contextlib.ExitStack() as ends:
        ends.callback(running.wait)
        ends.callback(running.terminate)
        wait_for(lambda: (folder / f".s.PGSQL.{port}").exists())
        yield f"postgresql://{servers.USER}@127.0.0.1:{port}/{database}"


def test_a_whole_sweep_runs_behind_it(workspace: Workspace, bouncer: str) -> None:
    said = workspace.sweep("run", "--trials", 3, "--epochs", 2, "--storage", bouncer, "--json")
    ended = [event for event in said.events if event["event"] == "trial_ended"]
    assert [event["trial"]["state"] for event in ended] == ["complete"] * 3
    assert workspace.sweep("report", "--storage", bouncer).code == 0
