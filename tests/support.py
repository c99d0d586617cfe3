"""A user's working folder, and `sweep` run in it as a user would: by its command line."""

import argparse
import contextlib
import copy
import dataclasses
import functools
import inspect
import io
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self
from unittest import mock

import optuna
import sqlalchemy
from optuna.study import Study
from servers import Postgres

from studies.definition import Identity
from studies.prior import Centre
from sweep.cli import main
from sweep.execution.protocol import SHARED_TRAINER
from sweep.orchestration.ledger import Ledger
from sweep.orchestration.strategy import SearchSettings
from sweep.storage.connect import open_storage, storage_url
from trainers.config import TrainConfig
from trainers.report import Outcome, Report, Verdict

ENDED = {
    Verdict.CONTINUE: Outcome.COMPLETED,
    Verdict.PRUNE: Outcome.PRUNED,
    Verdict.PAUSE: Outcome.PAUSED,
}
WAIT_S = 120.0  # no test waits this long: it only ends what would never end
RATES = {"sqrt": 1e-2, "unscaled": 1e-3, "linear": 1e-1}
SOURCES = (argparse, json, subprocess, textwrap)
VOCABULARY = 300
# What `TINY` below comes to: its own reference and windows, so that nothing depends on ours.
PARAMETERS = 11276

TINY = """\
profile = "cpu"

# All trials and all their epochs: what the search leaves out is for the tests that are about it.
[profiles.cpu.study]
cohort = 1
keep = "all"
publish = false
until = ""
pruner = "none"

[trainer]
batch_size = 64
precision = "fp32"
epochs = 3
lr_schedule.name = "constant"

[data]
name = "{data}"
vocabulary_size = 300
window = 16
stride = 8
train_sequences = 0
validation_sequences = 0

[models.context_vector]
embed = 16
hidden = 16
layers = 1
context = 16

[profiles.cpu.reference]
learning_rate = 3e-2
batch_size = 32
parameters = 11276
precision = "fp32"
perplexity = 60.0
model = "context_vector"
data = "{data}"
epochs = 3
swept = true
"""


@contextlib.contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Within it, whatever makes the host wait for the CUDA device raises."""
    import torch  # which most of those who use this file need not wait for

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


def write_english(folder: Path) -> None:
    """Writes real English, a few thousand words of it: one file a module of the library."""
    folder.mkdir()
    for module in SOURCES:
        text = "\n\n".join(dict.fromkeys(_docstrings(module)))
        (folder / f"{module.__name__}.txt").write_text(text, encoding="utf-8")


def _docstrings(module: ModuleType) -> Iterator[str]:
    for owner in (module, *filter(inspect.isclass, vars(module).values())):
        for _, member in sorted(vars(owner).items()):
            if callable(member) and (text := inspect.getdoc(member)):
                yield text


@dataclasses.dataclass(frozen=True)
class Done:
    """A command that ended: its exit code and what it said."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of --json: every one of them is strict JSON."""
        return [strict_json(line) for line in self.out.splitlines()]


def strict_json(line: str) -> dict[str, Any]:
    """Reads one line; NaN and Infinity are no JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON: {line}")

    found: dict[str, Any] = json.loads(line, parse_constant=refuse)
    return found


class Workspace:
    """A folder with a sweep.toml, and what a user does in it."""

    def __init__(self, path: Path, data: Path) -> None:
        path.mkdir(exist_ok=True)
        self.path = path
        self.said = Done(0, "", "")  # what the run that made it said, where a fixture ran one
        self.write("sweep.toml", TINY.format(data=data))

    def write(self, name: str, text: str) -> Path:
        """Writes a file of the user's own."""
        file = self.path / name
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return file

    def sweep(self, *arguments: object, code: int = 0) -> Done:
        """Runs a command in a process of its own, to its end."""
        with self.start(*arguments) as live:
            return live.end(code)

    def start(self, *arguments: object) -> "Live":
        """Starts a command in a process group of its own, as a shell does."""
        return Live(self, [str(argument) for argument in arguments])

    def invoke(self, *arguments: object, code: int = 0) -> Done:
        """The same command line in this process: four seconds of imports less."""
        out, err, left = io.StringIO(), io.StringIO(), 0
        with (
            contextlib.chdir(self.path),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.dict(os.environ, self.environment),
        ):
            try:
                main([str(argument) for argument in arguments])
            except SystemExit as end:
                left = int(end.code or 0)
        return expect(Done(left, out.getvalue(), err.getvalue()), code)

    @property
    def environment(self) -> dict[str, str]:
        """One thread: so small a model gains nothing from two, and others share the cores."""
        quiet = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", "HF_HUB_OFFLINE": "1"}
        return {**os.environ, **quiet, "COLUMNS": "120"}

    def study(self, database: str = "sweep.db") -> Study:
        """The one study of a database, by Optuna itself."""
        url = f"sqlite:///{self.path / database}"
        (name,) = optuna.get_all_study_names(url)
        return optuna.load_study(study_name=name, storage=url)

    def curves(self, database: str = "sweep.db") -> dict[int, dict[int, float]]:
        """Every trial's perplexities by step."""
        trials = self.study(database).get_trials(deepcopy=False)
        return {trial.number: trial.intermediate_values for trial in trials}

    def states(self, database: str = "sweep.db") -> list[str]:
        """Every trial's state."""
        return [trial.state.name for trial in self.study(database).get_trials(deepcopy=False)]

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Reads or spoils the database beside Optuna."""
        with contextlib.closing(sqlite3.connect(self.path / "sweep.db")) as connection, connection:
            return connection.execute(query, values).fetchall()

    def copy_to(self, path: Path) -> "Workspace":
        """The same folder elsewhere."""
        shutil.copytree(self.path, path)
        copied = copy.copy(self)
        copied.path = path
        return copied

    def folder(self, number: int) -> Path:
        """A trial's folder."""
        (found,) = self.path.glob(f"runs/*/{number:04d}")
        return found


