"""One training on several devices: real processes on the CPU, beside one that trains alone."""

import dataclasses
import itertools
import pickle
import signal
import subprocess
import sys
import textwrap
import types

import psutil
import pytest
import torch
from torch import distributed as dist
from training import write_docstrings

import trainers.train
from trainers import process_tree
from trainers.batches import Batch
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.data import build_corpus
from trainers.data.corpus import write as write_corpus
from trainers.distributed import devices_named
from trainers.errors import TrainerError
from trainers.faults import ending_of
from trainers.report import Outcome, Progress, Report, Verdict
from trainers.steps.ranks import Ranks
from trainers.train import train

BATCH, ROWS = 50, 101  # the last batch of an epoch has one row: fewer than there are ranks
MODELS = {
    "gpt": ModelConfig(
        name="gpt", options={"width": 16, "layers": 2, "heads": 2, "dropout": 0.2, "context": 16}
    ),
    "context_vector": ModelConfig(
        name="context_vector",
        options={"embed": 8, "hidden": 16, "layers": 2, "context": 8, "dropout": 0.2},
    ),
}
OWN = """
    import torch
    from torch import distributed, nn

    def with_dropout(vocabulary_size, p=0.1):
        head = nn.Linear(8, vocabulary_size)
        return nn.Sequential(nn.Embedding(vocabulary_size, 8), nn.Dropout(p), head)

    class Counting(nn.Sequential):
        def forward(self, tokens_BT):
            self[0].seen += len(tokens_BT)
            return super().forward(tokens_BT)

    def counting(vocabulary_size):
        model = Counting(nn.Embedding(vocabulary_size, 8), nn.Linear(8, vocabulary_size))
        model[0].register_buffer("seen", torch.zeros(()))
        return model

    class Narrow(nn.Sequential):
        def forward(self, tokens_BT):
            there = distributed.is_initialized() and distributed.get_rank() == self.rank
            if there and len(tokens_BT) > self.most:
                torch.empty(2**50)
            return super().forward(tokens_BT)

    def narrow(vocabulary_size, most=8, rank=1):
        model = Narrow(nn.Embedding(vocabulary_size, 8), nn.Linear(8, vocabulary_size))
        model.most, model.rank = most, rank
        return model

    def broken(vocabulary_size):
        if __import__("os").environ.get("SWEEP_DIRECTORY"):
            raise ValueError("not here")
        return narrow(vocabulary_size)
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study's folder with its corpus: docstrings of the standard library."""
    folder = tmp_path_factory.mktemp("study")
    text = write_docstrings(folder)
    data = DataConfig(
        name=str(text), window=16, stride=8, vocabulary_size=200, train_sequences=ROWS
    )
    write_corpus(build_corpus(data), folder / "corpus.safetensors")
    return types.SimpleNamespace(folder=folder, data=data, numbers=itertools.count())


@pytest.fixture
def folder(study):
    """Makes a trial's folder beside the study's corpus."""
    return lambda: study.folder / f"{next(study.numbers):04d}"


@pytest.fixture
def make(study):
    """Makes a config, by default of two epochs of three steps."""

    def made(model="gpt", **fields):
        fields = {
            "learning_rate": 0.3,
            "optimizer": "sgd",
            "epochs": 2,
            "data": study.data,
        } | fields
        chosen = MODELS.get(model) or ModelConfig(name=model)
        return TrainConfig(batch_size=BATCH, model=chosen, **fields)

    return made


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's own models, in the working folder."""
    (tmp_path / "own_models.py").write_text(textwrap.dedent(OWN))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_models", None)


def run(config, device, directory, verdict=lambda said: None):
    """Trains to the end, and looks whether any process is left.

    Returns:
        The reports, what it ended with, and the weights of the last checkpoint.
    """
    training, answer, reports = train(config, device=device, directory=directory), None, []
    while True:
        try:
            said = training.send(answer)
        except StopIteration as stop:
            ending = stop.value
            break
        answer = verdict(said)
        reports += [said] if isinstance(said, Report) else []
    assert process_tree.members(directory) == []
    assert not dist.is_initialized()
    stored = torch.load(directory / "last.pt", weights_only=True)
    return reports, ending, stored["model"]


