"""Files: which of a folder are a user's own, and writing them whole or not at all."""

import fnmatch
import os
import tempfile
from pathlib import Path

# What desktops, editors, version control and `datasets` leave: no text of the user's.
_LEFT_BY_TOOLS = (".*", "~$*", "*~", "__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini")
_CACHES = ("cache-*.arrow", "tmp*.arrow")


def own_files(folder: Path) -> list[Path]:
    """List the files of a folder and of those below it, linked ones too, sorted.

    What tools leave beside them is left out: `._a.txt`, `.ipynb_checkpoints`, `cache-*.arrow`.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        # A link may lead to a folder that is read already, or back up.
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_left(name))
        found += [Path(root, name) for name in names if not _is_left(name)]
    return sorted(path for path in found if path.is_file())


def _is_left(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, each) for each in (*_LEFT_BY_TOOLS, *_CACHES))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, never half of one.

    Args:
        path: where to; its folder is made.
        content: the whole file.

    Raises:
        OSError: where the folder or file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp gives 0600, and a study may be read by others
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