class Live:
    """A command under way. A context manager: leaving it kills what still runs."""

    def __init__(self, workspace: Workspace, arguments: list[str]) -> None:
        self._lines: list[str] = []
        self._err = (workspace.path / "stderr.txt").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sweep", *arguments],
            cwd=workspace.path,
            env=workspace.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._err,
            text=True,
            start_new_session=True,
        )

    def until(self, event: str, **fields: object) -> dict[str, Any]:
        """Reads JSON lines up to an event that has these fields, in itself or one level below."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)
            said = strict_json(line)
            flat = said | said.get("trial", {}) | said.get("progress", {}) | said.get("report", {})
            if said["event"] == event and all(flat[key] == fields[key] for key in fields):
                return said
        raise AssertionError(f"it ended without {event} {fields}: {self._errors()}")

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Sends a signal: to the process, or to its group as a terminal's Ctrl-C does."""
        os.killpg(self.process.pid, number) if group else self.process.send_signal(number)

    def end(self, code: int) -> Done:
        """Waits for the end, and checks the exit code; all that was said is in the answer."""
        assert self.process.stdout is not None
        out = "".join([*self._lines, *self.process.stdout])
        self.process.wait(WAIT_S)
        return expect(Done(self.process.returncode, out, self._errors()), code)

    def _errors(self) -> str:
        self._err.flush()
        self._err.seek(0)
        return self._err.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._err.close()


def expect(done: Done, code: int) -> Done:
    """Checks an exit code, and shows what was said where it is another."""
    assert done.code == code, f"exit code {done.code}\n{done.out[-3000:]}\n{done.err}"
    assert "Traceback" not in done.err, done.err
    return done


