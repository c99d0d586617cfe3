"""What new seeds say of a search's finalists, by runs whose perplexities are known."""

import dataclasses
import math
import statistics
from pathlib import Path

import pytest
from support import open_ledger, report

from studies.objective import Objective
from sweep.config.load import load
from sweep.errors import SweepError
from sweep.formatting import format_mean
from sweep.orchestration.ledger import Ledger
from sweep.results.belief import chosen_trial
from sweep.results.confirmation import (
    Confirmation,
    Finalist,
    make_finalist,
    record,
    stored_confirmation,
)
from sweep.results.export import confirmed_words, export
from sweep.results.notes import note_confirmation
from sweep.view.confirmation import answer
from sweep.workflows.confirm import best_trials, config_of
from trainers.config import ModelConfig, TrainConfig
from trainers.report import Outcome


def finalist(trial: int, rate: float, searched: float, *perplexities: float) -> Finalist:
    states = ["complete" if math.isfinite(each) else "diverged" for each in perplexities]
    return make_finalist(trial, rate, searched, states, perplexities)


def confirmation(*finalists: Finalist) -> Confirmation:
    return Confirmation("study", (1, 2, 3), finalists, Objective())


def test_the_best_by_mean_is_named_with_its_standard_error() -> None:
    values = (71.0, 72.0, 74.5)
    said = answer(
        confirmation(finalist(4, 3e-2, 73.0, *values), finalist(2, 5e-2, 70.0, 80, 81, 82))
    )
    error = statistics.stdev(values) / math.sqrt(3)
    assert said[0] == (
        f"Best over 3 new seeds: learning rate 3.00e-2 (trial 4), perplexity 72.5 +- {error:.1f}; "
        "the search's seed gave 73.00."
    )
    assert "The search's own best was 5.00e-2 (trial 2)." in said


def test_rates_are_told_apart_by_pairs_of_one_seed() -> None:
    # Seeds differ by far more than rates: only the pairs tell the rates apart.
    first, second = finalist(0, 3e-2, 70, 60, 70, 80), finalist(1, 5e-2, 70, 61.1, 71.5, 81.6)
    said = answer(confirmation(first, second))
    assert said[1] == (
        "5.00e-2 against 3.00e-2: perplexity +2.0 % (90 % interval +1.7 % to +2.3 %, the same "
        "seeds)."
    )
    noisy = answer(confirmation(first, finalist(1, 5e-2, 70, 61, 69, 83)))
    assert "not told apart, more --seeds might" in noisy[1]


def test_a_finalist_that_diverges_is_not_confirmed() -> None:
    lost = finalist(0, 3e-2, 70, 60, math.inf, 80)
    assert "3.00e-2 diverged at 1 of 3 seeds." in answer(
        confirmation(finalist(1, 1e-2, 75, 75, 76, 77), lost)
    )
    assert answer(confirmation(lost))[0].startswith("Not confirmed: no finalist")
    assert record(confirmation(lost))["trial"] is None


def test_a_mean_is_no_finer_than_its_error() -> None:
    assert format_mean(Objective(), 72.4567, 0.5774) == ("72.46", "0.58")
    assert format_mean(Objective(), 132.4567, 12.4) == ("132", "12")
    assert format_mean(Objective(), 72.4567, None) == ("72.46", "")
    assert format_mean(Objective(), 72.4567, 0.0) == ("72.46", "0")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Three complete trials: 1e-2 gave 41, 1e-3 gave 40, 1e-1 gave 80."""
    with open_ledger(tmp_path) as opened:
        for perplexity in (41, 40, 80):
            spec = opened.ask()
            assert spec is not None
            opened.report({spec.number: report(1, perplexity)})
            opened.tell(spec.number, Outcome.COMPLETED, "")
    return opened


def test_finalists_are_the_best_complete_trials(ledger: Ledger) -> None:
    assert [trial.number for trial in best_trials(ledger.study, 2)] == [1, 0]
    assert [trial.number for trial in best_trials(ledger.study, 9)] == [1, 0, 2]


def test_export_takes_the_best_over_new_seeds_and_says_so(ledger: Ledger) -> None:
    plain = export(ledger.study, chosen_trial(ledger.study), "sweep.db")
    assert (plain.origin.trial, plain.origin.confirmed, plain.origin.confirmation) == (
        1,
        False,
        None,
    )
    assert confirmed_words(plain).startswith("not confirmed")
    found = confirmation(finalist(0, 1e-2, 41, 41, 42, 43), finalist(1, 1e-3, 40, 44, 45, 46))
    note_confirmation(ledger.study, record(found))
    best = export(ledger.study, chosen_trial(ledger.study), "sweep.db")
    assert (best.origin.trial, best.origin.confirmed) == (0, True)
    assert confirmed_words(best) == "confirmed: 42.00 +- 0.58 over 3 new seeds"
    assert stored_confirmation(ledger.study) == found
    other = export(ledger.study, ledger.study.get_trials()[1], "sweep.db")
    assert not other.origin.confirmed
    assert confirmed_words(other).startswith("not the best over new seeds: 45.00")


def test_where_no_finalist_held_the_searchs_best_is_exported_unconfirmed(ledger: Ledger) -> None:
    note_confirmation(ledger.study, record(confirmation(finalist(1, 1e-3, 40, 41, math.inf, 43))))
    origin = export(ledger.study, chosen_trial(ledger.study), "sweep.db").origin
    assert (origin.trial, origin.confirmed, origin.confirmation) == (1, False, None)


def test_a_better_trial_than_those_confirmed_is_exported_unconfirmed(ledger: Ledger) -> None:
    found = confirmation(finalist(0, 1e-2, 41, 44, 45, 46))
    note_confirmation(ledger.study, record(found))
    origin = export(ledger.study, chosen_trial(ledger.study), "sweep.db").origin
    assert (origin.trial, origin.confirmed) == (1, False)


def test_code_that_a_database_names_is_not_run_unasked(tmp_path: Path) -> None:
    train = TrainConfig(learning_rate=1.0, epochs=3, model=ModelConfig(name="evil:build"))
    with open_ledger(tmp_path, train=train) as opened:
        config = load(None, profile="cpu", cuda=False)
        with pytest.raises(SweepError, match=r"'evil:build'.*add --model evil:build if you trust"):
            config_of(opened.study, config, allowed={config.model})
        known = config_of(opened.study, config, allowed={"evil:build"})
        assert known.trainer == dataclasses.replace(train, learning_rate=1.0)
