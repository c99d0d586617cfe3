"""Data sets of the Hugging Face hub, and local folders in a layout that `datasets` reads."""

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from trainers.config import DataConfig
from trainers.data import text
from trainers.data.files import own_files
from trainers.data.paragraphs import (
    Again,
    Kept,
    Paragraphs,
    long_enough,
    split_paragraphs,
    split_stream,
    units_of,
)
from trainers.data.reach import (
    UnreachableError,
    last_file,
    offline,
    one_line,
    quiet,
    why_unreachable,
)
from trainers.data.streaming import Documents
from trainers.errors import TrainerError
from trainers.naming import TEXT_SUFFIXES

_DATA_SUFFIXES = (".parquet", ".jsonl", ".csv")
_ROWS = 1_000  # read at once
_VALIDATION = ("validation", "valid", "val", "dev", "test")


def is_data_set(path: Path) -> bool:
    """Say whether a folder is for `datasets`: saved by it, or with data files in it."""
    if not path.is_dir():
        return False
    return _is_saved(path) or any(file.suffix in _DATA_SUFFIXES for file in own_files(path))


def read(config: DataConfig) -> Paragraphs:
    """Read a data set of the hub, of its local cache, or of a local folder.

    Its own splits are taken: validation, else test; with neither, a tenth of train is held out. Its
    paragraphs are read anew each time they are gone through: it may be larger than the memory.

    Raises:
        UnreachableError: where the hub does not answer and the cache does not have it.
        TrainerError: where there is no such data set, subset, split or column.
    """
    path = Path(config.name).expanduser()
    with quiet():
        if not path.is_dir():
            loaded = _from_hub(config)
        elif _is_saved(path):
            loaded = _from_disk(path)
        else:
            loaded = _from_folder(config, path)
    found = _splits(config, loaded)
    return replace(found, notes=(*_left_out(path), *found.notes))


def stream(config: DataConfig) -> Documents:
    """Open a data set to be read once, a row a document: nothing is downloaded beforehand.

    Raises:
        UnreachableError, TrainerError: as of `read`.
    """
    path = Path(config.name).expanduser()
    with quiet():
        if not path.is_dir():
            loaded = _from_hub(config, streaming=True)
        else:
            loaded = _from_disk(path) if _is_saved(path) else _from_folder(config, path)
    splits, source, held = _named_splits(config, loaded)
    validation = None if held is None else _column(config, splits[held])
    notes = (*_left_out(path), *_instead(held))
    return Documents(_column(config, splits["train"]), validation, source, notes)


def _is_saved(path: Path) -> bool:
    """Say whether `save_to_disk` made the folder."""
    state = path / "state.json"
    return (path / "dataset_dict.json").is_file() or (
        state.is_file() and (path / "dataset_info.json").is_file()
    )


def _from_hub(config: DataConfig, *, streaming: bool = False) -> Any:
    import datasets  # here: it takes over a second, and most runs have their corpus already

    name, reason = config.name, why_unreachable()
    try:
        with offline(bool(reason)):
            return datasets.load_dataset(name, config.subset or None, streaming=streaming)
    except Exception as error:
        reason = reason or why_unreachable()  # it may have gone on the way
        if not reason and isinstance(error, ConnectionError):
            reason = f"the hub could not be reached ({one_line(error)})"
        if reason:
            raise UnreachableError(reason, name) from None
        raise _refused(config, error) from None


def _from_folder(config: DataConfig, path: Path) -> Any:
    import datasets

    try:
        # As a stream: a copy of a large file in a cache would serve one reading.
        return datasets.load_dataset(str(path), config.subset or None, streaming=True)
    except Exception as error:
        raise _refused(config, error) from None


def _from_disk(path: Path) -> Any:
    import datasets

    try:
        return datasets.load_from_disk(str(path))
    except Exception as error:
        raise TrainerError(
            f"data.name: {path} cannot be loaded, save it again ({one_line(error)})"
        ) from None


