"""Checkpoints that nothing needs any more: those of a finished study's other trials.

What is left serves all that comes after: the recommended trial's and the best one's for `sweep
train --resume`, and those of trials that are not over. A study that is extended trains none of its
finished trials again, and `sweep confirm` trains its own anew.
"""

import contextlib
import stat
from collections.abc import Iterable
from pathlib import Path

from optuna.study import Study

from sweep.errors import SweepError
from sweep.execution.protocol import SHARED_TRAINER
from sweep.orchestration.trunks import trunk_in
from sweep.results.belief import recommended
from sweep.results.lookup import best_trial
from sweep.results.place import is_marked
from sweep.results.record import read_study
from trainers.checkpoint import FILES, TRUNK


def clear(study: Study, directory: Path, *, trunks: bool = True) -> str:
    """Deletes those checkpoints, and nothing that a trainer of ours did not write.

    Only files by the names of checkpoints go, in folders of ended trials, within a folder that
    bears the study's own mark; nothing is followed through a link. Of a trainer of the user's own
    nobody knows what it wrote.

    Args:
        study: finished, and held.
        directory: its folder.
        trunks: whether what a longer run may begin with goes too, that of the kept ones as well.

    Returns:
        What was freed, in one line; "" for nothing.
    """
    if read_study(study).trainer != SHARED_TRAINER or not is_marked(directory, study):
        return ""
    kept = set(recommended(study)[:1])
    with contextlib.suppress(SweepError):  # none is complete: there is no best one
        kept.add(best_trial(study).number)
    freed, trials = 0, 0
    for trial in study.get_trials(deepcopy=False):
        folder = directory / f"{trial.number:04d}"
        if not trial.state.is_finished():
            continue
        if trial.number in kept:
            _emptied(folder, [TRUNK] * trunks)
        else:
            spared = [] if trunks else [trunk_in(folder).name]
            size = _emptied(folder, [name for name in FILES if name not in spared])
            freed, trials = freed + size, trials + (size > 0)
    if not trials:
        return ""
    whose = f", trial {' and '.join(map(str, sorted(kept)))}'s are kept" if kept else ""
    return (
        f"{freed / 1e6:,.1f} MB freed: the checkpoints of {trials} other "
        f"{'trial' if trials == 1 else 'trials'} are deleted{whose} "
        '(study.keep = "all" keeps all)'
    )


def _emptied(folder: Path, names: Iterable[str]) -> int:
    """Deletes a trial's checkpoints of these names; their bytes. What cannot be deleted stays."""
    if folder.is_symlink():
        return 0
    freed = 0
    for name in names:
        file = folder / name
        with contextlib.suppress(OSError):
            found = file.lstat()
            if stat.S_ISREG(found.st_mode):
                file.unlink()
                freed += found.st_size
    return freed
