"""The event loop with a real ledger, a real view and trainers that are only generators."""

import io
import json
import sys
from pathlib import Path
from textwrap import dedent
from types import TracebackType
from typing import Any, Self

import pytest
from support import open_ledger

from studies.prior import Prior
from sweep.errors import NothingTrainedError, SweepError
from sweep.execution.executors.inline import InlineExecutor
from sweep.execution.protocol import Ended, Event, Executor, TrialSpec
from sweep.execution.signals import StopSignals
from sweep.orchestration.orchestrator import Orchestrator
from sweep.orchestration.recovery import Recovery
from sweep.view.live.jsonl import JsonView
from trainers.config import TrainConfig
from trainers.report import Outcome, Verdict

# Each trainer keeps its history in its folder, as the shared one does in its checkpoint.
TRAINERS = """\
    import math
    from trainers.report import Ending, Report, Outcome, Progress

    def trial(config, directory, *, ends=Outcome.COMPLETED, end=None, inside=0):
        # `inside`: so many reports inside one epoch, 10 steps apart
        epochs = inside or config.epochs
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "epochs"
        done = int(file.read_text()) if file.exists() else 0
        for epoch in range(1, epochs + 1):
            if epoch > done:
                if (yield Progress()) == "pause":
                    return Ending(Outcome.PAUSED)
                with (directory / "trained").open("a") as log:
                    log.write(f"{epoch} ")
                file.write_text(str(epoch))
            left = (epochs - epoch) / epochs
            if (directory / "other").exists():  # as on another machine
                end = 30
            loss = math.log(60 - epoch if end is None else end * (90 / end) ** left)
            at = {"step": 10 * epoch, "steps": 10 * inside} if inside else {"epoch": epoch}
            verdict = yield Report(**at, validation_loss=loss)
            if verdict != "continue":
                return Ending(Outcome.PAUSED if verdict == "pause" else Outcome.PRUNED)
        return Ending(ends)

    def sound(config, *, device, directory):
        return trial(config, directory)

    def basin(config, *, device, directory):
        away = math.log(config.learning_rate / 3e-3)
        return trial(config, directory, end=min(90, 40 * math.exp(0.1 * away**2)))

    def single(config, *, device, directory):
        away = math.log(config.learning_rate / 3e-3)
        return trial(config, directory, end=min(90, 40 * math.exp(0.1 * away**2)), inside=8)

    def endless(config, *, device, directory):
        while (yield Progress(1, 2)) != "pause":
            pass
        return Ending(Outcome.PAUSED)

    def broken(config, *, device, directory):
        raise ValueError("the learning rate is a string")
        yield

    def breaks_later(config, *, device, directory):
        yield from trial(config, directory)
        raise ValueError("after its reports")

    def breaks_at_first(config, *, device, directory):
        if directory.name == "0000":
            raise ValueError("once")
        return (yield from trial(config, directory))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "loop_trainers.py").write_text(dedent(TRAINERS))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "loop_trainers", raising=False)
    return tmp_path


class Run:
    """One run of the loop: what it answered and what the view was told."""

    def __init__(
        self,
        folder: Path,
        trainer: str,
        *,
        stop: StopSignals | None = None,
        executor: Executor | None = None,
        timeout_s: float = 0.0,
        retries: int = 2,
        watch: dict[str, float] = {},  # noqa: B006
        **search: Any,
    ) -> None:
        said = io.StringIO()
        search = {"trials": 3, **search}
        with (
            open_ledger(folder, trainer=f"loop_trainers:{trainer}", **search) as ledger,
            executor or InlineExecutor("cpu") as entered,
            JsonView(said) as view,
        ):
            loop = Orchestrator(
                ledger,
                entered,
                view,
                stop=stop or StopSignals(),
                timeout_s=timeout_s,
                recovery=Recovery(entered, retries=retries, **watch),
            )
            try:
                self.done = loop.run()
            finally:
                self.trials = ledger.study.get_trials(deepcopy=False)
                self.events = [json.loads(line) for line in said.getvalue().splitlines()]

    @property
    def states(self) -> list[str]:
        return [trial.state.name for trial in self.trials]

    def told(self, event: str) -> list[int]:
        """The trials of one kind of event, in the order of the view."""
        found = [each for each in self.events if each["event"] == event]
        return [each["trial"]["number"] for each in found]


class StopAt(StopSignals):
    """Ctrl-C as it comes: once the loop has looked for it `looks` times."""

    def __init__(self, looks: int) -> None:
        self._looks = looks
        super().__init__()

    @property
    def received(self) -> bool:
        self._looks -= 1
        return self._looks < 0

    @received.setter
    def received(self, value: bool) -> None:
        assert not value


def test_it_runs_trials_to_the_total_and_tells_the_view_of_each(folder: Path) -> None:
    run = Run(folder, "sound")
    assert run.done
    assert run.states == ["COMPLETE"] * 3
    assert run.told("trial_started") == [0, 1, 2]
    assert run.told("trial_reported") == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert run.told("trial_ended") == [0, 1, 2]


def test_a_second_run_has_nothing_to_do(folder: Path) -> None:
    Run(folder, "sound")
    again = Run(folder, "sound")
    assert again.done
    assert again.events == []


@pytest.mark.parametrize("looks", [1, 2, 3, 4, 5, 7, 9, 11])
def test_wherever_it_is_stopped_the_next_run_goes_on_and_repeats_no_epoch(
    folder: Path, looks: int
) -> None:
    stopped = Run(folder, "sound", stop=StopAt(looks))
    assert not stopped.done
    assert "asked to stop" in json.dumps(stopped.events)
    assert stopped.states.count("RUNNING") <= 1

    resumed = Run(folder, "sound")

    assert resumed.done
    assert resumed.states == ["COMPLETE"] * 3
    epochs = [folder / "runs" / "study" / f"{n:04d}" / "trained" for n in range(3)]
    assert [file.read_text() for file in epochs] == ["1 2 3 "] * 3
    shown = stopped.told("trial_reported") + resumed.told("trial_reported")
    assert sorted(shown) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_stop_before_anything_began_starts_nothing(folder: Path) -> None:
    run = Run(folder, "sound", stop=StopAt(0))
    assert not run.done
    assert run.trials == []


def test_out_of_time_it_pauses_what_runs(folder: Path) -> None:
    run = Run(folder, "endless", timeout_s=2)  # long enough for a busy machine to ask for a trial
    assert not run.done
    assert run.states[0] == "RUNNING"
    assert "out of time" in json.dumps(run.events)


def test_two_trials_in_a_row_that_never_report_end_the_sweep(folder: Path) -> None:
    with pytest.raises(SweepError, match="Trial 1 failed: ValueError: the learning rate is a str"):
        Run(folder, "broken")
    with pytest.raises(SweepError, match="2 trials in a row"):
        Run(folder, "broken", trials=9)


def test_a_single_failure_does_not_end_it(folder: Path) -> None:
    run = Run(folder, "breaks_at_first", trials=4)
    assert run.states == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    rates = [trial.params["learning_rate"] for trial in run.trials]
    assert rates[0] in rates[1:]  # the failed rule's rate is tried again


def test_trials_that_fail_after_their_reports_do_not_end_it(folder: Path) -> None:
    run = Run(folder, "breaks_later")
    assert run.done
    assert run.states[:3] == ["FAIL"] * 3
    assert run.trials[2].user_attrs["reason"] == "failed: ValueError: after its reports"


LOOKS = {
    "sampler": "learning-rate",
    "pruner": "learning-rate",
    "floor": 0,
    "train": TrainConfig(learning_rate=1.0, epochs=6),
    "priors": {"sqrt": Prior(1e-2), "unscaled": Prior(1e-3), "linear": Prior(1e-1)},
    "until": 0.01,
    "trials": 10,
}


def trained(folder: Path, run: "Run") -> list[list[int]]:
    """The epochs that each trial was trained for."""
    files = [folder / "runs" / "study" / f"{trial.number:04d}" / "trained" for trial in run.trials]
    return [[int(epoch) for epoch in file.read_text().split()] for file in files]


def check_looks(folder: Path, run: "Run", started: list[dict[str, Any]]) -> None:
    """No epoch was trained twice; what went on later began where it was left."""
    assert run.done
    for epochs, trial in zip(trained(folder, run), run.trials, strict=True):
        assert epochs == list(range(1, len(trial.intermediate_values) + 1))
        assert (len(epochs) == 6) == (trial.state.name == "COMPLETE")
        assert (trial.state.name == "RUNNING") == bool(trial.user_attrs.get("paused"))
    counts = [
        sum(each["trial"]["number"] == trial.number for each in started) for trial in run.trials
    ]
    assert max(counts) > 1


def test_a_trial_that_is_left_goes_on_where_its_rate_is_asked_for_again(folder: Path) -> None:
    run = Run(folder, "basin", **LOOKS)
    started = [each for each in run.events if each["event"] == "trial_started"]
    check_looks(folder, run, started)
    ended = [each["trial"] for each in run.events if each["event"] == "trial_ended"]
    left = [row for row in ended if row["state"] == "paused"]
    assert left
    assert all(row["reason"].startswith("paused: ") for row in left)
    resumed = [each for each in started if each["trial"]["step"]]
    assert {each["trial"]["state"] for each in resumed} == {"running"}
    assert {each["trial"]["number"] for each in resumed} <= {row["number"] for row in left}


def test_a_study_of_one_epoch_is_judged_inside_it(folder: Path) -> None:
    run = Run(folder, "single", **{**LOOKS, "train": TrainConfig(learning_rate=1.0, epochs=1)})
    assert run.done
    ended = [each["trial"] for each in run.events if each["event"] == "trial_ended"]
    assert {(row["steps"], row["unit"]) for row in ended} == {(80, "step")}
    assert {row["step"] for row in ended if row["state"] == "complete"} == {80}
    left = [row for row in ended if row["state"] == "paused"]
    assert left
    assert all(row["step"] < 40 and "step" in row["reason"] for row in left)
    for trial in run.trials:
        assert set(trial.intermediate_values) <= set(range(10, 81, 10))
        assert trial.user_attrs["steps"] == 80


def test_a_hopeless_trial_of_one_epoch_is_pruned_before_half_of_its_steps(folder: Path) -> None:
    search = {"floor": 0.2, "trials": 5, "train": TrainConfig(learning_rate=1.0, epochs=1)}
    run = Run(folder, "single", **search)
    assert run.done
    pruned = [trial for trial in run.trials if trial.state.name == "PRUNED"]
    assert pruned
    assert all(20 <= trial.last_step < 40 for trial in pruned)
    assert {trial.last_step for trial in run.trials if trial.state.name == "COMPLETE"} == {80}
    reason = pruned[0].user_attrs["reason"]
    assert reason.startswith("pruned: perplexity ")
    assert f" after step {pruned[0].last_step} is above " in reason


def test_beside_another_one_it_is_not_taken_up_before_its_worker_left_it(folder: Path) -> None:
    run = Run(folder, "basin", executor=Pair(), **{**LOOKS, "until": None})
    assert run.done
    for epochs, trial in zip(trained(folder, run), run.trials, strict=True):
        assert epochs == list(range(1, len(trial.intermediate_values) + 1))


@pytest.mark.parametrize("looks", [8, 15, 23])
def test_stopped_and_started_again_it_asks_for_what_it_would_have(folder: Path, looks: int) -> None:
    stopped = Run(folder, "basin", stop=StopAt(looks), **LOOKS)
    assert not stopped.done
    resumed = Run(folder, "basin", **LOOKS)
    events = [*stopped.events, *resumed.events]
    check_looks(folder, resumed, [each for each in events if each["event"] == "trial_started"])


class Pair:
    """An executor of capacity 2: two inline ones, whose events arrive together."""

    capacity = 2

    def __init__(self, *, lose: int = 0) -> None:
        self.members = [InlineExecutor("cpu"), InlineExecutor("cpu")]
        self.free = list(self.members)
        self.running: dict[int, InlineExecutor] = {}
        self.most = 0
        self.attempts: list[int] = []
        self._lose = lose

    def submit(self, spec: TrialSpec) -> None:
        self.running[spec.number] = self.free.pop()
        self.running[spec.number].submit(spec)
        self.most = max(self.most, len(self.running))
        self.attempts.append(spec.attempt)

    def reply(self, number: int, verdict: Verdict) -> None:
        if number in self.running:
            self.running[number].reply(number, verdict)

    def sharing_worker(self, number: int) -> frozenset[int]:
        return frozenset({number} & set(self.running))

    def kill(self, number: int) -> None:
        if number in self.running:
            self.running[number].kill(number)

    def events(self, timeout_s: float) -> list[Event]:
        events = [event for each in self.running.values() for event in each.events(timeout_s)]
        if self._lose:
            self._lose -= 1
            number = min(self.running)
            self.running[number].__exit__(None, None, None)
            events = [event for event in events if event.number != number]
            events.append(Ended(number, Outcome.LOST, "lost: its worker process died"))
        for event in events:
            if isinstance(event, Ended):
                self.free.append(self.running.pop(event.number))
        return events

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for member in self.members:
            member.__exit__(kind, error, trace)


class Nodes(InlineExecutor):
    """A cluster of one node, which is lost with its trial at some asks for its capacity."""

    def __init__(self, *without: int) -> None:
        super().__init__("cpu")
        self._without, self._asked = without, 0

    @property
    def capacity(self) -> int:  # type: ignore[override]
        self._asked += 1
        if self._asked not in self._without:
            return 1
        self.kill(self._number)
        return 0


class Doomed(InlineExecutor):
    """Loses each trial before it says anything."""

    def events(self, timeout_s: float) -> list[Event]:
        self.kill(self._number)
        return super().events(timeout_s)


@pytest.mark.parametrize("first", [1, 2, 3, 4, 6, 9, 12, 18])
def test_without_room_it_waits_for_it_and_no_trial_is_forgotten(folder: Path, first: int) -> None:
    run = Run(folder, "sound", executor=Nodes(first, first + 1), retries=2)
    assert run.done
    assert run.states == ["COMPLETE"] * 3
    said = [each["text"] for each in run.events if each["event"] == "note"]
    assert said in (
        ["no room for a trial: waiting until there is", "there is room for a trial again"],
        ["no room for a trial: waiting until there is"],  # lost when all was done
        [],  # or after that
    )
    assert said or first > 10


def test_stopped_while_it_waits_for_room_it_keeps_all(folder: Path) -> None:
    stopped = Run(folder, "sound", executor=Nodes(*range(4, 99)), stop=StopAt(9), retries=2)
    assert not stopped.done
    resumed = Run(folder, "sound")
    assert resumed.done
    assert resumed.states == ["COMPLETE"] * 3


def test_it_keeps_an_executor_of_two_busy_and_stays_within_the_total(folder: Path) -> None:
    pair = Pair()
    run = Run(folder, "sound", executor=pair)
    assert run.states == ["COMPLETE"] * 3
    assert pair.most == 2
    assert sorted(run.told("trial_reported")) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_stopped_with_two_running_it_keeps_and_continues_both(folder: Path) -> None:
    stopped = Run(folder, "sound", executor=Pair(), stop=StopAt(3))
    assert stopped.states[:2] == ["RUNNING", "RUNNING"]
    resumed = Run(folder, "sound", executor=Pair())
    assert resumed.states == ["COMPLETE"] * 3
    trained = folder / "runs" / "study"
    assert [(trained / f"{n:04d}" / "trained").read_text() for n in range(3)] == ["1 2 3 "] * 3


def test_a_lost_trial_goes_on_and_the_other_one_is_not_touched(folder: Path) -> None:
    pair = Pair(lose=2)
    run = Run(folder, "sound", executor=pair, retries=2)
    assert run.states == ["COMPLETE"] * 3
    assert sorted(pair.attempts) == [1, 1, 1, 2, 3]


def test_where_all_were_lost_nothing_was_trained_and_the_same_run_goes_on_once_it_is_repaired(
    folder: Path,
) -> None:
    for last in (2, 5):
        said = f"nothing was trained: trial {last} lost: it was stopped: put that right, then the"
        with pytest.raises(NothingTrainedError, match=said):
            Run(folder, "sound", executor=Doomed("cpu"), retries=1)
    resumed = Run(folder, "sound")
    assert resumed.done
    assert resumed.states == ["FAIL"] * 6 + ["COMPLETE"] * 3
    rates = [trial.params["learning_rate"] for trial in resumed.trials]
    assert set(rates[:3]) <= set(rates[6:])


def test_of_a_trial_that_failed_by_itself_it_is_not_said_that_the_command_goes_on(
    folder: Path,
) -> None:
    with pytest.raises(NothingTrainedError, match=r"trial 0 failed: ValueError: .* a string$"):
        Run(folder, "broken", trials=1)


def test_a_trial_that_cannot_be_repeated_begins_anew_and_the_study_lives(folder: Path) -> None:
    stopped = Run(folder, "sound", stop=StopAt(3))
    assert stopped.trials[0].intermediate_values
    study = folder / "runs" / "study"
    (study / "0000" / "other").touch()
    resumed = Run(folder, "sound")
    assert resumed.done
    assert resumed.states == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    reason = resumed.trials[0].user_attrs["reason"]
    assert reason.startswith("failed: step 1 cannot be repeated: perplexity ")
    rates = [trial.params["learning_rate"] for trial in resumed.trials]
    assert rates[0] in rates[1:]


def test_after_its_retries_a_lost_trial_fails(folder: Path) -> None:
    run = Run(folder, "sound", executor=Pair(lose=2), retries=1, trials=2)
    assert run.states[0] == "FAIL"
    assert run.trials[0].user_attrs["reason"] == "lost: its worker process died"
    assert run.states[1] == "COMPLETE"