def _refused(config: DataConfig, error: Exception) -> TrainerError:
    """Say in one line why `load_dataset` did not want the name or subset."""
    import datasets

    if isinstance(error, datasets.exceptions.DatasetNotFoundError):
        return TrainerError(
            f"data.name: {one_line(error)} Nor is there a file or folder of that name: check the "
            'spelling, or take "docstrings"'
        )
    if isinstance(error, ValueError) and "config" in str(error).lower():
        return TrainerError(f"data.subset: {one_line(error)}")
    file = last_file()
    line = _bad_line(file) if file.suffix == ".jsonl" else ""
    where = f"{file}{line}" if file.name else config.name
    return TrainerError(
        f"data.name: {where} cannot be loaded: {one_line(error.__cause__ or error)}"
    )


def _bad_line(file: Path) -> str:
    """Say which line is the first that is no JSON; "" for none."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                json.loads(line.strip() or b"null")
            except ValueError:
                return f", line {number}"
    return ""


def _left_out(path: Path) -> tuple[str, ...]:
    """Say what `datasets` does not read of a folder: text beside tables, and linked folders."""
    if not path.is_dir() or _is_saved(path):
        return ()
    linked = {folder for folder in path.rglob("*") if folder.is_symlink() and folder.is_dir()}
    files = [
        file
        for file in own_files(path)
        if linked.intersection(file.parents)
        or (file.suffix.lower() in TEXT_SUFFIXES and file.stem.lower() != "readme")
    ]
    return text.left_out(files, "beside the tables of a data set")


def _named_splits(config: DataConfig, loaded: Any) -> tuple[dict[str, Any], str, str | None]:
    """The splits, what the text is, and which split is of validation."""
    splits = loaded if isinstance(loaded, dict) else {"train": loaded}
    source = f"{config.name}/{config.subset}" if config.subset else config.name
    if "train" not in splits:
        raise TrainerError(f"data.name: {source} has no train split, only: {', '.join(splits)}")
    return splits, source, next((name for name in _VALIDATION if name in splits), None)


def _splits(config: DataConfig, loaded: Any) -> Paragraphs:
    splits, source, held_out = _named_splits(config, loaded)
    train, kept = _texts(config, splits["train"]), Kept(config.minimum_words)
    if held_out is None:
        units = Again(lambda: units_of(kept.of(train)))
        return Paragraphs(*split_stream(units, source), source=source, notes=kept.notes)
    validation = _texts(config, splits[held_out])
    for _ in itertools.chain(kept.of(train), kept.of(validation)):
        pass  # what is wrong is found before anything is made of it
    first, second = (
        Again(partial(long_enough, each, config.minimum_words)) for each in (train, validation)
    )
    return Paragraphs(first, second, source=source, notes=(*_instead(held_out), *kept.notes))


def _instead(held_out: str | None) -> tuple[str, ...]:
    """Say so where rates are compared on what others keep for the end."""
    if held_out != "test":
        return ()
    return ("there is no validation split: rates are chosen by the test split",)


def _texts(config: DataConfig, split: Any) -> Iterable[str]:
    """A column's paragraphs: a row may hold one, or a document of many."""
    return Again(lambda: (each for row in _column(config, split) for each in split_paragraphs(row)))


def _values(tables: Iterable[Any], column: str) -> Iterator[list[Any]]:
    return (table[column].to_pylist() for table in tables)


def _column(config: DataConfig, split: Any) -> Iterator[str]:
    column = config.text_column
    try:
        with quiet():
            names = split.column_names or list(next(iter(split), {column: None}))
            if column not in names:
                raise TrainerError(
                    f"data.text_column: there is no column {column!r}, only: {', '.join(names)}"
                )
            tables = split.select_columns([column]).with_format("arrow").iter(_ROWS)
            for value in itertools.chain.from_iterable(_values(tables, column)):
                if not isinstance(value, str | None):
                    raise TrainerError(
                        f"data.text_column: {column!r} holds no text but {type(value).__name__}: "
                        f"take another of: {', '.join(names)}"
                    )
                if value:
                    yield value
    except TrainerError:
        raise
    except Exception as error:  # of whatever library reads the rows
        raise _refused(config, error) from None
