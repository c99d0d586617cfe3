import dataclasses
import tomllib
from pathlib import Path

import pytest
from support import open_ledger, report

from sweep.config.load import default_text, load
from sweep.config.schema import ReferenceSettings
from sweep.errors import SweepError
from sweep.results.report import Report, build
from sweep.workflows.calibrate import measured_reference, write_reference
from trainers.config import DataConfig
from trainers.report import Outcome

REFERENCE = ReferenceSettings(
    learning_rate=0.00456,
    batch_size=32,
    parameters=1234,
    precision="fp32",
    perplexity=35.5,
    model="context_vector",
    data="docstrings",
    epochs=10,
    swept=True,
)


def report_of(folder: Path, *perplexities: float) -> Report:
    with open_ledger(folder) as ledger:
        for perplexity in perplexities:
            spec = ledger.ask()
            ledger.report({spec.number: report(1, perplexity)})
            ledger.tell(spec.number, Outcome.COMPLETED, "")
        return build(ledger.study, "sqlite:///sweep.db")


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_the_recommended_trial_becomes_the_reference(tmp_path: Path, chosen: int) -> None:
    found = report_of(tmp_path, 50, 35.123456, 40)
    trial = dataclasses.replace(found.study.trials[chosen], learning_rate=0.00123456)
    rows = [trial if row.number == chosen else row for row in found.study.trials]
    measured = measured_reference(
        dataclasses.replace(
            found,
            study=dataclasses.replace(found.study, trials=tuple(rows), recommended=trial),
        ),
        "context_vector",
        DataConfig(name="docstrings"),
    )
    assert measured.learning_rate == 0.00123
    assert measured.perplexity == [50, 35.12, 40][chosen]
    assert (measured.batch_size, measured.precision, measured.epochs) == (32, "fp32", 3)
    assert (measured.parameters, measured.swept) == (100, True)
    assert (measured.model, measured.data) == ("context_vector", "docstrings")


def test_without_a_complete_trial_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="no trial is complete"):
        measured_reference(report_of(tmp_path), "context_vector", DataConfig())


def test_what_was_measured_on_the_fallback_stands_under_its_name(tmp_path: Path) -> None:
    found = report_of(tmp_path, 50)
    data = DataConfig(name="Salesforce/wikitext", fallback="docstrings")
    for source, name in (("docstrings", "docstrings"), ("the hub's own", "Salesforce/wikitext")):
        study = dataclasses.replace(found.study, data=source)
        measured = measured_reference(dataclasses.replace(found, study=study), "gpt", data)
        assert measured.data == name


def test_a_rate_that_learned_nothing_is_no_reference(tmp_path: Path) -> None:
    found = report_of(tmp_path, 50)
    study = dataclasses.replace(found.study, baseline=49.0)
    with pytest.raises(SweepError, match="no better than counting words"):
        measured_reference(dataclasses.replace(found, study=study), "gpt", DataConfig())


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "# my settings\n[trainer]\nepochs = 10  # as long as it takes\n",
        "[profiles.cpu]\ndevice = 'cpu'\n\n[profiles.cpu.trainer]\nepochs = 10 # few\n",
        "[profiles.cpu.reference] # old\nlearning_rate = 0.1 # too high\nswept = false\n",
        "profiles.cpu.reference = { learning_rate = 0.1, swept = false } # old\n",
        "[profiles.other.trainer]\nepochs = 3 # other\n",
        default_text(),
    ],
    ids=["no file", "empty", "no profile", "profile", "table", "inline", "other", "shipped"],
)
def test_it_is_written_whatever_stands_there_and_loaded_again(
    tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "sweep.toml"
    if text is not None:
        file.write_text(text)
    write_reference(file, "cpu", REFERENCE)
    assert load(file, profile="cpu", cuda=False).reference == REFERENCE
    comments = {line.partition("#")[2] for line in (text or "").splitlines() if "#" in line}
    assert comments <= {line.partition("#")[2] for line in file.read_text().splitlines()}


def test_all_else_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(default_text())
    write_reference(file, "cpu", REFERENCE)
    before, after = tomllib.loads(default_text()), tomllib.loads(file.read_text())
    assert before["profiles"]["cpu"].pop("reference") != after["profiles"]["cpu"].pop("reference")
    assert before == after


def test_a_file_that_is_no_toml_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text("a = = b\n")
    with pytest.raises(SweepError, match="is not valid TOML"):
        write_reference(file, "cpu", REFERENCE)
    assert file.read_text() == "a = = b\n"


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="cannot be written"):
        write_reference(tmp_path / "no-folder" / "sweep.toml", "cpu", REFERENCE)
