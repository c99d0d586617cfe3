"""Which devices the workers get; no device is touched."""

import pytest
import torch

from sweep.config.devices import check_device, shown_devices, spare_devices, worker_devices
from sweep.errors import SweepError


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


def test_without_more_words_there_is_one_worker_on_the_sweeps_device() -> None:
    assert worker_devices("cpu") == ("cpu",)
    assert worker_devices("cuda:3") == ("cuda:3",)


def test_on_the_cpu_a_trial_may_take_processes() -> None:
    assert worker_devices("cpu", gpus=2, processes=True) == ("cpu:0,1",)
    assert worker_devices("cpu", (), 2, gpus=3, processes=True) == ("cpu:0,1,2", "cpu:0,1,2")


def test_workers_divide_the_cpu() -> None:
    assert worker_devices("cpu", (), 3) == ("cpu", "cpu", "cpu")


@pytest.mark.parametrize(
    ("devices", "found"),
    [
        ((2, 0), ("cuda:2", "cuda:0")),
        ((1,), ("cuda:1",)),
        ("all", ("cuda:0", "cuda:1", "cuda:2", "cuda:3")),
    ],
)
def test_each_gpu_gets_a_worker(
    four: None, devices: str | tuple[int, ...], found: tuple[str, ...]
) -> None:
    assert worker_devices("cuda", devices) == found


@pytest.mark.parametrize(
    ("devices", "gpus", "found", "spare"),
    [
        ((), 2, ("cuda:0,1", "cuda:2,3"), []),
        ("all", 4, ("cuda:0,1,2,3",), []),
        ((3, 1, 0), 2, ("cuda:3,1",), [0]),
        ((), 3, ("cuda:0,1,2",), [3]),
        ("all", 0.5, ("cuda:0", "cuda:1", "cuda:2", "cuda:3"), []),  # a part is a cluster's
    ],
)
def test_where_a_trial_takes_several_they_are_dealt_out_in_groups(
    four: None,
    devices: str | tuple[int, ...],
    gpus: float,
    found: tuple[str, ...],
    spare: list[int],
) -> None:
    assert worker_devices("cuda", devices, gpus=gpus) == found
    assert list(spare_devices(devices, gpus)) == spare


@pytest.mark.parametrize(
    ("device", "devices", "gpus", "words"),
    [
        ("cuda", (), 5, "is 5, and there are only 4 CUDA devices"),
        ("cuda", (1,), 2, "is 2, and there are only 1 CUDA devices"),
        ("cuda:1", (), 2, "the sweep runs on cuda:1 alone"),
        ("cpu", (), 2, "the sweep runs on cpu"),
    ],
)
def test_too_few_are_refused(
    four: None, device: str, devices: tuple[int, ...], gpus: float, words: str
) -> None:
    with pytest.raises(SweepError, match=words):
        worker_devices(device, devices, gpus=gpus)


def test_a_device_is_one() -> None:
    with pytest.raises(SweepError, match="--devices 2,3, and how many a trial takes"):
        check_device("cuda:2,3")


def test_where_several_may_be_named_each_must_be_there(
    four: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_device("cpu:0,1", several=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_device("cuda:2,3", several=True)
    with pytest.raises(SweepError, match="there are only 4 CUDA devices"):
        check_device("cuda:3,4", several=True)


@pytest.mark.parametrize(
    ("device", "gpus", "shown"),
    [("cuda", 4, "cuda:0,1,2,3"), ("cuda", 0.5, "cuda"), ("cuda:3", 1, "cuda"), ("cpu", 4, "cpu")],
)
def test_on_a_cluster_a_trial_counts_its_own(device: str, gpus: float, shown: str) -> None:
    assert shown_devices(device, gpus) == shown


@pytest.mark.parametrize(
    ("device", "devices", "workers", "words"),
    [
        ("cuda", (), 2, ["--workers", "for the CPU", "--devices all"]),
        ("cpu", (0, 1), 1, ["--devices", "runs on cpu", "--workers"]),
        ("cuda", (0, 1), 2, ["exclude each other", "leave one out"]),
        ("cuda", (3, 4), 1, ["no CUDA device 4", "only 0, 1, 2, 3"]),
    ],
)
def test_what_does_not_fit_together_is_refused(
    four: None, device: str, devices: tuple[int, ...], workers: int, words: list[str]
) -> None:
    with pytest.raises(SweepError) as refused:
        worker_devices(device, devices, workers)
    assert all(word in str(refused.value) for word in words)
