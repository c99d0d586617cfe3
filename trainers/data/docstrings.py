"""Real text without a network: the docstrings of the standard library and of our dependencies."""

import gzip
import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
import sysconfig
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from trainers.data import extract
from trainers.data.files import write_atomically
from trainers.data.paragraphs import Paragraphs, held_out, without_repeats
from trainers.errors import TrainerError
from trainers.naming import DOCSTRINGS

log = logging.getLogger("trainers.data")

EXTRACTION = 1  # raise it when the rules below change: older caches are then not read
STANDARD_LIBRARY = "python"
PACKAGES = (
    STANDARD_LIBRARY,
    "torch",
    "numpy",
    "pandas",
    "sqlalchemy",
    "optuna",
    "datasets",
    "huggingface_hub",
    "pydantic",
    "fsspec",
    "alembic",
    "pyarrow",
    "rich",
    "click",
)
_SKIPPED = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__"}
_CHUNK = 60  # files a process: enough to be worth its start, few enough to share the work out


def read() -> Paragraphs:
    """Read the docstrings of what is installed, from the user's cache where they are there.

    Returns:
        Paragraphs of which each stands once; one file in ten, by a hash of its path, is held out.

    Raises:
        TrainerError: where the docstrings could not be extracted.
    """
    path = cache_path()
    cached = _read_cache(path)
    if cached is None:
        cached = _extract()
        _write_cache(path, cached)
    return Paragraphs(*cached, source=DOCSTRINGS)


def cache_path() -> Path:
    """Name the cache file: another Python, package version or rule of extraction is another one."""
    versions = {name: _version(name) for name in PACKAGES}
    key = json.dumps([EXTRACTION, platform.python_version(), versions])
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "sweep" / f"docstrings-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json.gz"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _read_cache(path: Path) -> tuple[list[str], list[str]] | None:
    try:
        stored = json.loads(gzip.decompress(path.read_bytes()))
        return stored["train"], stored["validation"]
    except FileNotFoundError:
        return None
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError):
        log.info("%s cannot be read: the docstrings are extracted again", path)
        return None


def _write_cache(path: Path, splits: tuple[list[str], list[str]]) -> None:
    text = json.dumps({"train": splits[0], "validation": splits[1]})
    try:
        write_atomically(path, gzip.compress(text.encode(), compresslevel=4, mtime=0))
    except OSError as error:  # a home without room or rights costs the time again, no more
        log.info("the docstrings are not cached: %s", error)


def _extract() -> tuple[list[str], list[str]]:
    files = [file for package in PACKAGES for file in _files(package)]
    log.info("extracting docstrings from %d files (once, about half a minute)", len(files))
    train: list[tuple[bool, str]] = []
    for (name, _), found in zip(files, _in_processes([path for _, path in files]), strict=True):
        train.extend((held_out(name), text) for text in found)
    return without_repeats(train)


def _files(package: str) -> list[tuple[str, Path]]:
    """List a package's files as (package/path, file), sorted, so that the order never changes."""
    root = _root(package)
    if root is None:
        return []
    names = [path.relative_to(root) for path in root.rglob("*.py")]
    kept = sorted(name.as_posix() for name in names if not _SKIPPED.intersection(name.parts))
    return [(f"{package}/{name}", root / name) for name in kept]


def _root(package: str) -> Path | None:
    if package == STANDARD_LIBRARY:
        return Path(sysconfig.get_path("stdlib"))
    spec = find_spec(package)  # of a top-level name: this imports nothing
    return Path(spec.origin).parent if spec and spec.origin else None


def _in_processes(paths: list[Path]) -> Iterator[list[str]]:
    """Yield each file's paragraphs, in order, from as many processes as there are cores."""
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, found in enumerate(pool.map(_of_chunk, chunks), start=1):
            log.info("docstrings: %d of %d files", min(number * _CHUNK, len(paths)), len(paths))
            yield from found


def _of_chunk(paths: list[Path]) -> list[list[str]]:
    command = [sys.executable, "-I", "-X", "utf8", extract.__file__]
    lines = "\n".join(map(str, paths))
    done = subprocess.run(command, input=lines, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise TrainerError(f"the docstrings could not be extracted: {reason}")
    found: list[list[str]] = json.loads(done.stdout)
    return found
