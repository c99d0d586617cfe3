"""What trials of shorter runs have trained already of a longer one's, and where it lies."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from optuna.study import Study

from studies.prior import Centre
from studies.strategy import as_begun
from studies.trials import rate_of
from sweep.orchestration.plan import Plan
from sweep.results.place import is_marked, place_of
from trainers.checkpoint import LAST, TRUNK

Trunks = Mapping[float, tuple[Path, ...]]  # by rate, the longest first


def trunks_of(studies: Iterable[Study]) -> Trunks:
    """The checkpoints that trials of a longer run may begin with.

    A trial that was left before its decay began has them in its last checkpoint. Whether a file is
    a beginning of the run is for the trainer to say.

    Args:
        studies: of the same runs but for their length, the shortest first.
    """
    found: dict[float, tuple[Path, ...]] = {}
    for study in studies:
        folder = place_of(study).absolute()
        if not is_marked(folder, study):
            continue
        for trial in study.get_trials(deepcopy=False):
            rate, file = rate_of(trial), trunk_in(folder / f"{trial.number:04d}")
            if rate is not None and file.is_file():
                found[rate] = (file, *found.get(rate, ()))
    return found


def trunk_in(folder: Path) -> Path:
    """The file of a trial's folder that holds most of what a longer run has in common with it."""
    trunk = folder / TRUNK
    return trunk if trunk.exists() else folder / LAST


def with_begun(plan: Plan, trunks: Trunks) -> Plan:
    """A plan whose first rates are begun already, where some are that are as good."""
    first: dict[float, Centre] = {}
    for centre in plan.first:
        rate = as_begun(centre.learning_rate, trunks)
        first.setdefault(rate, replace(centre, learning_rate=rate))
    return replace(plan, first=tuple(first.values()))
