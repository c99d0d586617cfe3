"""What a sweep costs beside its training: the orchestrator's own share of a real run.

    python tests/benchmarks/bench_share.py run --batch 2048 --precision fp16

Takes the arguments of `sweep`, runs it in this folder, and then prints the processor's seconds of
this process, which is the orchestrator, and of its workers. To start (imports, the text, measuring
a step) is counted apart, up to the first trial.
"""

import contextlib
import resource
import sys
import time
from dataclasses import dataclass, field
from unittest import mock

from sweep.cli import main as sweep
from sweep.orchestration.orchestrator import Orchestrator


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass
class Spent:
    """Seconds up to now."""

    wall: float = field(default_factory=time.perf_counter)
    own: float = field(default_factory=time.process_time)
    workers: float = field(default_factory=_children)

    def since(self, before: "Spent") -> str:
        """In words."""
        wall, own = self.wall - before.wall, self.own - before.own
        workers = self.workers - before.workers
        return (
            f"{wall:7.1f} s, of the processor {own:6.2f} s here ({100 * own / wall:.2f} % of the "
            f"time) and {workers:7.1f} s in workers that have ended"
        )


def main() -> None:
    """Runs a sweep and prints the shares."""
    began, marks = Spent(), []
    run = Orchestrator.run

    def timed(self: Orchestrator) -> bool:
        marks.append(Spent())
        done = run(self)
        marks.append(Spent())
        return done

    with mock.patch.object(Orchestrator, "run", timed), contextlib.suppress(SystemExit):
        sweep(sys.argv[1:])
    end = Spent()
    for before, after in zip(marks[::2], marks[1::2], strict=True):
        print(f"to start   {before.since(began)}")
        print(f"the trials {after.since(before)}")
        print(f"the end    {end.since(after)}")


if __name__ == "__main__":
    main()
