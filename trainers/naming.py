"""The names of texts: which of them is a path, a function, or a data set of the hub.

Beside `trainers.data`, which loads torch: whoever only compares names need not wait for that.
"""

import os
import re
from pathlib import Path

from trainers.errors import TrainerError

OUTPUT_FILE = "output.log"
"""In a trial's folder: what its trainer, or its program, prints."""

DOCSTRINGS = "docstrings"
TEXT_SUFFIXES = (".txt", ".md")


def local_path(name: str) -> Path:
    """Turn a name into a path, "~" for the home folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise TrainerError(
            f"data.name: there is no home folder for {name}: check the path"
        ) from None


def is_function(name: str) -> bool:
    """Tell a user's own source of text, "package.module:function", from all else that is data."""
    return re.fullmatch(r"[^\W\d][\w.]*:[^\W\d][\w.]*", name) is not None


def is_path(name: str) -> bool:
    """Say whether a path exists, or a name is written as one: then it is no hub name."""
    # A hub name is "name" or "owner/name".
    no_hub_name = name.count("/") > 1 or name.startswith((".", "/", "~")) or name.endswith("/")
    return no_hub_name or name.endswith(TEXT_SUFFIXES) or local_path(name).exists()


def plain_name(name: str) -> str:
    """Name a text without the way to it: "text" for "./text", "text/" and a link to it.

    What is no file or folder keeps its name.
    """
    if name == DOCSTRINGS or is_function(name) or not name.strip() or not is_path(name):
        return name
    return Path(os.path.realpath(local_path(name))).name or name