def refusal(done: Done) -> str:
    """The one line that a refused command says."""
    (line,) = done.err.splitlines()
    assert line.startswith("sweep: ")
    return line


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def wait_for(happened: Callable[[], bool]) -> None:
    """Waits until something is so, however slow the machine is."""
    deadline = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Waits for a process to end."""
    wait_for(lambda: not alive(pid))
    return True


def open_ledger(
    folder: Path,
    *,
    identity: Identity | None = None,
    train: TrainConfig | None = None,
    trainer: str = SHARED_TRAINER,
    join: bool = False,
    attributes: dict[str, Any] | None = None,
    **search: Any,
) -> Ledger:
    """A ledger on `folder`'s sweep.db, made or taken up again; `search` changes what it looks for.

    `attributes` are more of what a new study is told.

    Three rules ask for 1e-3, 1e-2 and 1e-1 between 1e-4 and 1; after them rates are random.
    """
    train = train or TrainConfig(learning_rate=1.0, epochs=3)
    rates = RATES
    usual = {
        "first": tuple(Centre(rate, (name,)) for name, rate in rates.items()),
        "rates": rates,
        "low": 1e-4,
        "high": 1.0,
        "widen": True,
        "trials": 5,
        "sampler": "random",
        "pruner": "patient-median",
        "floor": 0.6,
        "startup": 1,
        "trainer": trainer,
    }
    return Ledger(
        open_storage(storage_of(folder), create=True),
        "study",
        identity=identity or identity_of(train, trainer),
        attributes={**about(train, rates), **(attributes or {})},
        train=train,
        search=SearchSettings(**{**usual, **search}),
        directory=folder / "runs" / "study",
        join=join,
    )


def about(train: TrainConfig, rates: dict[str, float]) -> dict[str, Any]:
    """What a study is told of itself, by rules with these rates."""
    rules = [
        {"name": name, "learning_rate": rate, "formula": "lr0", "source": "a test"}
        for name, rate in rates.items()
    ]
    return {
        "profile": "cpu",
        "device": "cpu",
        "config": dataclasses.asdict(train),
        "parameters": 100,
        "reference": {"learning_rate": 1e-3, "batch_size": 32},
        "reference_text": "1e-3 at batch 32",
        "reference_perplexity": 60.0,
        "unigram_perplexity": 90.0,
        "unknown_share": 0.1,
        "training_tokens": 1000,
        "rules": rules,
        "versions": {"python": "3.11"},
    }


def identity_of(train: TrainConfig, trainer: str = SHARED_TRAINER) -> Identity:
    """What makes the trials of a test's study comparable."""
    fields = {k: v for k, v in dataclasses.asdict(train).items() if k != "learning_rate"}
    known = {"trainer": trainer, "data_source": "text", "data_fingerprint": "0" * 64, **fields}
    return Identity.of(known)


SERVER: list[Postgres] = []
"""The server that the ledger's tests use where pytest was called with --postgres."""


@functools.cache
def storage_of(folder: Path) -> str:
    """The database of a test's folder: a new one at the first call."""
    if SERVER:
        return SERVER[0].fresh()
    database = folder / "sweep.db"
    if not database.exists():
        database.write_bytes(empty_database())
    return f"sqlite:///{database}"


def sql(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """Reads or spoils the database of a test's folder beside Optuna."""
    engine = sqlalchemy.create_engine(storage_url(storage_of(folder)))
    with engine.begin() as connection:
        result = connection.exec_driver_sql(query)
        rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows


@functools.cache
def empty_database() -> bytes:
    """A database of Optuna's without a study: to make its tables each time takes longer."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sweep.db"
        open_storage(str(file), create=True).engine.dispose()
        return file.read_bytes()


MAKE = """\
    import sys
    from sweep.storage.connect import open_storage
    from sweep.storage.making import make_study

    print("ready", flush=True)
    sys.stdin.readline()
    storage = open_storage(sys.argv[1], create=True, say=print)
    make_study(storage, "mine", "perplexity")
"""


def make_at_once(url: str, processes: int) -> list[str]:
    """Makes one database and one study in it by several processes; gives what they said."""
    command, pipe = [sys.executable, "-c", textwrap.dedent(MAKE), url], subprocess.PIPE
    makers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        for _ in range(processes)
    ]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("\n")
        maker.stdin.flush()
    return [maker.communicate()[0] for maker in makers]


def play(
    ledger: Ledger,
    curve: Callable[[float], float],
    *,
    trials: int = 9,
    diverges: Callable[[float], bool] = lambda _: False,
) -> None:
    """Runs trials whose perplexity after the last epoch is curve(rate), each as far as it is let.

    One that was left after a look and is asked for again counts once more.
    """
    epochs = ledger._train.epochs
    for _ in range(trials):
        spec = ledger.ask()
        assert spec is not None
        rate, verdict = spec.config.learning_rate, Verdict.CONTINUE
        if diverges(rate):
            ledger.report({spec.number: report(1, 90.0)})
            ledger.tell(spec.number, Outcome.DIVERGED, "diverged: the loss is not finite")
            continue
        for epoch in range(1, epochs + 1):
            perplexity = curve(rate) * (1 + 0.1 * (epochs - epoch))
            verdict = ledger.report({spec.number: report(epoch, perplexity)})[spec.number]
            if verdict is not Verdict.CONTINUE:
                break
        ledger.tell(spec.number, ENDED[verdict], "trained to its end")


def report(epoch: int, perplexity: float) -> Report:
    """What an epoch came to, when only its perplexity matters."""
    return Report(
        epoch=epoch,
        train_loss=4.0,
        validation_loss=math.log(perplexity),
        accuracy=0.1,
        learning_rate=1e-3,
        tokens_per_second=1e3,
        peak_memory_bytes=2**20,
        skipped_steps=0,
    )
