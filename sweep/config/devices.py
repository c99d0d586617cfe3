"""Which devices there are, and which of them a trial gets."""

from collections.abc import Sequence

import torch

from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from trainers.distributed import devices_named

ELSEWHERE = ("ray", "slurm")
"""Executors whose devices are not this machine's."""


def cuda_found() -> bool:
    """Whether torch sees a CUDA device."""
    return torch.cuda.is_available()


def check_device(name: str, *, several: bool = False) -> None:
    """Refuses a device that is not there.

    Args:
        name: "cpu", "cuda", "cuda:1".
        several: whether "cuda:0,1" may be named, or "cpu:0,1" for two processes of the CPU.

    Raises:
        SweepError, TrainerError: unknown, or no such device on this machine.
    """
    if "," in name and several:
        for device in devices_named(name):
            check_device(str(device))
        return
    if "," in name:
        raise SweepError(
            f"device '{name}' is several: name them by --devices {name.partition(':')[2]}, and "
            "how many a trial takes by --gpus-per-trial"
        )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SweepError(f"unknown device '{name}': take cpu, cuda or cuda:0") from error
    if device.type not in ("cpu", "cuda"):
        raise SweepError(f"device '{name}' is not supported: take cpu, cuda or cuda:0")
    if device.type != "cuda":
        return
    if not cuda_found():
        raise SweepError(
            f"device '{name}': torch finds no CUDA device here; --device cpu trains without one"
        )
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise SweepError(f"device '{name}': there are only {count} CUDA devices, from cuda:0 on")


def devices_of(config: SweepConfig) -> tuple[str, ...]:
    """What each worker trains on: "cpu", "cuda:1", "cuda:0,1" for trials of two GPUs.

    On the CPU "cpu:0,1": two processes train each trial.

    Where the executor's devices are elsewhere it is one entry: what a trial is shown there.

    Raises:
        SweepError: there are no such devices here.
    """
    study = config.study
    if study.executor not in ELSEWHERE:
        return worker_devices(
            config.device,
            study.devices,
            study.workers,
            study.gpus_per_trial,
            processes=not config.trainer.program.command,
        )
    worker_devices(config.device, study.devices, study.workers)
    gpus = config.slurm.gpus if study.executor == "slurm" and config.slurm.gpus else 0
    return (shown_devices(config.device, gpus or study.gpus_per_trial),)


def shown_devices(device: str, gpus: float) -> str:
    """The device of a trial that a cluster shows its own GPUs only, as numbers from 0 on."""
    kind = torch.device(device).type
    return kind if gpus <= 1 or kind != "cuda" else _named(kind, range(int(gpus)))


def worker_devices(
    device: str,
    devices: str | tuple[int, ...] = (),
    workers: int = 1,
    gpus: float = 1,
    *,
    processes: bool = False,
) -> tuple[str, ...]:
    """The device of each worker.

    Args:
        device: the sweep's.
        devices: numbers of CUDA devices, or "all"; () for `device` alone, or where a trial takes
            several, for all of them.
        workers: worker processes on the CPU.
        gpus: that a trial takes; they are dealt out in groups of as many.
        processes: whether on the CPU a trial takes as many processes in their place.

    Raises:
        SweepError: no such devices here, too few, or both of them ask for workers.
    """
    cuda = torch.device(device).type == "cuda"
    if gpus > 1 and not cuda and not processes:
        raise SweepError(
            f"study.gpus_per_trial (--gpus-per-trial) is {gpus:g}, and the sweep runs on {device}"
        )
    if devices and not cuda:
        raise SweepError(
            f"study.devices (--devices) names CUDA devices, and the sweep runs on {device}: "
            "--workers trains several trials at once there"
        )
    if workers > 1 and devices:
        raise SweepError("study.workers and study.devices exclude each other: leave one out")
    if workers > 1 and cuda:
        raise SweepError(
            f"study.workers (--workers) is for the CPU, and the sweep runs on {device}: "
            "--devices 0,1 or --devices all gives each GPU a worker"
        )
    size = max(1, int(gpus))
    if size > 1 and not cuda:
        return (_named("cpu", range(size)),) * workers
    if not devices and size == 1:
        return (device,) * workers
    if not devices and torch.device(device).index is not None:
        raise SweepError(
            f"study.gpus_per_trial (--gpus-per-trial) is {size}, and the sweep runs on {device} "
            "alone: --devices 0,1 or --device cuda names more"
        )
    numbers = _numbers(devices or "all")
    if len(numbers) < size:
        raise SweepError(
            f"study.gpus_per_trial (--gpus-per-trial) is {size}, and there are only "
            f"{len(numbers)} CUDA devices for it"
        )
    groups = [numbers[at : at + size] for at in range(0, len(numbers) - size + 1, size)]
    return tuple(_named("cuda", group) for group in groups)


def spare_devices(devices: str | tuple[int, ...], gpus: float) -> Sequence[int]:
    """The CUDA devices left over where trials take several each; arguments as `worker_devices`."""
    numbers = _numbers(devices or "all") if gpus > 1 else []
    return numbers[len(numbers) - len(numbers) % int(gpus) :] if numbers else []


def _numbers(devices: str | tuple[int, ...]) -> Sequence[int]:
    there = range(torch.cuda.device_count())
    numbers = there if devices == "all" else [int(number) for number in devices]
    for number in numbers:
        if number not in there:
            raise SweepError(
                f"study.devices (--devices): there is no CUDA device {number}, only "
                f"{', '.join(map(str, there))}"
            )
    return numbers


def _named(kind: str, numbers: Sequence[int]) -> str:
    return f"{kind}:{','.join(map(str, numbers))}"


def describe_choice(profile: str, device: str, *, asked: bool) -> str:
    """One line that says which profile runs on what, and why."""
    if asked:
        why = "as asked"
    elif cuda_found():
        why = f"{torch.cuda.get_device_name()} was found"
    else:
        why = "no CUDA device was found"
    return f"profile {profile} on {device}: {why}"
