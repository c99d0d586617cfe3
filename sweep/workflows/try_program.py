"""`sweep try`: a program run for a moment, and what of its words is understood."""

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweep.config.devices import devices_of
from sweep.config.schema import SweepConfig
from sweep.orchestration.ranges import USUAL_DECAY
from trainers.naming import OUTPUT_FILE
from trainers.program.command import check_steps
from trainers.program.patterns import Patterns
from trainers.program.reports import Tail
from trainers.program.trainer import run
from trainers.report import Ending, Report, Verdict


@dataclass(frozen=True, slots=True)
class Line:
    """A line that a program printed.

    Attributes:
        text: as it was printed.
        understood: what the pattern found in it; empty for nothing.
    """

    text: str
    understood: dict[str, float]


Tried = Line | Report | Ending


def try_program(config: SweepConfig, rate: float | None, seconds: float) -> Iterator[Tried]:
    """Runs the program at one rate, until it ends or the time is over.

    Args:
        config: resolved, with a program.
        rate: None takes the reference's.
        seconds: that it may run.

    Yields:
        Its lines, its reports, and how it ended.

    Raises:
        TrainerError: it cannot be started.
    """
    check_steps(config.trainer)
    train = dataclasses.replace(
        config.trainer,
        learning_rate=rate or config.reference.learning_rate,
        weight_decay=config.trainer.weight_decay or (USUAL_DECAY if config.study.with_ else 0.0),
    )
    pattern = train.program.pattern
    patterns = Patterns(pattern) if pattern else None
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="sweep-try-") as folder:
        directory = Path(folder) / "0000"
        output = Tail(directory / OUTPUT_FILE, ends="\n\r")
        running = run(train, device=devices_of(config)[0], directory=directory)
        answer: Verdict | None = None
        while True:
            try:
                said = running.send(answer)
            except StopIteration as stop:
                yield from _lines(output, patterns, whole=True)
                yield stop.value
                return
            yield from _lines(output, patterns)
            if isinstance(said, Report):
                yield said
            late = time.monotonic() > deadline
            answer = Verdict.PAUSE if late else Verdict.CONTINUE


def _lines(output: Tail, patterns: Patterns | None, *, whole: bool = False) -> Iterator[Line]:
    for line in output.lines(whole=whole):
        found = [*patterns.read(line)] if patterns else []
        yield Line(line, found[-1] if found else {})
