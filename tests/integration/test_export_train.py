"""The best trial leaves as YAML and is trained again, to the same perplexity, and further."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support import Done, Workspace, refusal


@pytest.fixture(scope="module")
def elsewhere(
    tmp_path_factory: pytest.TempPathFactory, english: Path, finished: Workspace
) -> Workspace:
    """Another folder, a repository with a commit, into which the finished sweep is exported."""
    workspace = Workspace(tmp_path_factory.mktemp("elsewhere"), english)
    git = ["git", "-C", workspace.path, "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    database = f"sqlite:///{finished.path / 'sweep.db'}"
    workspace.said = workspace.invoke("export", "--storage", database, "-o", "best.yaml")
    return workspace


@pytest.fixture(scope="module")
def trained(elsewhere: Workspace) -> Done:
    return elsewhere.sweep("train", "best.yaml", "--json")


def content(workspace: Workspace) -> dict[str, Any]:
    return yaml.safe_load((workspace.path / "best.yaml").read_text())


def perplexities(done: Done) -> dict[int, float]:
    reports = [event["report"] for event in done.events if event["event"] == "trial_reported"]
    return {report["step"]: report["perplexity"] for report in reports}


def speeds(done: Done) -> list[float]:
    reports = [event["report"] for event in done.events if event["event"] == "trial_reported"]
    return [report["tokens_per_second"] for report in reports]


def best_curve(workspace: Workspace) -> dict[int, float]:
    return workspace.study().best_trial.intermediate_values


class TestExport:
    def test_it_writes_the_whole_trainer_configuration(
        self, elsewhere: Workspace, finished: Workspace, english: Path
    ) -> None:
        exported = content(elsewhere)
        train = exported["train"]
        best = finished.study().best_trial
        assert exported["trainer"] == "trainers.train:train"
        assert train["learning_rate"] == best.params["learning_rate"]
        assert (train["batch_size"], train["precision"], train["epochs"]) == (64, "fp32", 3)
        assert train["model"]["options"] == {
            "embed": 16, "hidden": 16, "layers": 1, "context": 16,
        }  # fmt: skip
        assert train["data"]["name"] == str(english)
        assert train["lr_schedule"]["name"] == "constant"
        assert train["clip_schedule"][0] == [0, 0.5]

    def test_it_says_where_it_came_from(self, elsewhere: Workspace, finished: Workspace) -> None:
        origin = content(elsewhere)["origin"]
        study = finished.study()
        assert origin["study"] == study.study_name
        assert origin["trial"] == study.best_trial.number
        assert origin["value"] == study.best_value
        assert best_curve(finished)[origin["step"]] == study.best_value
        assert origin["data_fingerprint"] == study.user_attrs["identity"]["data_fingerprint"]
        assert set(origin["versions"]) == {"python", "torch", "optuna", "tokenizers", "datasets"}
        git = ["git", "-C", elsewhere.path, "rev-parse", "HEAD"]
        assert origin["git_commit"] == subprocess.check_output(git, text=True).strip()
        assert origin["by_hand"] is False

    def test_it_can_take_another_trial_than_the_best(
        self, elsewhere: Workspace, finished: Workspace, tmp_path: Path
    ) -> None:
        database = finished.path / "sweep.db"
        file = tmp_path / "other.yaml"
        elsewhere.invoke("export", "--storage", database, "--trial", 1, "-o", file)
        exported = yaml.safe_load(file.read_text())
        trial = finished.study().get_trials(deepcopy=False)[1]
        assert exported["train"]["learning_rate"] == trial.params["learning_rate"]
        assert exported["origin"]["value"] == trial.value


class TestTrain:
    def test_every_epoch_of_the_sweep_is_met_again_exactly(
        self, trained: Done, finished: Workspace
    ) -> None:
        assert perplexities(trained) == best_curve(finished)
        (met,) = [event["text"] for event in trained.events if "met again" in str(event)]
        assert f"the sweep {finished.study().best_value:.2f}" in met

    def test_it_overwrites_nothing_without_resume(
        self, elsewhere: Workspace, trained: Done
    ) -> None:
        checkpoint = elsewhere.path / "runs" / "train" / "best" / "last.pt"
        before = checkpoint.read_bytes()
        assert "--resume goes on with it" in refusal(elsewhere.invoke("train", "best.yaml", code=2))
        assert checkpoint.read_bytes() == before

    def test_fewer_epochs_than_are_done_are_refused(
        self, elsewhere: Workspace, trained: Done
    ) -> None:
        done = elsewhere.invoke("train", "best.yaml", "--resume", "--epochs", 2, code=2)
        assert "(3 epochs), more than the 2 epochs asked for" in refusal(done)

    def test_resume_goes_on_from_the_trials_checkpoint_as_if_it_had_never_ended(
        self, elsewhere: Workspace, finished: Workspace
    ) -> None:
        longer = ("train", "best.yaml", "--epochs", 5, "--json", "--directory")
        extended = elsewhere.sweep(*longer, "extended", "--resume")
        straight = elsewhere.sweep(*longer, "straight")
        steps = finished.study().user_attrs["steps_per_epoch"]
        assert list(perplexities(extended)) == [epoch * steps for epoch in (1, 2, 3, 4, 5)]
        begun = {s: p for s, p in perplexities(extended).items() if s <= 3 * steps}
        assert begun == best_curve(finished)
        assert perplexities(extended) == perplexities(straight)
        # It did go on: the first three are the trial's own reports, their speed included.
        study = finished.study()
        history = torch.load(finished.folder(study.best_trial.number) / "last.pt")["history"]
        assert speeds(extended)[:3] == [report["tokens_per_second"] for report in history]
        assert speeds(straight)[:3] != speeds(extended)[:3]

    def test_there_must_be_something_to_resume(self, elsewhere: Workspace, tmp_path: Path) -> None:
        exported = content(elsewhere)
        exported["origin"]["directory"] = str(tmp_path / "moved")
        elsewhere.write("moved.yaml", yaml.safe_dump(exported))
        refused = elsewhere.invoke("train", "moved.yaml", "--resume", code=2)
        assert "there is nothing to resume" in refusal(refused)


class TestAStrangersFile:
    """A YAML may come from anyone: it is data, and runs no code that the user did not name."""

    @pytest.fixture
    def victim(self, elsewhere: Workspace) -> Workspace:
        elsewhere.write(
            "evil.py",
            "import pathlib\npathlib.Path('pwned').touch()\nbuild = train = None\n",
        )
        return elsewhere

    def refused(self, victim: Workspace, text: str, *flags: str) -> str:
        victim.write("strange.yaml", text)
        line = refusal(victim.invoke("train", "strange.yaml", *flags, code=2))
        assert not (victim.path / "pwned").exists()
        assert not (victim.path / "runs" / "train" / "strange").exists()
        return line

    def test_its_model_is_not_imported(self, victim: Workspace) -> None:
        exported = content(victim)
        exported["train"]["model"]["name"] = "evil:build"
        line = self.refused(victim, yaml.safe_dump(exported))
        assert "'evil:build'" in line
        assert "add --model evil:build if you trust it" in line

    def test_its_optimizer_is_not_imported(self, victim: Workspace) -> None:
        exported = content(victim)
        exported["train"]["optimizer"] = "evil:build"
        line = self.refused(victim, yaml.safe_dump(exported))
        assert "add --optimizer evil:build if you trust it" in line

    def test_its_trainer_is_not_imported(self, victim: Workspace) -> None:
        exported = content(victim)
        exported["trainer"] = "evil:train"
        line = self.refused(victim, yaml.safe_dump(exported))
        assert "add --trainer evil:train if you trust it" in line

    def test_leave_for_one_path_is_none_for_another(self, victim: Workspace) -> None:
        exported = content(victim)
        exported["trainer"] = "evil:train"
        self.refused(victim, yaml.safe_dump(exported), "--trainer", "other:train")

    @pytest.mark.parametrize("name", ["evil.build", "../evil", "os", "__init__", "evil"])
    def test_a_models_name_reaches_no_other_module(self, victim: Workspace, name: str) -> None:
        exported = content(victim)
        exported["train"]["model"]["name"] = name
        victim.write("strange.yaml", yaml.safe_dump(exported))
        victim.invoke("train", "strange.yaml", "--directory", "strange", code=1)
        assert not (victim.path / "pwned").exists()

    @pytest.mark.parametrize(
        "tag",
        [
            "!!python/object/apply:os.system ['touch pwned']",
            "!!python/object/new:pathlib.Path [pwned]",
            "!!python/name:evil.build",
        ],
    )
    def test_tags_that_make_objects_are_refused(self, victim: Workspace, tag: str) -> None:
        text = (victim.path / "best.yaml").read_text() + f"extra: {tag}\n"
        assert "is not valid YAML" in self.refused(victim, text)
