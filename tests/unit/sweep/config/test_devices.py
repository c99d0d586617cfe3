"""Which devices the workers get; no device is touched."""

import pytest
import torch

from sweep.config.devices import worker_devices
from sweep.errors import SweepError


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


def test_without_more_words_there_is_one_worker_on_the_sweeps_device() -> None:
    assert worker_devices("cpu") == ("cpu",)
    assert worker_devices("cuda:3") == ("cuda:3",)


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
