"""Where a study's files lie: in a folder beside its database, and a mark that ties the two.

The database stores the folder relative to its own, so that both can be moved or copied together. A
path that leads elsewhere is followed only where the user's configuration names it too: the database
may be a stranger's. The mark is a file in the folder with the study's token: a folder with another
one is another study's, whose checkpoints are neither trained on nor overwritten.
"""

from itertools import chain, count
from pathlib import Path

from optuna.study import Study

from sweep.errors import SweepError
from sweep.results.record import read_study
from sweep.storage.connect import folder_of

MARK = ".study"


def stored_place(directory: Path, database_folder: Path) -> str:
    """A folder as the database stores it: relative to the database's own where it lies in that."""
    if directory.is_relative_to(database_folder):
        return directory.relative_to(database_folder).as_posix()
    return str(directory)


def place_of(study: Study, configured: Path | None = None) -> Path:
    """The folder of a study that is stored.

    Args:
        study: one of this tool's.
        configured: where the user's configuration would put it; None where nothing is written.

    Raises:
        SweepError: the stored path leads out of the database's folder.
    """
    folder, stored = folder_of(study), Path(read_study(study).directory)
    if stored.is_absolute():  # by the first version, or by the user's configuration
        if stored == configured or stored.is_relative_to(folder):
            return stored
        return configured or folder / stored.parent.name / stored.name
    if ".." in stored.parts:
        raise SweepError(
            f"study '{study.study_name}': its folder {stored} lies outside the database's: it is "
            "not written to"
        )
    return folder / stored


def free_place(directory: Path) -> Path:
    """The folder of a new study: this one, or the first of NAME-2, NAME-3, ... that is not there.

    What lies there is left alone: it is another study's, whose database is gone or elsewhere.
    """
    numbered = (directory.with_name(f"{directory.name}-{number}") for number in count(2))
    return next(place for place in chain([directory], numbered) if not place.exists())


def mark_place(directory: Path, token: str) -> None:
    """Ties a folder to its study."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARK).write_text(f"{token}\n", encoding="utf-8")


def is_marked(directory: Path, study: Study) -> bool:
    """Whether a folder is tied to this very study; those of the first versions are tied to none."""
    mark = _mark_of(directory)
    return bool(mark) and mark == read_study(study).token


def check_place(directory: Path, study: Study) -> None:
    """Refuses a folder that is tied to another study.

    Raises:
        SweepError: it is.
    """
    mark, token = _mark_of(directory), read_study(study).token
    if token and mark is not None and mark != token:
        raise SweepError(
            f"{directory} holds the checkpoints of another study than '{study.study_name}' in this "
            "database: move one of the two, or take another --study"
        )


def _mark_of(directory: Path) -> str | None:
    mark = directory / MARK
    return mark.read_text(encoding="utf-8").strip() if mark.is_file() else None
