"""What studies and trials store of themselves, on a real SQLite file."""

import dataclasses
from pathlib import Path
from typing import Any

import made_studies as made
import pytest
from optuna.study import Study
from optuna.trial import create_trial

import trainers.config
from sweep.errors import SweepError
from sweep.results.record import StudyRecord, read_study, read_trial, write_study
from trainers.config import FIRST, LATER, TrainConfig, flat


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return made.finished_study(tmp_path / "sweep.db", 32, 3e-2)


def test_a_study_of_the_first_version_has_the_defaults(study: Study) -> None:
    record = read_study(study)
    assert record.version == 0
    assert (record.kind, record.floor, record.remaining) == ("search", 0, "")


def test_what_is_written_is_read(study: Study) -> None:
    write_study(study, remaining="0.1 %", range=[1e-4, 1e-2], version=1)
    record = read_study(study)
    assert (record.remaining, record.range, record.version) == ("0.1 %", (1e-4, 1e-2), 1)


@pytest.mark.parametrize(
    ("about", "length"),
    [
        ({"unit": "step", "steps_per_epoch": 20}, 60),
        ({"unit": "step"}, None),  # only the trainer knows
        ({"unit": "step", "steps_per_epoch": 20, "identity": {"trainer": "mine:train"}}, None),
        ({"unit": "step", "identity": {"trainer": "mine:train", "steps": 500}}, 500),
        ({"steps_per_epoch": 20}, 3),  # of an earlier version: epochs
    ],
)
def test_how_a_whole_runs_last_report_is_counted(
    study: Study, about: dict[str, Any], length: int | None
) -> None:
    changed = {**about, "identity": {**read_study(study).identity, **about.get("identity", {})}}
    write_study(study, **changed)
    assert read_study(study).length == length


def test_a_key_that_is_no_field_is_not_written(study: Study) -> None:
    with pytest.raises(AssertionError):
        write_study(study, remainder="")


def test_a_later_version_s_fields_are_left_alone(study: Study) -> None:
    study.set_user_attr("horizon", 3)
    assert read_study(study).trials > 0
    assert study.user_attrs["horizon"] == 3


def test_a_setting_that_this_version_no_longer_has_is_no_traceback(study: Study) -> None:
    config = {**study.user_attrs["config"], "momentum": 0.9}
    config["lr_schedule"] = {**config.get("lr_schedule", {}), "restarts": 2}
    study.set_user_attr("config", config)
    assert read_study(study).train.epochs == config["epochs"]


def test_a_config_that_cannot_be_trained_is_one_line(study: Study) -> None:
    study.set_user_attr("config", {**study.user_attrs["config"], "batch_size": "many"})
    with pytest.raises(SweepError, match="batch_size"):
        _ = read_study(study).train


def test_a_damaged_study_is_one_line(study: Study) -> None:
    study.set_user_attr("range", "wide")
    with pytest.raises(SweepError, match=r"cannot be read: range"):
        read_study(study)


def test_what_another_program_puts_into_a_trial_is_left_out() -> None:
    attributes = {"reason": ["by hand"], "by_hand": True, "mine": 1}
    record = read_trial(create_trial(value=1.0, user_attrs=attributes))
    assert (record.reason, record.by_hand) == ("", True)


def test_every_setting_was_there_first_or_has_a_default_for_what_was_stored_before() -> None:
    """So a new setting disowns no stored study, whoever adds it."""
    names = set(flat(dataclasses.asdict(TrainConfig(learning_rate=1.0))))
    assert names == FIRST | LATER.keys()
    assert trainers.config.LATER["lr_schedule.warmup_share"] == 0.0


def test_every_field_has_its_place_in_one_record() -> None:
    assert StudyRecord.model_fields.keys() >= {"identity", "config", "range", "trials"}
