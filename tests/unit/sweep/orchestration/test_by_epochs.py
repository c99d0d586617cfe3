"""Studies of version 1, whose reports were counted by epochs: they go on and are shown so."""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console
from support import (
    ENDED,
    RATES,
    about,
    identity_of,
    open_ledger,
    report,
    storage_of,
)

from studies.definition import PARAMETER, WIDE
from studies.prior import Prior
from sweep.errors import SweepError
from sweep.execution.protocol import TrialSpec
from sweep.orchestration.ledger import Ledger
from sweep.results.belief import terms_of
from sweep.results.export import export
from sweep.results.lookup import best_trial
from sweep.results.record import read_study
from sweep.results.report import build
from sweep.results.summary import summarise, trial_detail
from sweep.storage.connect import open_storage
from sweep.view.details import print_trial
from sweep.view.live.plain import PlainView
from sweep.view.report.charts import charts
from sweep.view.report.to_text import markdown
from sweep.view.tables import print_header, print_summary
from sweep.workflows.train import beside_the_sweep
from trainers.config import FIRST, LATER, LRSchedule, TrainConfig
from trainers.report import Outcome, Report, Verdict

EPOCHS, PER_EPOCH = 10, 20
TRAIN = TrainConfig(learning_rate=1.0, epochs=EPOCHS)
NEW = LATER.keys() - {"lr_schedule.warmup_share"}
"""Settings that version 1 had not."""
LOOKS = {
    "sampler": "learning-rate",
    "pruner": "learning-rate",
    "floor": 0.0,
    "priors": {name: Prior(rate) for name, rate in RATES.items()},
    "until": 0.01,
    "trials": 10,
}


def at(epoch: int, perplexity: float) -> Report:
    """What the shared trainer says after an epoch."""
    place = {"step": PER_EPOCH * epoch, "steps": PER_EPOCH * EPOCHS}
    return replace(report(epoch, perplexity), **place)


def curve(rate: float) -> list[float]:
    """From 90, a model's without context, down to the best at 3e-3."""
    end = min(90, 40 * math.exp(0.1 * math.log(rate / 3e-3) ** 2))
    return [end * (90 / end) ** ((EPOCHS - epoch) / EPOCHS) for epoch in range(1, EPOCHS + 1)]


def version_1(folder: Path, trials: Sequence[FrozenTrial], train: TrainConfig = TRAIN) -> None:
    """A study as version 1 wrote it: its floor and its reports in epochs, and no unit."""
    storage = open_storage(storage_of(folder), create=True)
    study = optuna.create_study(study_name="study", storage=storage)
    known = {name.partition(".")[0] for name in FIRST}
    identity = identity_of(train).fields
    attributes = {
        "lease": {},
        **about(train, RATES),
        "config": {key: value for key, value in asdict(train).items() if key in known},
        "version": 1,
        "steps_per_epoch": PER_EPOCH,
        "range": [1e-4, 1.0],
        "directory": "runs/study",
        "trials": 5,
        "sampler": "random",
        "pruner": "patient-median",
        "floor": 4,
        "priors": {},
        "ran": 1.0,
        "remaining": "",
        "forecast_met": "",
        "finished": {},
        "identity": {key: value for key, value in identity.items() if key not in NEW},
    }
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    study.add_trials(trials)


def trial(rate: float, epochs: int = EPOCHS, values: Sequence[float] = ()) -> FrozenTrial:
    """A trial as version 1 wrote it: complete, or running where it has fewer epochs."""
    reported = dict(enumerate((values or curve(rate))[:epochs], 1))
    whole = epochs == EPOCHS
    ended = {"outcome": "completed", "reason": "trained all its epochs"} if whole else {}
    return create_trial(
        state=TrialState.COMPLETE if whole else TrialState.RUNNING,
        value=min(reported.values()) if whole else None,
        params={PARAMETER: rate},
        distributions={PARAMETER: WIDE},
        intermediate_values=reported,
        user_attrs={
            "nearest_rule": "sqrt",
            "multiple": rate / RATES["sqrt"],
            "multiples": {name: rate / own for name, own in RATES.items()},
            "owner": "00000000",
            **ended,
        },
    )


