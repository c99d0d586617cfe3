"""The names of texts and tokenizers: which is a path, a function, or a name of the hub.

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
TOKEN_SUFFIX = ".bin"
WORDS, BYTES, LEARNED = "words", "bytes", "bpe"
"""The tokenizers that are no file and no name of the hub."""
TOKENIZER_FILE = "tokenizer.json"


def local_path(name: str) -> Path:
    """Turn a name into a path, "~" for the home folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise TrainerError(
            f"there is no home folder for {name} (data.name, data.tokenizer): check the path"
        ) from None


def tokenizer_file(name: str) -> Path | None:
    """Name the file of a tokenizer that is a path, or a folder with a tokenizer.json in it.

    None for what is no path: "words", "bytes", "bpe" and a name of the hub.
    """
    if name in (WORDS, BYTES, LEARNED):
        return None
    path = local_path(name)
    if path.is_dir():
        path = path / TOKENIZER_FILE
    return path if name.endswith(".json") or is_path(name) else None


def is_function(name: str) -> bool:
    """Tell a user's own source of text, "package.module:function", from all else that is data."""
    return re.fullmatch(r"[^\W\d][\w.]*:[^\W\d][\w.]*", name) is not None


def is_path(name: str) -> bool:
    """Say whether a path exists, or a name is written as one: then it is no hub name."""
    # A hub name is "name" or "owner/name".
    no_hub_name = name.count("/") > 1 or name.startswith((".", "/", "~")) or name.endswith("/")
    return no_hub_name or name.endswith((*TEXT_SUFFIXES, TOKEN_SUFFIX)) or local_path(name).exists()


def plain_name(name: str) -> str:
    """Name a text without the way to it: "text" for "./text", "text/" and a link to it.

    What is no file or folder keeps its name.
    """
    if name == DOCSTRINGS or is_function(name) or not name.strip() or not is_path(name):
        return name
    return Path(os.path.realpath(local_path(name))).name or name
