"""Checkpoints that a crash cannot spoil: written aside, synced, renamed; the one before is kept."""

import io
import logging
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainers.data.files import write_atomically
from trainers.errors import TrainerError

log = logging.getLogger("trainers.checkpoint")

LAST, PREVIOUS, BEST, SPOILT = "last.pt", "previous.pt", "best.pt", ".spoilt"
TRUNK = "trunk.pt"
"""Where the stable part of a "wsd" run ended: a longer run may begin with it."""
FILES = tuple(
    f"{Path(name).stem}{end}" for name in (LAST, PREVIOUS, BEST, TRUNK) for end in (".pt", SPOILT)
)
"""All that is written into a run's folder: a checkpoint may be set aside as spoilt."""
FORMAT = 1

Payload = Mapping[str, Any]


class SpoiltError(TrainerError):
    """A file that is not what was written: truncated, overwritten, or no checkpoint at all."""


def write(path: Path, payload: Payload) -> None:
    """Replaces `path` in one move: a reader sees the old file or the new one, whole.

    Raises:
        TrainerError: no room, no permission. The old file is then untouched.
    """
    # Not straight into the file: torch turns "no space left" into an internal error of its own.
    content = io.BytesIO()
    torch.save({"format": FORMAT, **payload}, content)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise TrainerError(f"{path} cannot be written: {error.strerror or error}") from error


def save(directory: Path, payload: Payload) -> None:
    """Writes the last checkpoint and keeps the one before it.

    Raises:
        TrainerError: as of `write`. The last checkpoint is then still there.
    """
    last = directory / LAST
    if last.exists():
        _keep(last, directory / PREVIOUS)
    write(last, payload)


def _keep(last: Path, kept: Path) -> None:
    kept.unlink(missing_ok=True)
    try:
        # A second name for the file: `last` stays in place until the moment it is replaced.
        os.link(last, kept)
    except OSError:  # a file system without hard links
        shutil.copyfile(last, kept)


def read(path: Path) -> dict[str, Any]:
    """Reads one checkpoint; runs no code from it.

    Raises:
        SpoiltError: the file is damaged, or holds something that is not plain data.
        TrainerError: it is missing, cannot be opened, or is of another format.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise TrainerError(f"there is no checkpoint {path}") from None
    except OSError as error:
        raise TrainerError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    try:
        payload = _parse(content)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise SpoiltError(f"checkpoint {path} is spoilt ({type(error).__name__})") from error
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise TrainerError(f"checkpoint {path} has an unknown format: move it away to start anew")
    return payload


def _parse(content: bytes) -> Any:
    # torch.load does not look at the checksums that torch.save wrote.
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if archive.testzip() is not None:
            raise zipfile.BadZipFile("a checksum does not match")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def latest(directory: Path) -> dict[str, Any] | None:
    """The newest checkpoint of a run that is whole, None where there is none.

    A spoilt one is set aside with a warning, so that it never takes the place of a good one: the
    run goes on from the one before or, as its config fixes all of it, from the start.

    Raises:
        TrainerError: a checkpoint cannot be opened, or is of another format.
    """
    for path in (directory / LAST, directory / PREVIOUS):
        if not path.exists():
            continue
        try:
            return read(path)
        except SpoiltError as error:
            aside = path.with_suffix(SPOILT)
            path.replace(aside)
            log.warning("%s: kept as %s, training goes on without it", error, aside.name)
    return None