def half_done(folder: Path) -> Ledger:
    """Two complete trials and a hopeless one that was left after its third epoch of ten."""
    version_1(folder, [trial(1e-2), trial(1e-3), trial(1e-1, 3, [89.0] * 3)])
    return open_ledger(folder, train=TRAIN, floor=0.4)


def asked(ledger: Ledger) -> TrialSpec:
    spec = ledger.ask()
    assert spec is not None
    return spec


def test_a_trial_goes_on_is_stored_and_judged_by_epochs(tmp_path: Path) -> None:
    with half_done(tmp_path) as ledger:
        (spec,) = ledger.unfinished()
        for epoch in (1, 2, 3):  # a resumed trainer says its epochs again; the floor is 4
            assert ledger.report({2: at(epoch, 89.0)}) == {2: Verdict.CONTINUE}
        assert ledger.report({2: at(4, 89.0)}) == {2: Verdict.PRUNE}
        ledger.tell(spec.number, Outcome.PRUNED, Outcome.PRUNED.sentence)
        row = ledger.row(2)
        whole = asked(ledger)
        for epoch, perplexity in enumerate(curve(whole.config.learning_rate), 1):
            ledger.report({whole.number: at(epoch, perplexity)})
        ledger.tell(whole.number, Outcome.COMPLETED, Outcome.COMPLETED.sentence)
        pruned, complete = ledger.study.get_trials()[2:4]
        assert "unit" not in ledger.study.user_attrs
    assert list(pruned.intermediate_values) == [1, 2, 3, 4]
    assert list(complete.intermediate_values) == list(range(1, EPOCHS + 1))
    assert "steps" not in complete.user_attrs
    assert complete.user_attrs["whole_run"]["steps"] == PER_EPOCH * EPOCHS
    assert pruned.user_attrs["reason"].startswith("pruned: perplexity 89.00 after epoch 4 is above")
    assert (row.step, row.steps, row.unit) == (4, 10, "epoch")


def test_its_last_epoch_is_paid_for(tmp_path: Path) -> None:
    with half_done(tmp_path) as ledger:
        ledger.unfinished()
        ledger.report({2: at(9, 89.0)})
        assert ledger.report({2: at(10, 89.0)}) == {2: Verdict.CONTINUE}


def test_faults_are_at_an_epoch(tmp_path: Path) -> None:
    with half_done(tmp_path) as ledger:
        ledger.unfinished()
        with pytest.raises(SweepError, match="trial 2, epoch 4: the trainer's validation_loss"):
            ledger.report({2: replace(at(4, 89.0), validation_loss=-3.9)})
        assert ledger.report({2: at(3, 70.0)}) == {2: Verdict.PRUNE}
        ledger.tell(2, Outcome.PRUNED, Outcome.PRUNED.sentence)
        assert ledger.row(2).reason.startswith("failed: epoch 3 cannot be repeated: perplexity 70")
        number = asked(ledger).number
        assert ledger.report({number: at(1, math.inf)}) == {number: Verdict.PRUNE}
        said = ledger.study.get_trials()[number].user_attrs["reason"]
        assert said == "pruned: perplexity is not finite after epoch 1"


@pytest.mark.parametrize(
    ("floor", "schedule", "first"),
    [
        (0, LRSchedule(), 0),
        (4, LRSchedule(), 4),
        (0, LRSchedule(warmup_share=0.1), 2),
        (0, LRSchedule(warmup_steps=25), 3),  # they end in the second epoch
        (4, LRSchedule(warmup_steps=25), 4),
    ],
)
def test_the_first_epoch_that_is_compared_is_as_it_was(
    tmp_path: Path, floor: int, schedule: LRSchedule, first: int
) -> None:
    version_1(tmp_path, [], replace(TRAIN, lr_schedule=schedule))
    study = optuna.load_study(
        study_name="study", storage=open_storage(storage_of(tmp_path), create=False)
    )
    study.set_user_attr("floor", floor)
    terms = terms_of(read_study(study))
    assert (terms.steps, terms.unit) == (EPOCHS, "epoch")
    assert math.ceil(round(terms.floor * EPOCHS, 6)) == first


