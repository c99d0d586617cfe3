"""Every file that a command writes for its user: whole or not at all, and over nothing but our own.

What an earlier call wrote is recognised by how it begins. Anything else is another's, a database
perhaps, and is replaced only where the user says so.
"""

import os
import sys
from pathlib import Path

from sweep.errors import SweepError
from trainers.data.files import write_atomically

STDOUT = Path("-")
PICTURE = "Learning-rate report"
"""The title within a picture."""
HEADERS = (
    "# The best rate of study ",
    "# Arguments of transformers.TrainingArguments: ",
    "# A file for LightningCLI: ",
    "# Learning-rate report of ",
    "# Studies planned for ",
    "# Learning-rate logbook of ",
)
_PNG, _PAGE, _JSON = b"\x89PNG\r\n\x1a\n", b"<!doctype html>", b'{"study": '
_SPECIAL = Path("/dev"), Path("/proc")
_LOOKED_AT = 4096  # bytes


def write_output(path: Path, content: str | bytes, *, force: bool = False) -> None:
    """Writes a file in one move, or to standard output where it is named "-".

    Args:
        path: where to; a link's target is replaced, not the link.
        content: the whole file.
        force: whether also what was not an earlier output of ours is replaced.

    Raises:
        SweepError: something else is there, or it cannot be written.
    """
    if path == STDOUT:
        sys.stdout.write(content if isinstance(content, str) else content.decode())
        return
    whole = content.encode(errors="replace") if isinstance(content, str) else content
    try:
        if not path.parent.is_dir():
            raise SweepError(f"{path} cannot be written: there is no folder {path.parent}")
        if path.is_dir():
            raise SweepError(f"{path} cannot be written: it is a folder, name a file in it")
        if _is_special(path):  # a device or a pipe is written to, and never replaced
            path.write_bytes(whole)
            return
        if not force and path.exists() and not is_ours(path):
            raise SweepError(
                f"{path} was not written by this command, so it is left as it is: name another "
                "file, or replace it with --force"
            )
        mode = path.stat().st_mode & 0o777 if path.exists() else None
        write_atomically(path.resolve(), whole)
        if mode is not None:
            path.chmod(mode)
    except OSError as error:
        raise SweepError(f"{path} cannot be written: {error.strerror or error}") from error


def is_ours(path: Path) -> bool:
    """Whether an earlier call wrote a file; an empty one holds nothing that could be lost.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
    if start.startswith(_PNG):
        return PICTURE.encode() in start
    if start.startswith(_PAGE):
        return b"<title>Learning-rate report: " in start
    if start.startswith(_JSON):
        return b'"within_one_percent": ' in start
    return not start or start.startswith(tuple(header.encode() for header in HEADERS))


def _is_special(path: Path) -> bool:
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow /dev/stdout
    return path.exists() and (
        not path.is_file() or any(absolute.is_relative_to(each) for each in _SPECIAL)
    )
