"""Which device there is."""

import torch

from sweep.errors import SweepError


def cuda_found() -> bool:
    """Whether torch sees a CUDA device."""
    return torch.cuda.is_available()


def check_device(name: str) -> None:
    """Refuses a device that is not there.

    Raises:
        SweepError: unknown, or no such device on this machine.
    """
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


def worker_devices(
    device: str, devices: str | tuple[int, ...] = (), workers: int = 1
) -> tuple[str, ...]:
    """The device of each worker.

    Args:
        device: the sweep's.
        devices: numbers of CUDA devices, or "all"; () for `device` alone.
        workers: worker processes on the CPU.

    Raises:
        SweepError: no such devices here, or both of them ask for workers.
    """
    cuda = torch.device(device).type == "cuda"
    if not devices:
        if cuda and workers > 1:
            raise SweepError(
                f"study.workers (--workers) is for the CPU, and the sweep runs on {device}: "
                "--devices 0,1 or --devices all gives each GPU a worker"
            )
        return (device,) * workers
    if not cuda:
        raise SweepError(
            f"study.devices (--devices) names CUDA devices, and the sweep runs on {device}: "
            "--workers trains several trials at once there"
        )
    if workers > 1:
        raise SweepError("study.workers and study.devices exclude each other: leave one out")
    there = range(torch.cuda.device_count())
    numbers = there if devices == "all" else [int(number) for number in devices]
    for number in numbers:
        if number not in there:
            raise SweepError(
                f"study.devices (--devices): there is no CUDA device {number}, only "
                f"{', '.join(map(str, there))}"
            )
    return tuple(f"cuda:{number}" for number in numbers)


def describe_choice(profile: str, device: str, *, asked: bool) -> str:
    """One line that says which profile runs on what, and why."""
    if asked:
        why = "as asked"
    elif cuda_found():
        why = f"{torch.cuda.get_device_name()} was found"
    else:
        why = "no CUDA device was found"
    return f"profile {profile} on {device}: {why}"
