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


def describe_choice(profile: str, device: str, *, asked: bool) -> str:
    """One line that says which profile runs on what, and why."""
    if asked:
        why = "as asked"
    elif cuda_found():
        why = f"{torch.cuda.get_device_name()} was found"
    else:
        why = "no CUDA device was found"
    return f"profile {profile} on {device}: {why}"
