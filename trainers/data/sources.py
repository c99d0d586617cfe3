"""Who reads the text that a name means, and which files of the user's are behind it."""

import hashlib
import itertools
import os
from pathlib import Path
from typing import Literal

from trainers.config import DataConfig
from trainers.data import hub, text, token_files
from trainers.data.files import own_files
from trainers.errors import TrainerError
from trainers.naming import DOCSTRINGS, TEXT_SUFFIXES, is_function, is_path, local_path


def kind_of(
    name: str,
) -> Literal["docstrings", "text", "datasets", "function", "tokens"]:
    """Say who reads a name: a path that exists, or is written as one, is never a hub name."""
    if not name.strip():
        raise TrainerError(
            'data.name is empty: take "docstrings", a text file or folder, or a data set of the hub'
        )
    if name == DOCSTRINGS:
        return "docstrings"
    if is_function(name):
        return "function"
    if token_files.is_token_files(name):
        return "tokens"
    path = local_path(name)
    if path.is_dir():
        return "datasets" if hub.is_data_set(path) else "text"
    return "text" if is_path(name) else "datasets"


def source_fingerprint(config: DataConfig, *, everything: bool = False) -> str:
    """Hash the files of a local path: sha256 in hex, "" for what is no file.

    Args:
        config: which text.
        everything: as earlier versions did: with what tools leave, without linked folders.

    Raises:
        TrainerError: where a path names nothing that can be read.
    """
    files, root = _source_files(config, everything=everything), local_path(config.name)
    if not files:
        return ""
    digest = hashlib.sha256()
    tokens = kind_of(config.name) == "tokens"
    if tokens:
        root = files[0].parent
    sampled = config.stream or tokens  # too much to be read each time
    for path in files:
        digest.update(os.fsencode(path.relative_to(root).as_posix()) + b"\0")
        digest.update(token_files.digest(path) if sampled else text.digest(path))
    return digest.hexdigest()


def source_bytes(config: DataConfig) -> int:
    """The size of the files of a local path; 0 for what is no file, or is not read whole."""
    if config.stream or kind_of(config.name) == "tokens":
        return 0
    return sum(path.stat().st_size for path in _source_files(config))


def _source_files(config: DataConfig, *, everything: bool = False) -> list[Path]:
    kind, root = kind_of(config.name), local_path(config.name)
    if kind == "tokens":
        return [*itertools.chain(*token_files.paths_of(config.name))]
    if kind in ("docstrings", "function") or (kind == "datasets" and not root.is_dir()):
        return []
    if everything and root.is_dir():
        suffixes = TEXT_SUFFIXES if kind == "text" else None
        all_files = (path for path in sorted(root.rglob("*")) if path.is_file())
        return [path for path in all_files if not suffixes or path.suffix.lower() in suffixes]
    return text.files(config.name) if kind == "text" else own_files(root)
