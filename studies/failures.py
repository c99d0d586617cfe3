"""What the search makes of trials that failed.

The rate may be to blame (a training that returned NaN is a failure to Optuna, which keeps no
reason) or not (out of memory, Ctrl-C, a mistake in the code). So a rate that failed is not asked
for again until another trial has ended well. What then fails again nearby is the rate's doing:
above all that trained, training is lost there. Failures in a row may all have another cause.
"""

import copy
import math

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from studies.table import Table, places
from studies.trials import diverged, failed, ln_rate

NEAR = 0.3  # ln rate within which failures have one cause


def as_tried(trials: Table) -> Table:
    """The same trials, as the search is to see them.

    A failed one whose rate is not to be asked for again now is a running one, which the next rate
    complements: without reports, or with an infinite one where training is lost.

    Args:
        trials: of one study, in the order of their numbers.
    """
    x, fault = trials.column(ln_rate), trials.mask(failed)
    well = trials.mask(_ended) & ~fault
    found = np.flatnonzero(fault & ~np.isnan(x))
    if not len(found):
        return trials
    before = np.cumsum(well)[found]
    near = np.abs(x[found] - x[found][:, None]) < NEAR
    again = (near & (before != before[:, None])).any(1)
    trained = np.fmax.reduce(x[well & ~trials.mask(diverged)], initial=-math.inf)
    tried = places(again | (before == well.sum()))
    lost = again & (x[found] > trained)
    return trials.replaced({found[each]: _seen(trials[found[each]], lost[each]) for each in tried})


def _ended(trial: FrozenTrial) -> bool:
    return trial.state.is_finished()


def _seen(trial: FrozenTrial, lost: bool) -> FrozenTrial:
    seen = copy.copy(trial)
    seen.state = TrialState.RUNNING
    seen.intermediate_values = {1: math.inf} if lost else {}
    return seen
