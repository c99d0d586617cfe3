"""Rows counted by the database are the rows that Optuna's own trials give."""

import math
from pathlib import Path

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from support import open_ledger, report

from studies.definition import PARAMETER
from sweep.add import add
from sweep.rows import rows_of
from sweep.summary import TrialRow, trial_row
from trainers.report import Outcome


def comparable(rows: list[TrialRow]) -> list[str]:
    return [repr(row) for row in rows]  # NaN, which a trial without a rate has, equals itself here


def test_every_kind_of_trial_gives_the_same_row(tmp_path: Path) -> None:
    endings = [
        ((50.0, 40.0), Outcome.COMPLETED),
        ((70.0, 60.0), Outcome.PRUNED),
        ((55.0, math.inf), Outcome.DIVERGED),
        ((80.0,), Outcome.FAILED),
        ((45.0,), None),
        ((), None),
    ]
    with open_ledger(tmp_path, trials=20) as ledger:
        for perplexities, outcome in endings:
            number = ledger.ask().number
            for epoch, perplexity in enumerate(perplexities, 1):
                ledger.report({number: report(epoch, perplexity)})
            if outcome is not None:
                ledger.tell(number, outcome, "how it ended")
        study = ledger.study
        add(study, 1e-3, 30.0, "by hand")
        study.enqueue_trial({PARAMETER: 2e-3})
        wide = FloatDistribution(1e-7, 10.0, log=True)
        odd = create_trial(
            state=TrialState.COMPLETE,
            params={PARAMETER: 0.1},
            distributions={PARAMETER: wide},
            value=33.0,
        )
        study.add_trial(odd)
        other = optuna.create_study(study_name="other", storage=study._storage)
        other.add_trial(odd)
        expected = [trial_row(trial) for trial in study.get_trials(deepcopy=False)]
        found = rows_of(study)
    states = ["complete", "pruned", "pruned", "failed", "running", "running"]
    assert [row.state for row in found] == [*states, "complete", "waiting", "complete"]
    assert comparable(found) == comparable(expected)


def test_it_sees_what_another_program_has_written(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        assert rows_of(ledger.study) == []
        name, storage = ledger.study.study_name, f"sqlite:///{tmp_path / 'sweep.db'}"
        optuna.load_study(study_name=name, storage=storage).enqueue_trial({PARAMETER: 2e-3})
        assert [row.learning_rate for row in rows_of(ledger.study)] == [2e-3]
