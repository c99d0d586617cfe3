"""Control groups of both versions, as the kernel shows them, and Slurm's limit."""

import math
from pathlib import Path

import pytest

from trainers import limits

V2 = "0::/system.slice/job.scope\n"
V1 = "5:memory:/slurm/job_7\n4:cpu,cpuacct:/slurm/job_7\n1:name=systemd:/\n0::/\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(limits, "PROCESS", tmp_path)
    monkeypatch.setattr(limits, "MACHINE_COUNTERS", tmp_path / "vmstat")
    monkeypatch.setattr(limits, "visible_cores", lambda: 8)
    return tmp_path


def lay(folder: Path, cgroup: str, files: dict[str, str], root: str = "/") -> None:
    (folder / "cgroup").write_text(cgroup)
    kinds = {"unified": "cgroup2 cgroup2 rw,nsdelegate", "memory": "cgroup cgroup rw,memory"}
    kinds["cpu"] = "cgroup cgroup rw,cpu,cpuacct"
    lines = [
        f"3{number} 31 0:3{number} {root} {folder / name} rw,relatime shared:9 - {kind}\n"
        for number, (name, kind) in enumerate(kinds.items())
    ]
    (folder / "mountinfo").write_text("31 23 0:28 / /tmp rw - tmpfs tmpfs rw\n" + "".join(lines))
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")


@pytest.mark.parametrize(
    ("cgroup", "files", "quota", "cores"),
    [
        (V2, {"unified/system.slice/job.scope/cpu.max": "max 100000"}, math.inf, 8),
        (V2, {"unified/system.slice/job.scope/cpu.max": "150000 100000"}, 1.5, 2),
        (V2, {"unified/system.slice/cpu.max": "50000 100000"}, 0.5, 1),
        (V2, {"unified/cpu.max": "9900000 100000"}, 99, 8),
        (
            V1,
            {"cpu/slurm/cpu.cfs_quota_us": "300000", "cpu/slurm/cpu.cfs_period_us": "100000"},
            3,
            3,
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf, 8),
        ("", {}, math.inf, 8),
    ],
)
def test_a_quota_at_any_level_counts(
    machine: Path, cgroup: str, files: dict[str, str], quota: float, cores: int
) -> None:
    lay(machine, cgroup, files)
    assert (limits.cpu_quota(), limits.usable_cores()) == (quota, cores)


@pytest.mark.parametrize("root", ["/", "/slurm/job_7", "/elsewhere"])
def test_a_container_that_sees_its_own_group_alone_finds_it(machine: Path, root: str) -> None:
    own = "cpu/slurm/job_7" if root == "/" else "cpu"
    files = {f"{own}/cpu.cfs_quota_us": "100000", f"{own}/cpu.cfs_period_us": "100000"}
    lay(machine, V1, files, root)
    assert limits.cpu_quota() == 1


@pytest.mark.parametrize(
    ("cgroup", "files", "slurm", "limit"),
    [
        (V2, {"unified/system.slice/job.scope/memory.max": "max"}, {}, math.inf),
        (
            V2,
            {
                "unified/system.slice/memory.max": "1048576",
                "unified/system.slice/job.scope/memory.max": "4194304",
            },
            {},
            2**20,
        ),
        (V1, {"memory/slurm/memory.limit_in_bytes": "2097152"}, {}, 2**21),
        (V2, {}, {"MEM_PER_NODE": "2"}, 2**21),
        (V2, {}, {"MEM_PER_NODE": "0"}, math.inf),
        (V2, {}, {"MEM_PER_CPU": "2", "CPUS_ON_NODE": "4"}, 2**23),
        (V1, {"memory/memory.limit_in_bytes": "2097152"}, {"MEM_PER_NODE": "1"}, 2**20),
    ],
)
def test_the_lowest_limit_of_memory_counts(
    machine: Path,
    monkeypatch: pytest.MonkeyPatch,
    cgroup: str,
    files: dict[str, str],
    slurm: dict[str, str],
    limit: float,
) -> None:
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    lay(machine, cgroup, files)
    assert limits.memory_limit() == limit


@pytest.mark.parametrize(
    ("cgroup", "file"),
    [
        (V2, "unified/system.slice/job.scope/memory.events"),
        (V1, "memory/slurm/job_7/memory.oom_control"),
        ("", "vmstat"),
    ],
)
def test_what_was_killed_for_memory_is_counted(machine: Path, cgroup: str, file: str) -> None:
    lay(machine, cgroup, {file: "oom 5\noom_kill 3\noom_kill_disable 0"})
    assert limits.killed_for_memory() == 3
