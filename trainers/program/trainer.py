"""The trainer that runs a program: starts it, passes on what it reports, and ends it."""

import contextlib
import json
import math
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Self

import torch

from trainers import process_tree
from trainers.config import TrainConfig
from trainers.errors import TrainerError
from trainers.limits import killed_for_memory
from trainers.naming import OUTPUT_FILE
from trainers.program.command import (
    ANSWERS_FILE,
    REPORTS_FILE,
    environment,
    expand,
    values_of,
)
from trainers.program.patterns import Patterns, plain
from trainers.program.reports import Reports, Tail, mend
from trainers.report import Ending, Outcome, Progress, Report, Verdict
from trainers.train import Training

LOOK_S, SOON_S = 0.02, 0.002
PROGRESS_S = 0.5
LAST_LINES = 3
LIVE = {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1", "COLUMNS": "200"}
"""Tells rich, whose bar Lightning draws, that it may draw it although this is no terminal."""

SHOWN = 400  # characters of the last lines
LAST_BYTES = 2**18  # in which the last words are looked for

_NO_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|MemoryError|[Cc]annot allocate memory|not enough memory"
)
_NO_SPACE = re.compile(r"No space left on device")
_ERROR = re.compile(r"^\s*(\[rank\d+\]:\s*)?[\w.]*(Error|Exception|Interrupt)\b")


def run(config: TrainConfig, *, device: str, directory: Path) -> Training:
    """Runs one trial's program; goes on where it has begun before, if it can be told to.

    Args:
        config: the run; its `program` says what is run.
        device: "cpu", "cuda:1", "cuda:2,3".
        directory: the trial's: its reports, its output, and whatever the program leaves there.

    Yields:
        Progress twice a second, a Report for each step that the program reported first. A resumed
        program's earlier reports are yielded again first.

    Returns:
        How it ended.

    Raises:
        TrainerError: it cannot be started, or reports what is none.
    """
    with _Running(config, device, directory) as program:
        spoke = time.monotonic()
        while True:
            ended = program.has_ended()  # before its reports are read: so none is missed
            for report, counts in program.reports.read(whole=ended):
                if not counts:
                    program.answer(report.step, stop=False)
                elif ending := program.obey(report, (yield report)):
                    return ending
            if ended:
                return program.ending()
            if time.monotonic() - spoke >= PROGRESS_S:
                spoke = time.monotonic()
                if (yield program.progress()) is Verdict.PAUSE:
                    program.end()
                    return Ending(Outcome.PAUSED)
            # One that has just reported may wait for the answer to its next report.
            time.sleep(SOON_S if program.reports.moved else LOOK_S)