def searched(folder: Path, *, by_epochs: bool) -> list[tuple[float, int, str]]:
    """A search that begins with a whole trial: each rate, its reports, and why it was left."""
    found = []
    if by_epochs:
        version_1(folder, [trial(1e-2)])
    ledger = open_ledger(folder, train=TRAIN, attributes={"steps_per_epoch": PER_EPOCH}, **LOOKS)
    with ledger:
        while (spec := ledger.ask()) is not None:
            verdict, rate = Verdict.CONTINUE, spec.config.learning_rate
            for epoch, perplexity in enumerate(curve(rate), 1):
                verdict = ledger.report({spec.number: at(epoch, perplexity)})[spec.number]
                if verdict is not Verdict.CONTINUE:
                    break
            ledger.tell(spec.number, ENDED[verdict], "trained to its end")
            row = ledger.row(spec.number)
            counted = row.step if by_epochs else row.step // PER_EPOCH
            words = re.sub(r"(epoch|step) \d+", "there", row.reason)
            found.append((rate, counted, words))
            assert row.unit not in row.reason or f"{row.unit} {row.step}" in row.reason
    return found


def test_a_search_goes_on_as_one_by_steps_does(tmp_path: Path) -> None:
    for name in ("epochs", "steps"):
        (tmp_path / name).mkdir()
    by_epochs = searched(tmp_path / "epochs", by_epochs=True)
    by_steps = searched(tmp_path / "steps", by_epochs=False)
    assert by_steps[0][:2] == (1e-2, EPOCHS)  # version 1 had trained it
    assert [each[0] for each in by_epochs] == pytest.approx([each[0] for each in by_steps[1:]])
    assert [each[1:] for each in by_epochs] == [each[1:] for each in by_steps[1:]]
    assert sum(words.startswith("paused: ") for _, _, words in by_epochs) >= 2


def test_it_is_reported_as_epochs(tmp_path: Path) -> None:
    with half_done(tmp_path) as ledger:
        study = ledger.study
        summary, whole = summarise(study, "sweep.db"), build(study, "sweep.db")
        console = Console(width=120, record=True, file=io.StringIO())
        print_header(summary, console)
        print_summary(summary, console)
        print_trial(trial_detail(study, study.trials[2]), console)
        said = console.export_text()
        assert (summary.unit, summary.steps) == ("epoch", 10)
        assert "5 of 10 epochs each, 2 done" in said
        assert "89.00 up to epoch 3" in said
        assert re.search(r"89\.00 +3/10 +running", said)
        text = markdown(whole)
        assert "took 23 epochs; all to their end would be 30" in text
        assert "epochs a trial" in text
        assert not re.search(r"\bsteps?\b", said + text)
        drawn = {chart.key: chart for chart in charts(whole)}
        assert "Perplexity by epoch" in drawn["epochs"].title
        assert "steps" not in drawn
        narrow = Console(width=80, record=True, file=io.StringIO())
        print_summary(summary, narrow)
        assert "trained all its epochs" not in narrow.export_text()


def test_its_best_configuration_names_the_epoch(tmp_path: Path) -> None:
    with half_done(tmp_path) as ledger:
        exported = export(ledger.study, best_trial(ledger.study), "sweep.db")
    assert (exported.origin.epoch, exported.origin.step) == (10, None)
    said = beside_the_sweep(exported, {10: exported.origin.value})
    assert said.startswith("epoch 10 gave perplexity")


def test_its_trials_are_shown_live_by_epochs(tmp_path: Path) -> None:
    stream = io.StringIO()
    with half_done(tmp_path) as ledger, PlainView(stream) as view:
        ledger.unfinished()
        view.trial_started(ledger.row(2))
        ledger.report({2: at(4, 88.0)})
        view.reported(2, at(4, 88.0), ledger.row(2))
        view.trial_started(ledger.row(asked(ledger).number))
    first, second, third = stream.getvalue().splitlines()
    assert "going on after epoch 3/10" in first
    assert "epoch 4/10  perplexity 88.00" in second
    assert "starting  10 epochs" in third
