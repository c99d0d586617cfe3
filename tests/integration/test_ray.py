"""A sweep on a real Ray cluster of two nodes, one of which is killed in mid-trial."""

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
from support import Workspace, refusal

from sweep.execution.executors import make_executor
from sweep.execution.protocol import Ended, Reported, Resources, TrialSpec
from trainers.config import TrainConfig
from trainers.report import Outcome, Verdict

pytestmark = [pytest.mark.more, pytest.mark.timeout(900)]

# Writes where it trained; on a node it goes on after its first report when one has been killed,
# and with it this process: a worker outlives its node for a moment, and might end its trial.
SLOW = """\
    import os, sys, time
    from trainers.train import train as shared

    def train(config, *, device, directory):
        if ray := sys.modules.get("ray"):
            (directory / "process").write_text(str(os.getpid()))
            (directory / "node").write_text(ray.get_runtime_context().get_node_id())
        training = shared(config, device=device, directory=directory)
        verdict = None
        while True:
            try:
                said = training.send(verdict)
            except StopIteration as end:
                return end.value
            verdict = yield said
            while ray and not directory.with_name("killed").exists():
                time.sleep(0.05)
"""
SETTINGS = ("--set", "study.sampler=random", "--set", "study.pruner=none", "--trials", 3)


def test_a_trial_of_a_lost_node_goes_on_on_the_other_to_the_same_result(
    workspace: Workspace, cluster: Any
) -> None:
    workspace.write("slow.py", SLOW)
    settings = (*SETTINGS, "--trainer", "slow:train")
    second = cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=80 * 2**20)
    with workspace.start("run", *settings, "--executor", "ray", "--json") as live:
        lost = ""
        while not lost:
            number = live.until("trial_reported")["number"]
            if (workspace.folder(number) / "node").read_text() == second.node_id:
                lost = str(number)
        cluster.remove_node(second, allow_graceful=False)
        process = (workspace.folder(int(lost)) / "process").read_text()
        while Path("/proc", process).exists():
            time.sleep(0.1)
        workspace.folder(int(lost)).with_name("killed").touch()
        done = live.end(0)
    warnings = [event["text"] for event in done.events if event["event"] == "warning"]
    (said,) = (text for text in warnings if "a fresh worker goes on" in text)
    assert said.startswith(f"trial {lost}: lost: its Ray actor died")
    assert (workspace.folder(int(lost)) / "node").read_text() != second.node_id
    workspace.invoke("run", *settings, "--storage", "alone.db")
    assert workspace.curves() == workspace.curves("alone.db")
    assert workspace.states() == ["COMPLETE"] * 3


def test_a_sweep_that_loses_its_last_node_waits_for_another_one(
    workspace: Workspace, cluster: Any
) -> None:
    """The nodes that others use claim no GPU: the only one with room is this one."""
    workspace.write("gpu.py", ON_A_GPU)
    node = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * 2**20}
    only = cluster.add_node(**node)
    run = ("run", *SETTINGS, "--trainer", "gpu:train", "--executor", "ray", "--json")
    with workspace.start(*run, "--set", 'device="cuda"') as live:
        live.until("trial_reported")
        cluster.remove_node(only, allow_graceful=False)
        live.until("note", text="no room for a trial: waiting until there is")
        (workspace.path / "lost").touch()
        another = cluster.add_node(**node)
        live.until("note", text="there is room for a trial again")
        live.end(0)
    assert workspace.states() == ["COMPLETE"] * 3
    cluster.remove_node(another)


# It computes on none: the node only claims to have one.
ON_A_GPU = """\
    import math, time
    from pathlib import Path
    from trainers.report import Ending, Report, Outcome, Progress

    def train(config, *, device, directory):
        for epoch in range(1, config.epochs + 1):
            yield Report(epoch=epoch, validation_loss=math.log(60 - epoch))
            while not Path("lost").exists():
                yield Progress(epoch)
                time.sleep(0.05)
        return Ending(Outcome.COMPLETED)
"""


# Says which GPUs Ray lets it see, and goes on when it is told to.
SHARING = """\
    import math, os, time
    from trainers.report import Ending, Report, Outcome, Progress

    def train(config, *, device, directory):
        seen = directory / "seen"
        seen.write_text(f"{device} {os.environ['CUDA_VISIBLE_DEVICES']}")
        while not directory.with_name("go").exists():
            yield Progress(1)
            time.sleep(0.05)
        yield Report(epoch=1, validation_loss=math.log(60))
        return Ending(Outcome.COMPLETED)
"""


def test_two_trials_share_a_gpu_and_there_is_no_room_for_a_third(
    workspace: Workspace, cluster: Any
) -> None:
    """The GPU is one that the node only claims to have: Ray deals it out, nobody computes on it."""
    workspace.write("sharing.py", SHARING)
    node = cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=80 * 2**20)
    resources = Resources(devices=("cuda",), gpus=0.5)
    folders = [workspace.path / f"{number:04d}" for number in range(3)]
    ended: list[Outcome] = []
    with contextlib.chdir(workspace.path), make_executor("ray", resources) as executor:
        assert executor.capacity == 2
        for number, folder in enumerate(folders):
            folder.mkdir()
            config = TrainConfig(learning_rate=1e-3)
            spec = TrialSpec(number, config, folder, trainer="sharing:train")
            if number < 2:
                executor.submit(spec)
        with pytest.raises(RuntimeError, match="which is the capacity"):
            executor.submit(spec)
        while len(ended) < 2:
            for event in executor.events(1.0):
                if isinstance(event, Reported):
                    executor.reply(event.number, Verdict.CONTINUE)
                elif isinstance(event, Ended):
                    ended.append(event.outcome)
            if all((folder / "seen").exists() for folder in folders[:2]):
                (workspace.path / "go").touch()  # both ran at the same time
    assert ended == [Outcome.COMPLETED] * 2
    assert [(folder / "seen").read_text() for folder in folders[:2]] == ["cuda 0"] * 2
    cluster.remove_node(node)


def test_a_trial_of_two_gpus_counts_its_own(workspace: Workspace, cluster: Any) -> None:
    """The node only claims to have them."""
    workspace.write("sharing.py", SHARING)
    node = cluster.add_node(num_cpus=2, num_gpus=4, object_store_memory=80 * 2**20)
    (workspace.path / "go").touch()
    folder = workspace.path / "0000"
    folder.mkdir()
    resources = Resources(devices=("cuda:0,1",), gpus=2)
    with contextlib.chdir(workspace.path), make_executor("ray", resources) as executor:
        assert executor.capacity == 2
        config = TrainConfig(learning_rate=1e-3)
        executor.submit(TrialSpec(0, config, folder, trainer="sharing:train"))
        last: object = None
        while not isinstance(last, Ended):
            for last in executor.events(1.0):
                if isinstance(last, Reported):
                    executor.reply(0, Verdict.CONTINUE)
    device, visible = (folder / "seen").read_text().split()
    assert device == "cuda:0,1"
    assert len(visible.split(",")) == 2
    cluster.remove_node(node)


def test_without_a_cluster_or_room_on_it_there_is_one_line(
    workspace: Workspace, cluster: Any
) -> None:
    run = ("run", "--executor", "ray")
    line = refusal(workspace.invoke(*run, "--set", "study.cpus_per_trial=64", code=2))
    assert "no room for a trial: it needs 64 CPU" in line
    line = refusal(workspace.invoke(*run, "--ray-address", "127.0.0.1:1", code=2))
    assert "no Ray cluster at '127.0.0.1:1'" in line
    assert "ray start --head" in line