class _Running:
    """A program that runs. A context manager: nothing that it started outlives it."""

    running = 0  # in this process

    def __init__(self, config: TrainConfig, device: str, directory: Path) -> None:
        self._config, self._directory, self._device = config, directory, device
        self._grace_s = config.program.grace
        self._killed_before = killed_for_memory()
        self._reported = False
        self._output = directory / OUTPUT_FILE
        self._around = contextlib.ExitStack()

    def __enter__(self) -> Self:
        config, directory = self._config, self._directory
        directory.mkdir(parents=True, exist_ok=True)
        process_tree.adopt_orphans()
        # Of an attempt whose worker and guard were both killed.
        process_tree.end(directory, grace_s=self._grace_s)
        kept, output = directory / REPORTS_FILE, self._output
        begun = kept.exists()
        resumes = begun and bool(config.program.resume)
        if resumes:
            mend(kept)
        else:
            kept.write_text("", encoding="utf-8")
        (directory / ANSWERS_FILE).write_text("", encoding="utf-8")
        self._around.enter_context(process_tree.Guard(directory, self._grace_s))
        self._strangers = process_tree.children()
        values = values_of(config, self._device, directory)
        appended = config.program.resume if resumes else ()
        command = expand([*config.program.command, *appended], values)
        shown = LIVE if config.program.pattern == "lightning" else {}
        try:
            with output.open("ab") as log:
                log.write(f"$ {shlex.join(command)}\n".encode(errors="surrogateescape"))
                log.flush()
                self._begin = self._size = log.tell()
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment(values, self._device, directory) | _threads() | shown,
                    start_new_session=True,
                )
        except OSError as error:
            self._around.close()
            raise TrainerError(f"{command[0]} cannot be run: {error.strerror or error}") from None
        _Running.running += 1
        patterns = Patterns(config.program.pattern) if config.program.pattern else None
        printed = Tail(output, self._begin, ends="\n\r") if patterns else None
        self.reports = Reports(Tail(kept), kept, config.metric, printed, patterns)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        _Running.running -= 1
        self._around.close()

    def has_ended(self) -> bool:
        """Whether the program itself has; what it started may still run."""
        return self._process.poll() is not None

    def progress(self) -> Progress:
        """A sign of life, if it gave one."""
        before, self._size = self._size, self._output.stat().st_size
        moved = self._size > before or self.reports.moved
        return Progress(self.reports.step, self._steps, alive=moved)

    @property
    def _steps(self) -> int:
        return self.reports.steps or self._config.steps

    def obey(self, report: Report, verdict: Verdict | None) -> Ending | None:
        """Answers a report, and ends the program where it is to go on no more."""
        self._reported = True
        # One that has ended has nothing left to pause.
        stops = verdict is Verdict.PRUNE or (verdict is Verdict.PAUSE and not self.has_ended())
        lost = report.validation_loss == math.inf
        self.answer(report.step, stop=stops or lost)
        if not (stops or lost):
            return None
        self.end(hears=True)
        if verdict is Verdict.PAUSE and not lost:
            return Ending(Outcome.PAUSED)
        if lost:
            return Ending(
                Outcome.DIVERGED, f"diverged: its loss is not finite at step {report.step}"
            )
        return Ending(Outcome.PRUNED)

    def end(self, *, hears: bool = False) -> None:
        """Ends the program and all that it started.

        Args:
            hears: it may have been told to stop: then it has half of its grace to do so by itself.
        """
        left_s = self._grace_s
        if hears and self._listens():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(left_s / 2)
            left_s /= 2
        self._end_all(left_s)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)

    def _end_all(self, grace_s: float) -> None:
        alone = self._strangers if _Running.running == 1 else None
        program, tick = self._process.pid, self._process.poll
        process_tree.end(self._directory, program, alone, grace_s=grace_s, tick=tick)

    def ending(self) -> Ending:
        """How a program ended that was not told to."""
        code = self._process.returncode
        self._end_all(self._grace_s)
        lines = self._last_lines()
        last = _shortened(lines)
        if code == 0:
            if self._reported:
                return Ending(Outcome.COMPLETED)
            if names := ", ".join(sorted(self.reports.names)):
                said = f"{names}, but no {self._config.metric} (--metric)"
                return Ending(Outcome.FAILED, f"failed: the program reported {said}")
            said = f"; its last lines: {last}" if last else ", and printed nothing"
            return Ending(Outcome.FAILED, f"failed: the program ended without a report{said}")
        if killed_for_memory() > self._killed_before:
            return Ending(Outcome.KILLED)
        if _found(_NO_MEMORY, lines):
            return Ending(Outcome.OUT_OF_MEMORY, f"ran out of memory: {last}")
        if _found(_NO_SPACE, lines):
            return Ending(Outcome.NO_SPACE, f"found no room on the disk: {last}")
        said = f": {last}" if last else ""
        if code < 0:
            return Ending(Outcome.LOST, f"lost: the program was killed by signal {-code}{said}")
        return Ending(Outcome.FAILED, f"failed: the program ended with exit code {code}{said}")

    def answer(self, step: int, *, stop: bool) -> None:
        """Tells the program whether to stop, after a report that it may wait with."""
        with (self._directory / ANSWERS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "stop": stop}) + "\n")

    def _listens(self) -> bool:
        """Whether it reports by itself, so that it hears the answers."""
        return not self._config.program.pattern

    def _last_lines(self) -> list[str]:
        begin = max(self._begin, self._output.stat().st_size - LAST_BYTES)
        lines = Tail(self._output, begin, ends="\n\r").lines(whole=True)
        return [line for line in map(plain, lines) if line]


def _threads() -> dict[str, str]:
    """Where workers divide the cores, a program takes its share, unless it was given another."""
    threads = torch.get_num_threads()
    divided = threads < (os.cpu_count() or 1) and "OMP_NUM_THREADS" not in os.environ
    return {"OMP_NUM_THREADS": str(threads)} if divided else {}


def _found(what: re.Pattern[str], lines: list[str]) -> bool:
    return any(what.search(line) for line in lines[-200:])


def _shortened(lines: list[str]) -> str:
    """The line that names the error, else the last ones."""
    errors = [line for line in lines[-200:] if _ERROR.match(line)]
    if errors:
        return errors[-1] if len(errors[-1]) <= SHOWN else f"{errors[-1][:SHOWN]}..."
    said = " | ".join(lines[-LAST_LINES:])
    return said if len(said) <= SHOWN else f"...{said[-SHOWN:]}"
