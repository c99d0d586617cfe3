"""Milliseconds that the learning-rate sampler takes for one ask.

python tests/benchmarks/bench_ask.py
"""

import math
import time

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from studies import PARAMETER, LearningRateSampler

RULES = {"unscaled": 1e-4, "sqrt": 8e-4, "linear": 6.4e-3}
EPOCHS = 20
ASKS = 3
ROW = "{:>7} {:>7} {:>17} {:>9}"


def study_of(trials: int, pruned: float, space: FloatDistribution) -> Study:
    """A study in memory of that many trials, this share of them pruned halfway."""
    sampler = LearningRateSampler(RULES, constant_rate=True)
    study = optuna.create_study(sampler=sampler)
    rng = np.random.default_rng(0)
    for _ in range(trials):
        x = rng.uniform(math.log(space.low), math.log(space.high))
        loss = 2.5 + 0.022 * (x + 7.0) ** 2 if x < -4.8 else 6.7
        ends = pruned <= rng.uniform()
        epochs = EPOCHS if ends else EPOCHS // 2
        values = {e: math.exp(loss + 0.3 * (1 - e / EPOCHS)) for e in range(1, epochs + 1)}
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if ends else TrialState.PRUNED,
                value=min(values.values()),
                params={PARAMETER: math.exp(x)},
                distributions={PARAMETER: space},
                intermediate_values=values,
            )
        )
    return study


def main() -> None:
    """Prints a line for each number of trials, share of pruned ones and range."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(ROW.format("trials", "pruned", "range", "ms an ask"))
    for low, high in ((1e-5, 1e-1), (1e-7, 10.0)):
        space = FloatDistribution(low, high, log=True)
        for trials, pruned in ((10, 0.0), (100, 0.0), (100, 0.5), (1000, 0.0), (10000, 0.0)):
            study = study_of(trials, pruned, space)
            started = time.process_time()
            for _ in range(ASKS):
                # One more under way, so that no answer is one that is known.
                study.ask({PARAMETER: space})
            milliseconds = 1e3 * (time.process_time() - started) / ASKS
            print(
                ROW.format(trials, f"{pruned:.0%}", f"{low:g} to {high:g}", f"{milliseconds:.1f}")
            )


if __name__ == "__main__":
    main()
