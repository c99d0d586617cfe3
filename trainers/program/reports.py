"""What a program says of its training: lines of JSON in a file, or what it prints.

Every report is kept in the trial's `reports.jsonl`, whichever way it came: a trial that goes on
says them again first. An answer to each stands in `answers.jsonl`; `sweep.client` waits for it.
"""

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainers.errors import TrainerError
from trainers.program.patterns import Patterns
from trainers.refusals import shown
from trainers.report import Report

WHOLE = ("step", "steps", "tokens", "epoch", "skipped_steps", "peak_memory_bytes")
MEASURED = ("validation_loss", "train_loss", "accuracy", "learning_rate", "tokens_per_second")
OF_LOSS = ("perplexity", "validation_loss")
LOSSES = ("validation_loss", "train_loss")
OTHERS = ("accuracy", "train_loss")
MOST_STEPS = 2**31 - 1  # that Optuna stores in any database
LONGEST_LINE = 2**20


class Tail:
    """Lines that another process appends to a file, each once.

    Args:
        path: need not exist yet.
        offset: bytes to leave out at its beginning.
        ends: what ends a line: a progress bar's last state ends with a carriage return.
    """

    def __init__(self, path: Path, offset: int = 0, *, ends: str = "\n") -> None:
        self._path, self._offset, self._ends = path, offset, ends
        self._rest = b""

    def lines(self, *, whole: bool = False) -> Iterator[str]:
        """The lines since the last call, or some of them where there are very many.

        Args:
            whole: no more will come: all of them, and a last one without an end counts.
        """
        self.moved = False
        while (whole or not self.moved) and (data := self._read()):
            self.moved = True
            for end in self._ends[1:]:
                data = data.replace(end.encode(), b"\n")
            *lines, self._rest = (self._rest + data).split(b"\n")
            yield from _texts(lines)
            if len(self._rest) > LONGEST_LINE:
                yield from self._last()
        if whole:
            yield from self._last()

    def _read(self) -> bytes:
        """A piece at a time: what a program prints may be larger than the memory."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(LONGEST_LINE)
        except FileNotFoundError:
            return b""
        self._offset += len(data)
        return data

    def _last(self) -> Iterator[str]:
        rest, self._rest = self._rest, b""
        yield from _texts([rest])

    moved = False


def _texts(lines: Iterable[bytes]) -> Iterator[str]:
    return (line.decode("utf-8", "replace") for line in lines if line.strip())


def mend(kept: Path) -> None:
    """Ends the last line of a file of reports, or drops the half of one that was being written."""
    whole, _, rest = kept.read_bytes().rpartition(b"\n")
    if rest:
        with contextlib.suppress(TrainerError):
            _object(rest.decode("utf-8", "replace"))
            whole += b"\n" + rest
        kept.write_bytes(whole + b"\n")


@dataclass(slots=True)
class Reports:
    """Reads a trial's reports, each step's first one.

    Attributes:
        said: the JSON lines of this trial.
        printed: what the program prints; None where no pattern reads it.
        patterns: likewise.
        metric: what a report must have to count as one: its success is measured by it.
        step, steps: where the program is, by all that it said.
    """

    said: Tail
    kept: Path
    metric: str
    printed: Tail | None = None
    patterns: Patterns | None = None
    step: int = 0
    steps: int = 0
    moved: bool = False
    _steps_seen: set[int] = field(default_factory=set)

    def read(self, *, whole: bool = False) -> Iterator[tuple[Report, bool]]:
        """Reports since the last call, and whether each counts.

        One does not that lacks the metric, or is a second one of its step, such as another rank's.

        Args:
            whole: the program has ended.

        Raises:
            TrainerError: a line of JSON is no report.
        """
        for fields in self._said(whole=whole):
            yield self._counted(fields)
        for fields in self._printed(whole=whole):
            report, counts = self._counted(fields)
            if counts:
                self._keep(fields)
            yield report, counts
        self.moved = self.said.moved or (self.printed is not None and self.printed.moved)

    def _said(self, *, whole: bool) -> Iterator[Mapping[str, Any]]:
        yield from map(_object, self.said.lines())
        # Half a line is what a program leaves that dies while it writes.
        for line in self.said.lines(whole=True) if whole else ():
            with contextlib.suppress(TrainerError):
                yield _object(line)

    def _printed(self, *, whole: bool) -> Iterator[Mapping[str, Any]]:
        if self.printed is None or self.patterns is None:
            return
        for line in self.printed.lines(whole=whole):
            yield from self.patterns.read(line)
        if whole:
            yield from self.patterns.end()

    def _counted(self, fields: Mapping[str, Any]) -> tuple[Report, bool]:
        report = make_report(fields, self.metric)
        self.step, self.steps = max(self.step, report.step), max(self.steps, report.steps)
        counts = has_metric(report, self.metric) and report.step not in self._steps_seen
        if counts:
            self._steps_seen.add(report.step)
        return report, counts

    def _keep(self, fields: Mapping[str, Any]) -> None:
        line = {name: _plain(name, value) for name, value in fields.items()}
        with self.kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def has_metric(report: Report, metric: str) -> bool:
    """Whether a report has the number that a run's success is measured by."""
    if metric in OF_LOSS:
        return not math.isnan(report.validation_loss)
    return metric in report.metrics or (
        metric in OTHERS and not math.isnan(getattr(report, metric))
    )


def make_report(fields: Mapping[str, Any], metric: str) -> Report:
    """A report from its fields; a perplexity is taken for its loss, an unknown name for a metric.

    A loss that is not a number, which JSON may write as null, says that training was lost: the
    report then has an infinite one.

    Args:
        fields: as the program gave them.
        metric: what its success is measured by.

    Raises:
        TrainerError: it has no step, or a field is no number.
    """
    numbers = {name: _number(name, value) for name, value in fields.items()}
    if not 0 <= numbers.get("step", -1.0) <= MOST_STEPS:
        raise TrainerError(
            f"the program's report {shown(dict(fields))} has no step of 0 or more, or one beyond "
            f"{MOST_STEPS:,}"
        )
    if "perplexity" in numbers:
        perplexity = numbers.pop("perplexity")
        numbers.setdefault("validation_loss", math.log(perplexity) if perplexity > 0 else math.nan)
    lost = any(math.isnan(numbers.get(name, 0.0)) for name in (metric, *LOSSES))
    whole = {name: numbers.pop(name) for name in WHOLE if name in numbers}
    known: dict[str, Any] = {k: int(value) for k, value in whole.items() if math.isfinite(value)}
    known |= {name: numbers.pop(name) for name in MEASURED if name in numbers}
    numbers = {name: value for name, value in numbers.items() if math.isfinite(value)}
    if lost:
        known["validation_loss"] = math.inf
        numbers |= {} if metric in OF_LOSS else {metric: math.inf}
    return Report(**known, metrics=numbers)


def _number(name: str, value: object) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TrainerError(f"the program's report has {name} = {shown(value)}, which is no number")
    try:
        return float(value)
    except OverflowError:  # an integer of more digits than a float has
        return math.inf if value > 0 else -math.inf


def _object(line: str) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise TrainerError(
            f"the program's reports have a line that is no JSON object: {shown(line)}"
        )
    return found


def _plain(name: str, value: float) -> float | int:
    return int(value) if name in WHOLE else value
