"""A sweep that is stopped, killed and spoilt, and the same command that goes on with it."""

import contextlib
import dataclasses
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Done, Live, Workspace, gone, wait_for

from trainers import checkpoint

# The shared trainer, which waits in the middle of an epoch for as long as the file `hold` names it:
# so that a signal meets it there, however fast or slow the machine is.
HELD = """\
    import os, time
    from pathlib import Path
    from trainers import train as shared
    from trainers.report import Progress

    def train(config, *, device, directory):
        shared.PROGRESS_INTERVAL_S = 0.0  # here: only the worker runs this, every test imports it
        (directory / "pid").write_text(str(os.getpid()))
        training, verdict = shared.train(config, device=device, directory=directory), None
        while True:
            try:
                said = training.send(verdict)
            except StopIteration as stop:
                return stop.value
            verdict = yield said
            while verdict is None and isinstance(said, Progress) and held(said, config, directory):
                time.sleep(0.05)
                verdict = yield said

    def held(said, config, directory):
        hold = Path("hold")
        epoch, step = divmod(said.step, said.steps // config.epochs)
        named = f"{directory.name} {epoch + 1}"
        return hold.exists() and hold.read_text() == named and step >= 2
"""
RUN = ("run", "--trainer", "held:train", "--trials", 4, "--json")


@dataclasses.dataclass(frozen=True)
class Stop:
    """What was to be seen after an interruption."""

    said: Done
    states: list[str]
    epochs: list[int]
    holders: list[tuple[Any, ...]]
    worker: int


@dataclasses.dataclass(frozen=True)
class Story:
    """A sweep that was interrupted in every way; `end` is what its last run said."""

    workspace: Workspace
    stops: dict[str, Stop]
    end: Done


def hold(workspace: Workspace, number: int, epoch: int) -> None:
    (workspace.path / "hold").write_text(f"{number:04d} {epoch}")


def worker_of(workspace: Workspace, number: int) -> int:
    return int((workspace.folder(number) / "pid").read_text())


def stop_at_start(workspace: Workspace) -> Stop:
    """Ctrl-C while the first worker still imports torch."""
    with workspace.start(*RUN) as live:
        live.until("trial_started", number=0)
        wait_for(lambda: imports_torch(live.process.pid))
        live.signal(signal.SIGINT, group=True)
        return seen(workspace, live.end(3), 0)


def imports_torch(orchestrator: int) -> bool:
    """Whether the worker, the child that multiprocessing spawned, has begun to load torch."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == orchestrator and b"spawn_main" in (folder / "cmdline").read_bytes():
                return "libtorch" in (folder / "maps").read_text()
    return False


def stop_inside(
    workspace: Workspace, number: int, how: signal.Signals, code: int, *, group: bool = False
) -> Stop:
    """A signal in the middle of a trial's second epoch."""
    hold(workspace, number, 2)
    with workspace.start(*RUN) as live:
        until_held(live, workspace, number, 2)
        worker = worker_of(workspace, number)
        live.signal(how, group=group)
        return seen(workspace, live.end(code), worker)


def until_held(live: Live, workspace: Workspace, number: int, epoch: int) -> None:
    live.until("trial_started", number=number)
    live.until("trial_progressed", number=number, step=(epoch - 1) * per_epoch(workspace) + 2)


def per_epoch(workspace: Workspace) -> int:
    """The steps of an epoch."""
    return int(workspace.study().user_attrs["steps_per_epoch"])


def seen(workspace: Workspace, said: Done, worker: int) -> Stop:
    study = workspace.study()
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]
    return Stop(
        said,
        [trial.state.name for trial in trials],
        [len(trial.intermediate_values) for trial in trials],
        workspace.sql("select pid from sweep_leases"),
        worker,
    )


def kill_the_worker(workspace: Workspace, number: int) -> Done:
    """SIGKILL for the worker alone, in a trial's last epoch; the sweep then runs to its end."""
    hold(workspace, number, 3)
    with workspace.start(*RUN) as live:
        until_held(live, workspace, number, 3)
        os.kill(worker_of(workspace, number), signal.SIGKILL)
        warning = live.until("warning")["text"]
        (workspace.path / "hold").unlink()
        return dataclasses.replace(live.end(0), err=warning)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    """The sweep without an interruption."""
    workspace = Workspace(tmp_path_factory.mktemp("straight"), english)
    workspace.write("held.py", HELD)
    workspace.said = workspace.sweep(*RUN)
    return workspace


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Story:
    workspace = Workspace(tmp_path_factory.mktemp("story"), english)
    workspace.write("held.py", HELD)
    stops = {
        "early": stop_at_start(workspace),
        "ctrl-c": stop_inside(workspace, 0, signal.SIGINT, 3, group=True),
        "term": stop_inside(workspace, 1, signal.SIGTERM, 3),
        "kill": stop_inside(workspace, 2, signal.SIGKILL, -signal.SIGKILL),
    }
    return Story(workspace, stops, kill_the_worker(workspace, 3))


