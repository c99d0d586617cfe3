"""Finished studies found, forecast from, and the forecast kept and judged."""

import math
from pathlib import Path

import optuna
import pytest
from made_studies import IDENTITY, add_trial, copied, finished_study
from optuna.trial import TrialState
from support import empty_database

from studies.rules import Setting
from sweep.errors import SweepError
from sweep.results.family import (
    Family,
    comparable,
    exponents,
    find_family,
    is_finished,
    predict_optimum,
    run_setting,
)
from sweep.results.forecast import Forecast, own, store, verdict
from sweep.results.prediction import predict, rule_rates
from sweep.storage.connect import open_storage
from sweep.view.prediction import held_lines


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "sweep.db"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies at batch 32, 128 and 512 whose best rate grows as B^0.6; to be copied."""
    database = tmp_path_factory.mktemp("three") / "sweep.db"
    for batch in (32, 128, 512):
        finished_study(database, batch, 1e-3 * (batch / 32) ** 0.6)
    return database


@pytest.fixture
def grown(three: Path, tmp_path: Path) -> Path:
    return copied(three, tmp_path)


def family(database: Path) -> Family:
    return find_family(open_storage(str(database), create=False), {**IDENTITY, "batch_size": 1})


def test_studies_of_other_batches_precisions_seeds_and_sizes_are_found(grown: Path) -> None:
    finished_study(grown, 128, 2e-3, precision="fp16")
    finished_study(grown, 128, 2e-3, seed=3)
    finished_study(grown, 64, 1e-3, parameters=40_000, **{"model.options.hidden": 64})
    found = family(grown)
    assert [(s.setting.parameters, s.setting.batch_size) for s in found.swept] == [
        *[(11276, batch) for batch in (32, 128, 128, 128, 512)],
        (40_000, 64),
    ]
    assert found.swept[0].rate == pytest.approx(1e-3, rel=0.2)
    assert found.swept[0].setting.tokens == 30_000
    assert found.sequence_tokens == 20
    assert found.unit == "tokens"


def test_studies_of_other_lengths_are_found_and_the_length_is_an_axis(grown: Path) -> None:
    for epochs in (12, 48):
        finished_study(grown, 32, 1e-3 * (epochs / 3) ** -0.3, epochs=epochs)
    found = family(grown)
    assert [s.setting.tokens for s in found.swept] == [3e4, 3e4, 3e4, 12e4, 48e4]
    assert found.held == "precision fp32, seed 0"
    scaled = exponents(found)
    assert scaled is not None
    assert scaled.length is not None
    assert scaled.length.low < -0.3 < scaled.length.high
    short, long = (predict_optimum(found, Setting(32, 11276, tokens)) for tokens in (3e4, 192e4))
    assert short is not None
    assert long is not None
    assert long.rate < 0.5 * short.rate
    assert long.length_ratio == 4
    assert long.width > short.width


def test_a_decay_over_other_epochs_than_the_runs_own_keeps_its_length() -> None:
    fixed = {**IDENTITY, "lr_schedule.horizon_epochs": 5}
    assert comparable({**fixed, "precision": "fp16"}, fixed)
    assert not comparable({**fixed, "epochs": 4}, fixed)


@pytest.mark.parametrize(
    ("identity", "text", "said", "tokens", "sequences"),
    [
        ({"epochs": 3}, (500, 10_000), 0, 30_000, 1500),
        ({"epochs": 3}, (0, 10_000), 0, 30_000, None),
        ({"epochs": 3, "steps": 100}, (500, 10_000), 0, 64_000, 3200),
        ({"epochs": 3, "tokens": 5000}, (500, 10_000), 0, 5000, 250),
        ({"epochs": 1, "program.command": "train"}, (0, 0), 40, None, 1280),
        ({"epochs": 1, "program.command": "train"}, (0, 0), 0, None, None),
    ],
)
def test_how_long_a_run_is(
    identity: dict[str, object],
    text: tuple[int, int],
    said: int,
    tokens: float | None,
    sequences: float | None,
) -> None:
    found = run_setting({"batch_size": 32, **identity}, 1, text, said)
    assert (found.tokens, found.sequences) == (tokens, sequences)


def test_without_lengths_only_studies_of_the_same_settings_are_used(database: Path) -> None:
    unknown = {"training_tokens": None, "training_sequences": None}
    finished_study(database, 32, 1e-3, about=unknown)
    finished_study(database, 64, 1e-3, epochs=9, about=unknown)
    found = family(database)
    assert [s.setting.batch_size for s in found.swept] == [32]
    assert found.unit == ""


def test_what_is_left_out_is_named(grown: Path) -> None:
    finished_study(grown, 64, 1e-3, **{"lr_schedule.name": "wsd"})
    finished_study(grown, 256, 1e-3, optimizer="adamw", weight_decay=0.1)
    finished_study(grown, 16, 1e-3, data_fingerprint="1" * 64)
    assert family(grown).left_out == {"lr_schedule.name": 1, "optimizer, weight_decay": 1}


def test_what_has_too_few_whole_runs_is_not_counted_and_said(grown: Path) -> None:
    before = family(grown)
    finished_study(grown, 2048, 1e-3, complete=1)
    found = family(grown)
    assert (found.swept, found.too_short) == (before.swept, 1)
    assert "Not counted: 1 finished study with fewer than 2 whole runs" in "".join(
        held_lines(found)
    )


@pytest.mark.parametrize(
    "other",
    [
        {"optimizer": "adamw"},
        {"weight_decay": 0.2},
        {"optimizer_options.momentum": 0.8},
        {"decayed": "matrices"},
        {"muon_ratio": 0.5},
        {"lr_schedule.name": "wsd"},
        {"lr_schedule.floor": 0.1},
        {"lr_schedule.decay_share": 0.1},
        {"data_fingerprint": "1" * 64},
        {"model.name": "gpt"},
        {"model.options.dropout": 0.2},
        {"trainer": "mine:train"},
    ],
)
def test_whatever_else_differs_is_another_family(other: dict[str, object]) -> None:
    assert not comparable({**IDENTITY, **other}, IDENTITY)
    assert not comparable(IDENTITY, {**IDENTITY, **other})


def test_an_unfinished_study_is_not_used(database: Path) -> None:
    finished_study(database, 32, 1e-3)
    stopped = finished_study(database, 128, 2e-3, about={"finished": {}})
    assert not is_finished(stopped)
    assert [s.setting.batch_size for s in family(database).swept] == [32]


def test_a_study_of_an_older_version_is_finished_when_all_its_trials_are(database: Path) -> None:
    assert is_finished(finished_study(database, 32, 1e-3, about={"finished": None}))
    more = {"finished": None, "trials": 8}
    assert not is_finished(finished_study(database, 64, 1e-3, about=more))


def test_one_complete_trial_is_too_few(database: Path) -> None:
    database.write_bytes(empty_database())
    few = optuna.create_study(storage=open_storage(str(database), create=False))
    about = {"identity": IDENTITY, "config": {}, "parameters": 1, "range": [1e-4, 1.0]}
    for key, value in {**about, "finished": {"trials": 2}}.items():
        few.set_user_attr(key, value)
    add_trial(few, 1e-3, 60.0)
    add_trial(few, 1e-2, math.inf, TrialState.PRUNED)
    assert not is_finished(few)
    add_trial(few, 2e-3, 60.0)
    assert is_finished(few)


def test_what_was_held_fixed_is_said(database: Path) -> None:
    for batch in (32, 128):
        finished_study(database, batch, 1e-3)
    assert family(database).held == "3 epochs of 10,000 tokens, precision fp32, seed 0"
    finished_study(database, 512, 2e-3, precision="fp16")
    assert family(database).held == "3 epochs of 10,000 tokens, seed 0"
    assert family(database).carried == "precision (fp16, fp32)"


def test_the_exponent_of_a_family_is_found(grown: Path) -> None:
    found = exponents(family(grown))
    assert found is not None
    assert found.batch is not None
    assert found.batch.value == pytest.approx(0.6, abs=0.1)
    assert found.batch.low < 0.6 < found.batch.high


def test_a_single_study_has_no_exponent_but_a_forecast(database: Path) -> None:
    finished_study(database, 32, 1e-3)
    assert exponents(family(database)) is None
    found = predict_optimum(family(database), Setting(64, 11276))
    assert found is not None
    assert 1e-3 < found.rate < 2e-3


def test_an_empty_family_forecasts_nothing(database: Path) -> None:
    database.write_bytes(empty_database())
    assert predict_optimum(family(database), Setting(64, 11276)) is None


def test_a_forecast_is_stored_and_judged_by_a_later_study(grown: Path) -> None:
    said = predict(str(grown), None, 2048, None).forecast
    assert said.batch_ratio == 4
    assert said.low < said.learning_rate < said.high
    later = finished_study(grown, 2048, said.learning_rate * 1.1)
    words = verdict(later, open_storage(str(grown), create=False))
    assert words.startswith("forecast ")
    assert words.endswith(": inside")


def test_a_forecast_of_another_length_is_met_there_alone(grown: Path) -> None:
    said = predict(str(grown), None, 2048, None, tokens=120_000).forecast
    storage = open_storage(str(grown), create=False)
    assert verdict(finished_study(grown, 2048, said.learning_rate), storage) == ""
    there = finished_study(grown, 2048, said.learning_rate, epochs=12)
    assert verdict(there, storage).endswith(": inside")


def test_a_forecast_of_an_earlier_version_holds_for_the_studies_length(grown: Path) -> None:
    said = predict(str(grown), None, 2048, None).forecast
    newer = ("tokens", "steps", "length_ratio", "safe", "risk", "lost_from")
    stored = {name: value for name, value in said.stored().items() if name not in newer}
    for study in family(grown).studies:
        for name in [name for name in study.user_attrs if name.startswith("forecast:")]:
            study._storage.set_study_user_attr(study._study_id, name, None)
    family(grown).studies[0].set_user_attr("forecast:2048:11276", stored)
    storage = open_storage(str(grown), create=False)
    longer = finished_study(grown, 2048, said.learning_rate, epochs=12)
    assert verdict(longer, storage) == ""
    later = finished_study(grown, 2048, said.learning_rate)
    assert verdict(later, storage).endswith(": inside")


def test_a_forecast_that_missed_is_said_to(grown: Path) -> None:
    said = predict(str(grown), None, 2048, None).forecast
    low = finished_study(grown, 2048, said.low / 3)
    storage = open_storage(str(grown), create=False)
    assert verdict(low, storage).endswith(": below it")
    high = finished_study(grown, 2048, said.high * 3, seed=1)
    assert verdict(high, storage).endswith(": above it")


def test_what_was_forecast_after_a_study_began_does_not_count(grown: Path) -> None:
    later = finished_study(grown, 2048, 5e-3)
    predict(str(grown), None, 2048, None)
    assert verdict(later, open_storage(str(grown), create=False)) == ""


def test_a_forecast_of_another_size_does_not_count(grown: Path) -> None:
    predict(str(grown), None, 2048, 99)
    later = finished_study(grown, 2048, 5e-3)
    assert verdict(later, open_storage(str(grown), create=False)) == ""


def test_the_forecast_that_a_study_began_with_is_judged_once(grown: Path) -> None:
    found = family(grown)
    prediction = predict_optimum(found, Setting(2048, 11276))
    assert prediction is not None
    said = Forecast.of(prediction)
    store(said, found)
    later = finished_study(grown, 2048, said.learning_rate, about={"transfer": said.stored()})
    assert own(later) == said
    words = verdict(later, open_storage(str(grown), create=False))
    assert words.count("forecast") == 1


def test_a_forecast_is_stored_beside_the_largest_study_and_replaced(grown: Path) -> None:
    before = [len(study.user_attrs) for study in family(grown).studies]
    for _ in range(2):
        predict(str(grown), None, 2048, None)
    after = [len(study.user_attrs) for study in family(grown).studies]
    assert [b - a for a, b in zip(before, after, strict=True)] == [0, 0, 1]


def test_the_rules_are_carried_on_and_an_unknown_one_is_left_out(database: Path) -> None:
    study = finished_study(database, 32, 1e-3)
    assert rule_rates(study, 128, 11276) == pytest.approx({"unscaled": 3e-2, "sqrt": 6e-2})
    study.set_user_attr("exponents", {"own": [1.0, 0.0]})
    assert rule_rates(study, 128, 11276)["own"] == pytest.approx(4e-2)


def test_without_a_finished_study_it_is_one_line(database: Path) -> None:
    finished_study(database, 32, 1e-3, about={"finished": {}})
    with pytest.raises(SweepError, match="no study is finished"):
        predict(str(database), None, 64, None)
    with pytest.raises(SweepError, match=r"b32-fp32-0-3-11276.*no study is finished"):
        predict(str(database), "b32-fp32-0-3-11276", 64, None)
