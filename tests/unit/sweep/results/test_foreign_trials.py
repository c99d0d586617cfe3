"""What other programs write into a study, by Optuna itself: read, or failed with a reason."""

import json
import math
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.study import Study
from optuna.trial import TrialState, create_trial
from support import ENDED, Workspace, open_ledger, play, report

from studies.definition import PARAMETER, WIDE
from sweep.orchestration.ledger import Ledger
from sweep.results.belief import recommended
from trainers.config import TrainConfig
from trainers.report import Verdict

NO_RATE = f"failed: {PARAMETER} must be a number from 1e-07 to 10, got "
NO_VALUE = "failed: its value must be a perplexity, at least 1, got "


def curve(rate: float) -> float:
    return 40 * math.exp(0.1 * math.log(rate / 2e-2) ** 2)


Write = Callable[[Study], None]


def enqueued(**given: object) -> Write:
    return lambda study: study.enqueue_trial(given)


def complete(value: float, rate: float | None = 3e-2, **more: Any) -> Write:
    known = {} if rate is None else {PARAMETER: rate}
    wide = {} if rate is None else {PARAMETER: FloatDistribution(1e-9, 1e9, log=True)}
    return lambda study: study.add_trial(
        create_trial(value=value, **{"params": known, "distributions": wide, **more})
    )


def told(value: float) -> Write:
    """A user's script asks for a trial and tells its value."""

    def write(study: Study) -> None:
        trial = study.ask({PARAMETER: WIDE})
        study.tell(trial, value)

    return write


def reported(value: float, state: TrialState) -> Write:
    def write(study: Study) -> None:
        trial = study.ask({PARAMETER: WIDE})
        trial.report(value, 1)
        study.tell(trial, state=state)

    return write


# What is written, and the state and the reason that it has in the end.
FOREIGN: dict[str, tuple[Write, str, str]] = {
    "a rate in quotes": (enqueued(learning_rate="1e-3"), "complete", "trained to its end"),
    "rate 0": (enqueued(learning_rate=0), "failed", f"{NO_RATE}0"),
    "a negative rate": (enqueued(learning_rate=-1e-3), "failed", f"{NO_RATE}-0.001"),
    "rate NaN": (enqueued(learning_rate=math.nan), "failed", f"{NO_RATE}nan"),
    "rate inf": (enqueued(learning_rate=math.inf), "failed", f"{NO_RATE}inf"),
    "a text": (enqueued(learning_rate="high"), "failed", f"{NO_RATE}'high'"),
    "a table": (enqueued(learning_rate={"a": 1}), "failed", f"{NO_RATE}{{'a': 1}}"),
    "nothing": (enqueued(), "complete", "trained to its end"),
    "another name": (
        enqueued(lr=1e-3),
        "failed",
        f"failed: it was enqueued without {PARAMETER}, with lr",
    ),
    "no rate": (complete(30.0, None), "failed", f"failed: it has no {PARAMETER}"),
    "another parameter": (
        complete(30.0, params={"lr": 1e-3}, distributions={"lr": WIDE}),
        "failed",
        f"failed: it has no {PARAMETER}",
    ),
    "a rate far out": (complete(30.0, 1e4), "complete", ""),
    "value 0": (complete(0.0), "failed", f"{NO_VALUE}0"),
    "a negative value": (complete(-3.0), "failed", f"{NO_VALUE}-3"),
    "a loss": (complete(0.9), "failed", f"{NO_VALUE}0.9"),
    "value 0 and no rate": (complete(0.0, None), "failed", f"failed: it has no {PARAMETER}"),
    "an infinite value": (complete(math.inf), "pruned", ""),
    "told NaN": (told(math.nan), "failed", ""),
    "told 0": (told(0.0), "failed", f"{NO_VALUE}0"),
    "told -inf": (told(-math.inf), "failed", f"{NO_VALUE}-inf"),
    "reported NaN, pruned": (reported(math.nan, TrialState.PRUNED), "pruned", ""),
    "reported NaN, failed": (reported(math.nan, TrialState.FAIL), "failed", ""),
    "reported -1, pruned": (reported(-1.0, TrialState.PRUNED), "pruned", ""),
    "reported 0, pruned": (reported(0.0, TrialState.PRUNED), "pruned", ""),
}


def check_commands(folder: Path, numbers: Iterable[int]) -> dict[int, dict[str, Any]]:
    """No command that reads ends in a traceback. Answers what `show` says of each trial."""
    user = Workspace.__new__(Workspace)
    user.path = folder
    for command in (("status",), ("list",), ("report",), ("report", "-o", "report.html")):
        user.invoke(*command)
    for command in ("list", "report"):
        user.invoke(command, "--json")
    user.invoke("predict", "--batch", 64)
    user.invoke("export")
    rows = json.loads(user.invoke("status", "--json").out)["trials"]
    shown = {}
    for number in numbers:
        shown[number] = json.loads(user.invoke("show", number, "--json").out)
        for key in ("state", "reason", "value"):
            assert shown[number][key] == rows[number][key]
        kept = rows[number]["reason"].startswith("pruned")  # by the search: it has a result
        ended = rows[number]["state"] == "complete" or kept
        user.invoke("export", "--trial", number, code=0 if ended else 2)
    user.invoke("show", number)
    return shown


def go_on(ledger: Ledger) -> None:
    """Asks for whatever there is and trains it."""
    assert ledger.unfinished() == []
    while (spec := ledger.ask()) is not None:
        for epoch in range(1, 5):
            perplexity = curve(spec.config.learning_rate) * (1 + 0.1 * (4 - epoch))
            (verdict,) = ledger.report({spec.number: report(epoch, perplexity)}).values()
            if verdict is not Verdict.CONTINUE:
                break
        ledger.tell(spec.number, ENDED[verdict], ENDED[verdict].sentence)
        ledger.belief()


@pytest.mark.parametrize(
    ("before", "sampler", "pruner"),
    [(4, "learning-rate", "learning-rate"), (0, "learning-rate", "none"), (0, "tpe", "none")],
)
def test_it_is_read_or_failed_with_a_reason_and_nothing_else_is_harmed(
    tmp_path: Path, before: int, sampler: str, pruner: str
) -> None:
    train = TrainConfig(learning_rate=1.0, epochs=4)
    search: dict[str, Any] = {
        "sampler": sampler,
        "pruner": pruner,
        "train": train,
        "floor": 0.9,  # every trial is whole: which are not is for other tests
        "trials": before + len(FOREIGN) + 8,
    }
    with open_ledger(tmp_path, **search) as ledger:
        play(ledger, curve, trials=before)
        numbers = {}
        # Those that wait come last: a user's script would be given them.
        for what, (write, _, _) in reversed(FOREIGN.items()):
            numbers[what] = len(ledger.study.trials)
            with warnings.catch_warnings(action="ignore"):  # Optuna's own, of what is written
                write(ledger.study)
    with open_ledger(tmp_path, **search) as ledger:
        go_on(ledger)
        ledger.finish({"trials": 9}, "")
        (best, *_) = recommended(ledger.study)
        assert best not in [numbers[what] for what in FOREIGN if FOREIGN[what][1] == "failed"]
    said = check_commands(tmp_path, numbers.values())
    for what, (_, state, reason) in FOREIGN.items():
        found = said[numbers[what]]
        if what == "nothing" and pruner != "none":  # its rate is the search's, which may leave it
            continue
        assert (what, found["state"], found["reason"]) == (what, state, reason)
    with open_ledger(tmp_path, **{**search, "trials": search["trials"] + 2}) as ledger:
        go_on(ledger)
