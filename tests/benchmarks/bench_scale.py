"""What a study's size costs: asks, reports and endings of thousands of trials in one SQLite file.

    python tests/benchmarks/bench_scale.py [trials]

The trainer is fake and takes 1 ms an epoch; a rate's curve falls to a parabola around the best one.
A machine slows down under minutes of load, so beside each line a new study of 100 trials is run by
another process, and the ratio is to that.
"""

import math
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parents[1]))
from support import Workspace, open_ledger, report

from sweep.orchestration.ledger import Ledger
from trainers.config import TrainConfig
from trainers.report import Outcome, Verdict

EPOCHS, BEST, EPOCH_S = 20, 3e-2, 1e-3
SHOWN = (100, 300, 1000, 3000, 10000)
SETTINGS = {"sampler": "learning-rate", "pruner": "learning-rate", "floor": 5, "startup": 3}
WINDOW = 50
"""Trials that a figure is the median of."""

Answer = TypeVar("Answer")


def perplexity(rate: float, epoch: int) -> float:
    """Of a made-up run: nats around ln 20, and a fall that slows down."""
    distance = math.log(rate / BEST)
    return math.exp(3.0 + 0.023 * min(distance**2, 100.0) + 2.0 / epoch)


class Clock:
    """Seconds by what they were spent on, of the last trials."""

    def __init__(self) -> None:
        self.seconds: dict[str, deque[float]] = {
            "ask": deque(maxlen=WINDOW),
            "report": deque(maxlen=WINDOW * EPOCHS),
            "tell": deque(maxlen=WINDOW),
        }

    def time(self, what: str, call: Callable[[], Answer]) -> Answer:
        """Calls, and keeps how long it took."""
        started = time.perf_counter()
        answer = call()
        self.seconds[what].append(time.perf_counter() - started)
        return answer

    def milliseconds(self, what: str) -> float:
        """The median of the last calls."""
        return 1e3 * statistics.median(self.seconds[what])


def run_trial(ledger: Ledger, clock: Clock) -> None:
    """Asks, reports until it is pruned or done, and tells."""
    spec = clock.time("ask", ledger.ask)
    assert spec is not None
    number, rate = spec.number, spec.config.learning_rate
    outcome = Outcome.COMPLETED
    for epoch in range(1, EPOCHS + 1):
        time.sleep(EPOCH_S)
        said = {number: report(epoch, perplexity(rate, epoch))}
        if clock.time("report", lambda said=said: ledger.report(said))[number] is Verdict.PRUNE:
            outcome = Outcome.PRUNED
            break
    clock.time("tell", lambda: ledger.tell(number, outcome, outcome.sentence))


def status_s(folder: Path) -> float:
    """Seconds that `sweep status` takes, from the command line."""
    started = time.perf_counter()
    Workspace(folder, folder).sweep("status")
    return time.perf_counter() - started


def grow(folder: Path, trials: int, show: Callable[[Clock, int], None] | None = None) -> Clock:
    """Runs a new study, and shows how it is after each trial."""
    clock, train = Clock(), TrainConfig(learning_rate=1.0, epochs=EPOCHS)
    with open_ledger(folder, train=train, trials=trials, **SETTINGS) as ledger:
        for number in range(1, trials + 1):
            run_trial(ledger, clock)
            ledger.keep_alive()
            if show:
                show(clock, number)
    return clock


def few_ms() -> float:
    """Ask and tell at the end of a new study of 100 trials, in ms."""
    with tempfile.TemporaryDirectory() as name:
        clock = grow(Path(name), SHOWN[0])
    return clock.milliseconds("ask") + clock.milliseconds("tell")


def main() -> None:
    """Prints a line at each size."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else SHOWN[-1]
    print("trials     ask    tell  report  ask + tell  at 100 now  ratio  memory  status")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def show(clock: Clock, number: int) -> None:
            if number in SHOWN or number == trials:
                print(line(clock, number, status_s(folder)), flush=True)

        grow(folder, trials, show)


def line(clock: Clock, trials: int, status: float) -> str:
    """The figures of the last trials, in ms but for the memory and the status."""
    ask, tell, reported = (clock.milliseconds(what) for what in ("ask", "tell", "report"))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
        few = other.submit(few_ms).result()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"{trials:6,}  {ask:6.1f}  {tell:6.1f}  {reported:6.2f}  {ask + tell:10.1f}  "
        f"{few:10.1f}  {(ask + tell) / few:5.2f}  {memory:6.0f}  {status:5.1f} s"
    )


if __name__ == "__main__":
    main()
