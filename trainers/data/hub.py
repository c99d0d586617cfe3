"""Data sets of the Hugging Face hub, and local folders in a layout that `datasets` reads."""

from pathlib import Path
from typing import Any

from trainers.config import DataConfig
from trainers.data.paragraphs import (
    Paragraphs,
    in_units,
    long_enough,
    split_paragraphs,
    split_units,
)
from trainers.data.reach import UnreachableError, offline, one_line, quiet, why_unreachable
from trainers.errors import TrainerError

_DATA_SUFFIXES = (".parquet", ".jsonl", ".csv")
_VALIDATION = ("validation", "valid", "val", "dev", "test")


def is_data_set(path: Path) -> bool:
    """Say whether a folder is for `datasets`: saved by it, or with data files in it."""
    if not path.is_dir():
        return False
    return _is_saved(path) or any(file.suffix in _DATA_SUFFIXES for file in path.rglob("*"))


def read(config: DataConfig) -> Paragraphs:
    """Read a data set of the hub, of its local cache, or of a local folder.

    Its own splits are taken: validation, else test; with neither, a tenth of train is held out.

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
        return _splits(config, loaded)


def _is_saved(path: Path) -> bool:
    """Say whether `save_to_disk` made the folder."""
    state = path / "state.json"
    return (path / "dataset_dict.json").is_file() or (
        state.is_file() and (path / "dataset_info.json").is_file()
    )


def _from_hub(config: DataConfig) -> Any:
    import datasets  # here: it takes over a second, and most runs have their corpus already

    name, reason = config.name, why_unreachable()
    try:
        with offline(bool(reason)):
            return datasets.load_dataset(name, config.subset or None)
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
        return datasets.load_dataset(str(path), config.subset or None)
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
    return TrainerError(f"data.name: {config.name} cannot be loaded: {one_line(error)}")


def _splits(config: DataConfig, loaded: Any) -> Paragraphs:
    splits = loaded if isinstance(loaded, dict) else {"train": loaded}
    source = f"{config.name}/{config.subset}" if config.subset else config.name
    if "train" not in splits:
        raise TrainerError(f"data.name: {source} has no train split, only: {', '.join(splits)}")
    train = _texts(config, splits["train"])
    held_out = next((name for name in _VALIDATION if name in splits), None)
    if held_out is None:
        return Paragraphs(*split_units(in_units(train), source), source=source)
    return Paragraphs(train, _texts(config, splits[held_out]), source=source)


def _texts(config: DataConfig, split: Any) -> list[str]:
    """Read a column's paragraphs: a row may hold one, or a document of many."""
    if config.text_column not in split.column_names:
        raise TrainerError(
            f"data.text_column: there is no column {config.text_column!r}, "
            f"only: {', '.join(split.column_names)}"
        )
    rows = list(split[config.text_column])
    wrong = next((row for row in rows if not isinstance(row, str | None)), None)
    if wrong is not None:
        raise TrainerError(
            f"data.text_column: {config.text_column!r} holds no text but {type(wrong).__name__}: "
            f"take another of: {', '.join(split.column_names)}"
        )
    paragraphs = (text for row in rows if row for text in split_paragraphs(row))
    return long_enough(paragraphs, config.minimum_words)