def assert_same(one: Workspace, other: Workspace) -> None:
    """Bit for bit: rates, every perplexity, every measured loss, every parameter in the end."""
    assert one.curves() == other.curves()
    assert one.states() == other.states()
    pairs = zip(*(w.study().get_trials(deepcopy=False) for w in (one, other)), strict=True)
    for mine, theirs in pairs:
        assert mine.params == theirs.params
        assert mine.value == theirs.value
        for key in ("train_loss", "accuracy", "nearest_rule", "multiples", "outcome", "reason"):
            assert mine.user_attrs.get(key) == theirs.user_attrs.get(key)
    for number in range(4):
        mine, theirs = (torch.load(w.folder(number) / "last.pt") for w in (one, other))
        assert mine["history"][-1]["epoch"] == 3
        for name, tensor in mine["model"].items():
            assert torch.equal(tensor, theirs["model"][name])


def reported(said: Done) -> list[tuple[int, int]]:
    """(trial, epoch) of every report that was shown."""
    events = [event for event in said.events if event["event"] == "trial_reported"]
    return [(event["number"], event["report"]["epoch"]) for event in events]


class TestAStop:
    @pytest.mark.parametrize("way", ["early", "ctrl-c", "term"])
    def test_it_ends_the_sweep_cleanly_and_says_how_to_go_on(self, story: Story, way: str) -> None:
        said = story.stops[way].said
        assert said.err == ""
        last = said.events[-1]
        assert last["event"] == "study_paused"
        assert last["command"] == "sweep run --trainer held:train --trials 4 --json"

    def test_the_running_trial_stays_running_with_its_checkpoint(self, story: Story) -> None:
        assert story.stops["early"].states == ["RUNNING"]
        assert story.stops["early"].epochs == [0]
        assert story.stops["ctrl-c"].states == ["RUNNING"]
        assert story.stops["ctrl-c"].epochs == [1]
        assert story.stops["term"].states == ["COMPLETE", "RUNNING"]
        assert story.stops["term"].epochs == [3, 1]

    def test_the_lease_is_given_back(self, story: Story) -> None:
        assert story.stops["ctrl-c"].holders == story.stops["term"].holders == []

    @pytest.mark.parametrize("way", ["ctrl-c", "term", "kill"])
    def test_no_worker_outlives_its_orchestrator(self, story: Story, way: str) -> None:
        assert gone(story.stops[way].worker)

    def test_a_killed_orchestrator_leaves_its_lease_and_the_next_one_takes_it_over(
        self, story: Story
    ) -> None:
        kill = story.stops["kill"]
        assert kill.states == ["COMPLETE", "COMPLETE", "RUNNING"]
        assert len(kill.holders) == 1
        # Given back by the run after it.
        assert story.workspace.sql("select pid from sweep_leases") == []


class TestTheSameCommandAgain:
    def test_it_repeats_nothing_that_was_finished(self, story: Story) -> None:
        started = [
            (event["trial"]["number"], event["trial"]["step"] / per_epoch(story.workspace))
            for way in ("ctrl-c", "term", "kill")
            for event in story.stops[way].said.events
            if event["event"] == "trial_started"
        ]
        assert started == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]

    def test_an_epoch_that_was_shown_is_not_shown_again(self, story: Story) -> None:
        runs = [story.stops[way].said for way in ("ctrl-c", "term", "kill")]
        epochs = [epoch for said in runs for epoch in reported(said)]
        assert epochs == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3), (2, 1)]

    def test_a_killed_worker_costs_a_line_and_a_fresh_one(self, story: Story) -> None:
        assert story.end.err == (
            "trial 3: lost: its worker process died (killed by SIGKILL); a fresh worker goes on"
        )
        assert story.end.events[-1]["event"] == "study_finished"

    def test_in_the_end_all_is_as_without_any_interruption(
        self, story: Story, straight: Workspace
    ) -> None:
        assert straight.states() == ["COMPLETE"] * 4
        assert_same(story.workspace, straight)


def unfinish(workspace: Workspace, number: int, *, epochs: int) -> None:
    """Makes of a finished trial what a crash would have left: running, with so many epochs."""
    ((trial,),) = workspace.sql("select trial_id from trials where number = ?", number)
    last = epochs * per_epoch(workspace)
    workspace.sql(
        "update trials set state = 'RUNNING', datetime_complete = null where trial_id = ?", trial
    )
    workspace.sql("delete from trial_values where trial_id = ?", trial)
    workspace.sql(
        "delete from trial_intermediate_values where trial_id = ? and step > ?", trial, last
    )
    workspace.sql(
        "delete from trial_user_attributes where trial_id = ? and key not in "
        "('nearest_rule', 'multiple', 'multiples')",
        trial,
    )  # fmt: skip


