"""A PostgreSQL server of the tests' own: a real one, in a temporary directory."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from sweep.storage.connect import open_storage

USER, PASSWORD = "sweeper", "s3cret:p@ss"
URL_PASSWORD = "s3cret%3Ap%40ss"
# What is lost with the machine is lost with the tests: the disk need not be waited for. A commit
# is written all the same before it is said, so that a crash of the server alone loses none.
FAST = ("fsync=off", "full_page_writes=off")
PLACES = "/usr/lib/postgresql/*/bin"  # Debian's, which are not on the path


def program(name: str) -> str | None:
    """A program of PostgreSQL, None where it is not installed."""
    found = sorted(Path("/").glob(f"{PLACES[1:]}/{name}"))
    return str(found[-1]) if found else shutil.which(name)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Postgres:
    """A server that asks for a password, on 127.0.0.1.

    It runs as the user `postgres` where the tests are root's, as the server itself demands.
    """

    def __init__(self) -> None:
        self._made = 0
        self._root = os.geteuid() == 0
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._data = self.folder / "data"
        self.port = free_port()
        if self._root:
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        account = ["--username", USER, "--pwfile", str(password), "--auth", "scram-sha-256"]
        self._run("initdb", "-D", str(self._data), *account, "--no-sync", "-E", "UTF8")
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        settings = (f"port={self.port}", f"unix_socket_directories={self.folder}", *FAST)
        options = " ".join(f"-c {setting}" for setting in settings)
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", self._log, "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stops it: "fast" ends every session, "immediate" is a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", mode, "stop")

    def url(self, name: str, *, create: bool = True) -> str:
        """The URL of a database, password and all; a new one unless it is there."""
        if create:
            self.sql("postgres", f'create database "{name}"')
        return f"postgresql://{USER}:{URL_PASSWORD}@127.0.0.1:{self.port}/{name}"

    def fresh(self) -> str:
        """The URL of a new database that has Optuna's tables, and no study."""
        if not self._made:
            open_storage(self.url("template"), create=True).engine.dispose()
        self._made += 1
        name = f"study{self._made}"
        self.sql("postgres", f'create database "{name}" template "template"')
        return self.url(name, create=False)

    def sql(self, name: str, query: str) -> str:
        """What psql says to a query."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", name]
        return self._run("psql", *where, "-v", "ON_ERROR_STOP=1", "-tAc", query).strip()

    def remove(self) -> None:
        """Stops it for good."""
        self.stop("immediate")
        shutil.rmtree(self.folder)

    @property
    def _log(self) -> str:
        return str(self.folder / "log")

    def _run(self, name: str, *arguments: str) -> str:
        path = program(name)
        assert path is not None
        done = subprocess.run(
            [path, *arguments],
            check=True,
            text=True,
            stdin=subprocess.DEVNULL,
            # Not a pipe: the server inherits it, and would keep it open.
            stdout=subprocess.PIPE if name == "psql" else subprocess.DEVNULL,
            env={**os.environ, "PGPASSWORD": PASSWORD, "LC_ALL": "C"},
            user="postgres" if self._root else None,
            group="postgres" if self._root else None,
            extra_groups=[] if self._root else None,
            cwd="/",
        )
        return done.stdout or ""