def assert_same(one, other):
    """Two runs' reports and weights are the same to 1e-5."""
    assert len(one[0]) == len(other[0]) > 0
    for a, b in zip(one[0], other[0], strict=True):
        assert (a.step, a.tokens, a.skipped_steps) == (b.step, b.tokens, b.skipped_steps)
        for name in ("train_loss", "validation_loss", "accuracy"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-5), name
    for name, weight in one[2].items():
        torch.testing.assert_close(weight, other[2][name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("model", "precision", "ranks", "rows"),
    [
        ("gpt", "fp32", 2, 0),
        ("context_vector", "fp16", 3, 0),
        # Shares of 17, 17 and 16 rows, computed in parts.
        pytest.param("context_vector", "fp32", 3, 7, marks=pytest.mark.more),
        pytest.param("gpt", "fp16", 2, 0, marks=pytest.mark.more),
    ],
)
def test_several_train_as_one_does(make, folder, model, precision, ranks, rows):
    config = make(model, precision=precision)
    device = f"cpu:{','.join(map(str, range(ranks)))}"
    several = run(dataclasses.replace(config, micro_batch=rows), device, folder())
    # FP16 rounds the products of each part: those of the shares, as here.
    parts = -(-BATCH // ranks) if precision == "fp16" else 0
    alone = run(dataclasses.replace(config, micro_batch=parts), "cpu", folder())
    assert several[1].outcome is alone[1].outcome is Outcome.COMPLETED
    assert_same(several, alone)


@pytest.mark.more
def test_a_step_that_overflows_is_skipped_by_all(make, folder, monkeypatch):
    monkeypatch.setattr("trainers.precision.INITIAL_SCALE", 2.0**30)
    config = make("gpt", precision="fp16", epochs=4)
    alone = run(dataclasses.replace(config, micro_batch=25), "cpu", folder())
    assert sum(report.skipped_steps for report in alone[0]) > 3
    # The followers are processes of their own: the scale comes to them by the checkpoint.
    half = folder()
    first = run(config, "cpu", half, lambda said: Verdict.PAUSE if said.step >= 3 else None)
    assert first[1].outcome is Outcome.PAUSED
    assert first[0][0].skipped_steps == 3
    several = run(config, "cpu:0,1", half)
    assert [it.skipped_steps for it in several[0]] == [it.skipped_steps for it in alone[0]]
    for a, b in zip(several[0], alone[0], strict=True):
        assert a.validation_loss == pytest.approx(b.validation_loss, rel=1e-5)


@pytest.mark.parametrize(
    ("before", "after"),
    [("cpu:0,1", "cpu"), pytest.param("cpu", "cpu:0,1", marks=pytest.mark.more)],
)
def test_what_is_paused_goes_on_with_another_number(make, folder, monkeypatch, before, after):
    monkeypatch.setattr(trainers.train, "PROGRESS_INTERVAL_S", 0.0)
    config, directory = make("gpt", optimizer="adamw", learning_rate=1e-3), folder()

    def pause(said):
        return Verdict.PAUSE if isinstance(said, Progress) and said.step == 2 else None

    paused = run(config, before, directory, pause)
    assert paused[1].outcome is Outcome.PAUSED
    assert paused[0] == []
    assert_losses(run(config, after, directory)[0], run(config, "cpu", folder())[0])


def assert_losses(one, other):
    for a, b in zip(one, other, strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-5)
        assert a.validation_loss == pytest.approx(b.validation_loss, rel=1e-5)


@pytest.mark.more
def test_a_pruned_training_leaves_nobody(make, folder):
    reports, ending, _ = run(make(), "cpu:0,1,2", folder(), lambda said: Verdict.PRUNE)
    assert ending.outcome is Outcome.PRUNED
    assert len(reports) == 1


def test_where_one_finds_no_room_all_take_fewer_rows(own, make, folder):
    config = make("own_models:narrow")
    several = run(config, "cpu:0,1", folder())
    assert several[0][-1].micro_batch == 6, "25 rows each, halved until 8 have room"
    assert_same(several, run(config, "cpu", folder()))


@pytest.mark.more
@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_has_no_room_at_all_ends_the_training_so(own, make, folder, rank):
    chosen = ModelConfig(name="own_models:narrow", options={"most": 0, "rank": rank})
    config = dataclasses.replace(make(), model=chosen)
    ending = failure(config, folder())
    assert ending.outcome is Outcome.OUT_OF_MEMORY


def failure(config, directory, verdict=lambda said: None):
    """How a training ended that raised."""
    with pytest.raises(Exception) as raised:  # noqa: PT011
        run(config, "cpu:0,1", directory, verdict)
    assert process_tree.members(directory) == []
    assert not dist.is_initialized()
    return ending_of(raised.value)


@pytest.mark.more
def test_what_another_raises_is_the_trainings_end(own, make, folder):
    ending = failure(make("own_models:broken"), folder())
    assert ending.outcome is Outcome.FAILED
    assert ending.message == "failed: model own_models:broken cannot be built: not here"


def followers(directory):
    """The trial's processes that train, the youngest last."""
    found = [it for it in process_tree.members(directory) if "trainers.follower" in it.cmdline()]
    return sorted(found, key=lambda process: process.create_time())


def test_where_one_is_killed_the_training_is_lost(make, folder):
    directory = folder()

    def kill(said):
        if isinstance(said, Report) and said.epoch == 1:
            followers(directory)[0].send_signal(signal.SIGKILL)

    ending = failure(make(epochs=50), directory, kill)
    assert ending.outcome is Outcome.LOST
    assert ending.message == "lost: process 2 of the trial's 2 was killed by signal 9"


LEADER = """
    import pickle, sys
    from pathlib import Path
    from trainers.train import train

    config = pickle.load(sys.stdin.buffer)
    for said in train(config, device="cpu:0,1,2", directory=Path(sys.argv[1])):
        print(said, flush=True)
"""


@pytest.mark.more
@pytest.mark.parametrize(
    "stopped", [pytest.param(False, marks=pytest.mark.more), True], ids=["running", "one hangs"]
)
def test_nobody_outlives_a_first_one_that_is_killed(make, folder, stopped):
    directory = folder()
    command = [sys.executable, "-c", textwrap.dedent(LEADER), str(directory)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as leader:
        pickle.dump(make(epochs=10**6), leader.stdin)
        leader.stdin.close()
        assert leader.stdout.readline()
        others = followers(directory)
        assert len(others) == 2
        if stopped:
            others[0].send_signal(signal.SIGSTOP)
        leader.kill()
    psutil.wait_procs(others, timeout=30)
    assert [process for process in others if process.is_running()] == []


@pytest.mark.more
def test_they_hear_no_signal_that_asks_a_sweep_to_stop(make, folder):
    directory, asked = folder(), []

    def interrupt(said):
        for process in followers(directory):
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            asked.append(process.pid)

    _, ending, _ = run(make(), "cpu:0,1", directory, interrupt)
    assert ending.outcome is Outcome.COMPLETED
    assert len(asked) >= 2


def test_more_devices_than_rows_are_refused(make, folder):
    devices = f"cpu:{','.join(map(str, range(BATCH + 1)))}"
    with pytest.raises(TrainerError, match="batch_size 50 is below the 51 devices"):
        next(train(make(), device=devices, directory=folder()))


def test_a_process_that_trains_with_others_already_is_refused(make, folder, tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/one", rank=0, world_size=1)
    try:
        with pytest.raises(TrainerError, match="trains together with others already"):
            next(train(make(), device="cpu:0,1", directory=folder()))
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("own_models:with_dropout", "draws its own dropout in training"),
        ("own_models:counting", "keeps statistics of its rows in training"),
    ],
)
def test_a_model_that_several_would_train_otherwise_is_refused(own, make, folder, model, words):
    ending = failure(make(model), folder())
    assert ending.outcome is Outcome.FAILED
    assert ending.message.startswith(f"failed: model {model} {words}")


def test_an_error_of_this_process_alone_is_raised_as_it_is(monkeypatch):
    def fails(*_):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(dist, "all_reduce", fails)
    with pytest.raises(RuntimeError) as raised:
        Ranks(0, 2).least(1)
    assert ending_of(raised.value).outcome is Outcome.OUT_OF_MEMORY
    with pytest.raises(RuntimeError) as raised:
        Ranks(0, 2).sum_([torch.ones(2)])
    assert raised.value.__cause__ is None, "whoever follows the causes comes to an end"


def test_devices_by_name():
    cpu = torch.device("cpu")
    assert devices_named("cuda:2,0") == [torch.device("cuda:2"), torch.device("cuda:0")]
    assert devices_named("cpu:0,1,2") == [cpu, cpu, cpu]
    assert devices_named("cpu") == devices_named(cpu) == [cpu]


@pytest.mark.parametrize("name", ["cuda:0,0", "cuda:0,", "cuda:0,one", "meta:0,1"])
def test_a_name_of_devices_that_says_nothing_is_refused(name):
    with pytest.raises(TrainerError, match="several devices read cuda:0,1"):
        devices_named(name)


@pytest.mark.parametrize(("rows", "count"), [(1, 4), (3, 4), (4, 4), (50, 3), (7, 2)])
def test_each_row_is_one_ranks(rows, count):
    lengths = torch.full((rows,), 5)
    batch = Batch(torch.arange(rows * 5).view(rows, 5), lengths, torch.zeros(rows))
    shares = [Ranks(rank, count).share(batch) for rank in range(count)]
    real = [share for share in shares if share.counts]
    torch.testing.assert_close(torch.cat([it.batch.tokens_BT for it in real]), batch.tokens_BT)
    for share in shares:
        assert 1 <= len(share.batch.lengths_B) <= Ranks(0, count).rows(rows)
        first = share.batch.tokens_BT[0]
        torch.testing.assert_close(first, batch.tokens_BT[share.first])
    assert shares[0].counts
    assert len(real) == min(rows, count)
