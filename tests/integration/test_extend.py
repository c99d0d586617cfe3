"""A model, a trainer, a rule and a text of the user's own, each one file outside the package."""

import shutil
from pathlib import Path

import pytest
from support import Workspace, refusal

pytestmark = pytest.mark.more  # whole sweeps

MODEL = """\
    import torch

    def build(vocabulary_size, width=4):
        return torch.nn.Sequential(
            torch.nn.Embedding(vocabulary_size, width), torch.nn.Linear(width, vocabulary_size)
        )
"""
# The shared trainer with a word of its own at every report.
TRAINER = """\
    import dataclasses
    from trainers.report import Report
    from trainers.train import train

    def loud(config, *, device, directory):
        training, verdict = train(config, device=device, directory=directory), None
        while True:
            try:
                said = training.send(verdict)
            except StopIteration as stop:
                return dataclasses.replace(stop.value, detail="my own trainer says goodbye")
            verdict = yield said
"""
SETTINGS = """
[models."my_model:build"]
width = 8

[[rules]]
name = "cube"
batch_exponent = 3.0
parameter_exponent = 0.0
source = "a hunch"
"""
PARAMETERS = 300 * 8 + (8 + 1) * 300
CODE = ("--model", "my_model:build", "--trainer", "my_trainer:loud")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("extended"), english)
    shutil.copytree(english, workspace.path / "texts")
    workspace.write("my_model.py", MODEL)
    workspace.write("my_trainer.py", TRAINER)
    toml = workspace.path / "sweep.toml"
    toml.write_text(toml.read_text() + SETTINGS)
    workspace.said = workspace.sweep(
        "run", *CODE, "--data", "texts", "--trials", 4, "--epochs", 2,
        "--set", f"reference.parameters={PARAMETERS}",
    )  # fmt: skip
    workspace.invoke("export")
    return workspace


def test_the_model_of_a_file_is_trained_with_its_options(extended: Workspace) -> None:
    about = extended.study().user_attrs
    assert about["parameters"] == PARAMETERS
    assert about["identity"]["model.name"] == "my_model:build"
    assert about["identity"]["model.options.width"] == 8
    assert extended.study().best_value < 150  # a guess among the 300 words comes to 300


def test_the_trainer_of_a_file_runs_every_trial(extended: Workspace) -> None:
    assert extended.study().user_attrs["identity"]["trainer"] == "my_trainer:loud"
    reasons = {trial.user_attrs["reason"] for trial in extended.study().trials}
    assert reasons == {"my own trainer says goodbye"}
    steps = extended.study().user_attrs["steps_per_epoch"]
    assert all(set(curve) == {steps, 2 * steps} for curve in extended.curves().values())


def test_a_rule_of_sweep_toml_is_tried_beside_the_others(extended: Workspace) -> None:
    trials = extended.study().trials
    assert trials[3].params["learning_rate"] == pytest.approx(3e-2 * 2**3)
    assert trials[3].user_attrs["nearest_rule"] == "cube"
    assert trials[0].user_attrs["multiples"]["cube"] == pytest.approx(2**0.5 / 2**3)
    assert "lr0 x (B/B0)^3" in extended.said.out


def test_a_folder_is_its_text(extended: Workspace, english: Path) -> None:
    assert extended.study().user_attrs["identity"]["data_source"] == "texts"
    assert extended.study().study_name.startswith("build-b64-fp32-texts-")


class TestTheExportedFileNamesCode:
    def test_which_is_not_run_unless_the_user_names_it_too(self, extended: Workspace) -> None:
        model, trainer = CODE[:2], CODE[2:]
        for flags, missing in (((), "my_model:build"), (model, "my_trainer:loud")):
            line = refusal(extended.invoke("train", "best.yaml", *flags, code=2))
            assert f"the file names code, '{missing}'" in line
        assert f"add {' '.join(trainer)} if you trust it" in line
        assert not (extended.path / "runs" / "train").exists()

    def test_named_on_the_command_line_it_meets_the_sweeps_perplexity(
        self, extended: Workspace
    ) -> None:
        done = extended.sweep("train", "best.yaml", *CODE, "--json")
        reported = [event["report"] for event in done.events if event["event"] == "trial_reported"]
        best = extended.study().best_trial
        assert {r["step"]: r["perplexity"] for r in reported} == best.intermediate_values
        assert "my own trainer says goodbye" in done.out

    def test_named_in_the_users_own_sweep_toml_it_is_run(
        self, extended: Workspace, tmp_path: Path
    ) -> None:
        elsewhere = extended.copy_to(tmp_path / "copy")
        toml = elsewhere.path / "sweep.toml"
        named = 'model = "my_model:build"\n[study]\ntrainer = "my_trainer:loud"\n'
        toml.write_text(toml.read_text().replace('profile = "cpu"\n', named))
        elsewhere.sweep("train", "best.yaml", "--directory", "again", "--epochs", 1)
        assert (elsewhere.path / "again" / "last.pt").is_file()
