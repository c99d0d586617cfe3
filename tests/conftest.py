"""Fixtures that several suites share."""

import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import pytest
import servers
import support
from support import Workspace, write_english

# One thread: tiny models are no faster with two, and beside other programs OpenMP's idle threads
# made a test of 0.15 s take 40 s. Read when torch is loaded, which is later.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# What a started process was at when it aborted stands in its stderr.
os.environ.setdefault("PYTHONFAULTHANDLER", "1")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what a failed process wrote: its exception tells the exit status alone."""
    report = yield
    error = call.excinfo and call.excinfo.value
    if isinstance(error, subprocess.CalledProcessError | subprocess.TimeoutExpired):
        for name, written in (("stdout", error.stdout), ("stderr", error.stderr)):
            report.sections.append((f"{name} of the process", str(written)))
    return report


@pytest.fixture(autouse=True, scope="session")
def _quiet_optuna() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(verbosity)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--postgres`: the ledger's tests on a real server, in place of SQLite."""
    parser.addoption("--postgres", action="store_true", help="the ledger's tests on PostgreSQL")


@pytest.fixture(autouse=True, scope="session")
def _storage(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.config.getoption("--postgres"):
        support.SERVER.append(request.getfixturevalue("postgres"))
    yield
    support.SERVER.clear()


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    """A PostgreSQL server with no study in it."""
    pytest.importorskip("psycopg")
    if servers.program("initdb") is None:
        pytest.skip("PostgreSQL is not installed")
    server = servers.Postgres()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine, with a CPU each."""
    utilities = pytest.importorskip("ray.cluster_utils")
    node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20}
    made = utilities.Cluster(
        initialize_head=True, head_node_args=node | {"include_dashboard": False}
    )
    made.add_node(**node)
    with mock.patch.dict(os.environ, RAY_ADDRESS=made.address):
        yield made
    made.shutdown()


@pytest.fixture(scope="session")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real English text: about 450 training windows of 16 tokens."""
    folder = tmp_path_factory.mktemp("text") / "english"
    write_english(folder)
    return folder


@pytest.fixture
def workspace(tmp_path: Path, english: Path) -> Workspace:
    """A working folder of the test's own, with a sweep.toml for a tiny model."""
    return Workspace(tmp_path, english)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    """A whole sweep of five trials by the command line; to be read, not changed."""
    workspace = Workspace(tmp_path_factory.mktemp("finished"), english)
    workspace.said = workspace.sweep("run", "--trials", 5)
    return workspace
