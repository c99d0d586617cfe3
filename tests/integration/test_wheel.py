"""The wheel, as a user without the checkout has it: built, installed, and run elsewhere."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest
from support import TINY, Done, expect

ROOT = Path(__file__).parents[2]
PACKAGES = ("sweep", "studies", "trainers")

# Run in the installed environment: where each package is, and the sweep.toml it ships.
WHERE = """
import sweep, studies, trainers
from sweep.config.load import default_text
for package in (sweep, studies, trainers):
    print(package.__path__[0])
print(len(default_text()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `pip wheel .` builds it, with the build tools of pyproject.toml."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "-q", "-w", str(folder)],
        check=True,
        timeout=240,
    )
    (built,) = folder.glob("*.whl")
    return built


class Installed:
    """A virtual environment with the wheel, and this one's packages as its dependencies."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        run = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(run, check=True, timeout=60)
        tag = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.packages = folder / "lib" / tag / "site-packages"
        # A path in a .pth is appended: the wheel's packages come first, and the .pth files over
        # there, the editable install's among them, are not read.
        theirs = sysconfig.get_path("purelib")
        (self.packages / "dependencies.pth").write_text(theirs + "\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", "-q"]
        subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, timeout=120)

    def run(self, name: str, *arguments: object, cwd: Path) -> Done:
        """A program of the environment, in a folder far from the checkout."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [str(self.bin / name), *map(str, arguments)],
            cwd=cwd,
            env={**environment, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return expect(Done(done.returncode, done.stdout, done.stderr), 0)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed") / "venv", wheel)


def test_the_wheel_holds_the_packages_and_the_defaults_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        default = archive.read("sweep/config/default.toml").decode()
    assert default == (ROOT / "sweep.toml").read_text(encoding="utf-8")
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(PACKAGES)
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    assert {file.relative_to(ROOT).as_posix() for file in files} <= set(names)
    assert [name for name in names if name.endswith("/licenses/LICENSE")]


def test_the_packages_that_run_are_the_wheel_s(installed: Installed, tmp_path: Path) -> None:
    *paths, length = installed.run("python", "-c", WHERE, cwd=tmp_path).out.split()
    assert paths == [str(installed.packages / package) for package in PACKAGES]
    assert int(length) > 1000


@pytest.mark.more
def test_init_and_a_whole_sweep_run_outside_the_checkout(
    installed: Installed, tmp_path: Path, english: Path
) -> None:
    installed.run("sweep", "init", cwd=tmp_path)
    written = (tmp_path / "sweep.toml").read_text(encoding="utf-8")
    assert written == (ROOT / "sweep.toml").read_text(encoding="utf-8")
    (tmp_path / "tiny.toml").write_text(TINY.format(data=english), encoding="utf-8")
    run = ("run", "--config", "tiny.toml", "--trials", 2, "--epochs", 1)
    said = installed.run("sweep", *run, cwd=tmp_path).out
    assert "sweep export" in said
    installed.run("sweep", "export", "-o", "best.yaml", cwd=tmp_path)
    assert "learning_rate" in (tmp_path / "best.yaml").read_text(encoding="utf-8")