def unask(workspace: Workspace, number: int) -> None:
    """A kill between ask and suggest: the trial runs, and has no rate, rule or folder."""
    unfinish(workspace, number, epochs=0)
    for table in ("trial_params", "trial_user_attributes"):
        workspace.sql(
            f"delete from {table} where trial_id = (select trial_id from trials where number = ?)",
            number,
        )
    shutil.rmtree(workspace.folder(number))


class TestACrash:
    def test_between_any_two_writes_loses_and_repeats_nothing(
        self, straight: Workspace, tmp_path: Path
    ) -> None:
        crashed = straight.copy_to(tmp_path / "crashed")
        unfinish(crashed, 0, epochs=3)  # the database is ahead of the checkpoint
        (crashed.folder(0) / "last.pt").unlink()
        unfinish(crashed, 1, epochs=1)  # the checkpoint is ahead of the database
        unask(crashed, 2)  # killed between ask and suggest: a rule's rate, enqueued before
        assert crashed.states() == ["RUNNING"] * 3 + ["COMPLETE"]
        assert crashed.curves() != straight.curves()

        done = crashed.invoke(*RUN)

        assert_same(crashed, straight)
        assert reported(done) == [(1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]

    def test_between_ask_and_suggest_the_sampler_draws_the_same_rate_again(
        self, straight: Workspace, tmp_path: Path
    ) -> None:
        crashed = straight.copy_to(tmp_path / "crashed")
        unask(crashed, 3)
        assert crashed.study().get_trials(deepcopy=False)[3].params == {}
        crashed.invoke(*RUN)
        assert_same(crashed, straight)

    def test_a_trial_whose_perplexity_differs_from_the_stored_one_begins_anew(
        self, straight: Workspace, tmp_path: Path
    ) -> None:
        crashed = straight.copy_to(tmp_path / "crashed")
        unfinish(crashed, 1, epochs=2)
        second = 2 * per_epoch(crashed)
        crashed.sql(
            "update trial_intermediate_values set intermediate_value = 33.5 where step = ? and "
            "trial_id = (select trial_id from trials where number = 1)",
            second,
        )
        crashed.invoke(*RUN)
        _, first, *_, anew = crashed.study().trials
        assert crashed.states().count("COMPLETE") == straight.states().count("COMPLETE")
        assert first.state.name == "FAIL"
        assert first.user_attrs["reason"].startswith(f"failed: step {second} cannot be repeated: ")
        assert "33.5 before" in first.user_attrs["reason"]
        assert first.intermediate_values[second] == 33.5
        assert anew.params == first.params
        assert anew.intermediate_values == straight.curves()[1]


def as_version_1(workspace: Workspace, per: int) -> None:
    """Makes of a study and its checkpoints what version 1 would have written."""
    # The trials of one study: no two of its reports change places.
    workspace.sql("update trial_intermediate_values set step = step / ?", per)
    workspace.sql("delete from trial_user_attributes where key = 'steps'")
    workspace.sql("delete from study_user_attributes where key = 'unit'")
    for key, value in (("version", "1"), ("floor", "2")):
        workspace.sql("update study_user_attributes set value_json = ? where key = ?", value, key)
    for file in workspace.path.glob("runs/*/*/*.pt"):
        state = checkpoint.read(file)
        if "history" in state:
            new = {"step", "steps", "tokens"}
            state["history"] = [
                {key: value for key, value in report.items() if key not in new}
                for report in state["history"]
            ]
        checkpoint.write(file, state)


def test_a_study_of_version_1_goes_on_by_epochs_from_its_checkpoints(
    straight: Workspace, tmp_path: Path
) -> None:
    old = straight.copy_to(tmp_path / "old")
    unfinish(old, 1, epochs=1)
    per = per_epoch(old)
    as_version_1(old, per)
    done = old.invoke(*RUN)
    assert reported(done) == [(1, 2), (1, 3)]
    by_epochs = {
        number: {step // per: value for step, value in curve.items()}
        for number, curve in straight.curves().items()
    }
    assert old.curves() == by_epochs
    assert old.states() == straight.states()
    (begun,) = [event["trial"] for event in done.events if event["event"] == "trial_started"]
    assert (begun["step"], begun["steps"], begun["unit"]) == (1, 3, "epoch")
    said = old.invoke("status").out
    assert "3/3" in said
    assert "epochs" in said
    assert "steps" not in said
