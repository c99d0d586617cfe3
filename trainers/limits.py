"""What a container, a batch system or systemd leaves a process: its control groups' limits."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

PROCESS = Path("/proc/self")
MACHINE_COUNTERS = Path("/proc/vmstat")


def cpu_quota() -> float:
    """The cores' worth of time that this process may use, infinity where there is no quota."""
    quotas = [math.inf]
    for group in _groups("cpu"):
        try:
            allowed, period = (group / "cpu.max").read_text(encoding="ascii").split()
        except (OSError, ValueError):
            allowed = _read(group / "cpu.cfs_quota_us")
            period = _read(group / "cpu.cfs_period_us")
        if allowed.isdecimal() and period.isdecimal():  # not "max", not -1
            quotas.append(int(allowed) / int(period))
    return min(quotas)


def usable_cores() -> int:
    """Cores that this process may keep busy: those it sees, or fewer where it has a quota."""
    seen = visible_cores()
    return max(1, min(seen, math.ceil(min(cpu_quota(), seen))))


def visible_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_limit() -> float:
    """Bytes that this process and its like may take, infinity where nothing limits them."""
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    said = [_read(group / name) for group in _groups("memory") for name in names]
    limits = [float(text) for text in said if text.isdecimal()]
    per_node, per_core, cores = (
        os.environ.get(f"SLURM_{name}", "")
        for name in ("MEM_PER_NODE", "MEM_PER_CPU", "CPUS_ON_NODE")
    )
    if per_node.isdecimal() and int(per_node):  # MiB; 0 is all that the node has
        limits.append(int(per_node) * 2.0**20)
    elif per_core.isdecimal() and int(per_core) and cores.isdecimal():
        limits.append(int(per_core) * int(cores) * 2.0**20)
    return min(limits, default=math.inf)


def killed_for_memory() -> int:
    """How many processes the system has killed so far to free memory; 0 where unknown.

    Linux counts them for the machine and for each control group; a container may see one alone.
    """
    files = [MACHINE_COUNTERS]
    for group in _groups("memory"):
        files += [group / "memory.events", group / "memory.oom_control"]
    lines = [line.split() for file in files for line in _read(file).splitlines()]
    return sum(int(line[1]) for line in lines if line[0] == "oom_kill")


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control groups and of all above them, in version 1 and 2."""
    for line in _read(PROCESS / "cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or controller in controllers.split(","):
            for root, mount in _mounts("" if number == "0" else controller):
                group = mount / Path(path).relative_to(root if path.startswith(root) else "/")
                yield from (each for each in (group, *group.parents) if each.is_relative_to(mount))


def _mounts(controller: str) -> Iterator[tuple[str, Path]]:
    """Where a hierarchy is mounted, and which of its groups is seen there; "" is version 2."""
    for line in _read(PROCESS / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if controller in options.split(",") if controller else kind == "cgroup2":
            root, mount = before.split(" ")[3:5]
            yield root, Path(mount)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
