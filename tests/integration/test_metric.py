"""Studies of another number than perplexity, from `sweep run` to `sweep train`."""

import json
import math
from pathlib import Path

import pytest
import yaml
from support import Workspace, refusal

from trainers import checkpoint

# A number that is to be large, best at 3e-2, beside a loss that is best elsewhere.
SCORED = """\
    import math
    from trainers.report import Ending, Outcome, Report

    def train(config, *, device, directory):
        away = math.log(config.learning_rate / 3e-2)
        for epoch in (1, 2, 3):
            if away > 1.5 and epoch == 2:
                verdict = yield Report(epoch=epoch, metrics={"score": math.nan})
                return Ending(Outcome.DIVERGED)
            score = 70 + 10 * epoch - 20 * away**2
            verdict = yield Report(
                epoch=epoch, validation_loss=4 - away / 10, metrics={"score": score}
            )
            if verdict == "prune":
                return Ending(Outcome.PRUNED)
        return Ending(Outcome.COMPLETED)
"""
SCORE = ("--metric", "score", "--direction", "maximize", "--trainer", "scored:train")


@pytest.fixture(scope="module")
def loss(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("loss"), english)
    flags = ("--metric", "validation_loss", "--trials", 5, "--set", "study.until='1%'")
    workspace.said = workspace.sweep("run", *flags)
    return workspace


@pytest.fixture(scope="module")
def score(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("score"), english)
    workspace.write("scored.py", SCORED)
    flags = ("--trials", 8, "--set", "study.range=[0.003, 0.6]", "--set", "study.until='1%'")
    workspace.said = workspace.sweep("run", *SCORE, *flags)
    return workspace


@pytest.fixture(scope="module")
def bits(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("bits"), english)
    flags = ("--metric", "bits_per_byte", "--trials", 3, "--set", "data.tokenizer=bpe")
    workspace.said = workspace.sweep("run", *flags)
    return workspace


@pytest.mark.more
class TestBitsAByte:
    def test_they_are_the_loss_by_the_tokens_of_a_byte(self, bits: Workspace) -> None:
        study = bits.study()
        about = study.user_attrs
        assert study.metric_names == ["bits_per_byte"]
        assert about["identity"]["data.tokenizer"] == "bpe"
        history = checkpoint.read(bits.folder(study.best_trial.number) / "last.pt")["history"]
        nats = min(report["validation_loss"] for report in history)
        expected = nats / math.log(2) * about["tokens_per_byte"]
        assert study.best_value == pytest.approx(expected, rel=1e-6)
        assert about["tokens_per_byte"] < 1 < study.best_value

    def test_they_are_named_beside_what_a_model_without_context_comes_to(
        self, bits: Workspace
    ) -> None:
        assert f"bits per byte {bits.study().best_value:.4f}" in bits.said.out
        unigram = math.log2(bits.study().user_attrs["unigram_perplexity"])
        unigram *= bits.study().user_attrs["tokens_per_byte"]
        assert f"the unigram baseline {unigram:.4f}" in bits.said.out

    def test_of_words_there_are_none(self, bits: Workspace) -> None:
        said = bits.sweep("run", "--metric", "bits_per_byte", "--study", "other", code=2)
        assert "data.tokenizer = words does not hold the text" in refusal(said)


class TestALoss:
    def test_its_trials_values_are_losses(self, loss: Workspace) -> None:
        study = loss.study()
        assert study.metric_names == ["validation_loss"]
        assert 3 < study.best_value < math.log(study.user_attrs["unigram_perplexity"])
        assert study.user_attrs["identity"]["metric"] == "validation_loss"
        assert "direction" not in study.user_attrs["identity"]

    def test_it_is_named_while_it_runs_and_at_the_end(self, loss: Workspace) -> None:
        best = f"validation loss {loss.study().best_value:.4f}"
        assert best in loss.said.out
        assert "the unigram baseline" in loss.said.out
        assert "the reference's validation loss 4.0943" in loss.said.out

    def test_every_report_says_it_in_nats(self, loss: Workspace) -> None:
        said = " ".join(loss.invoke("report").out.split())
        assert "Cost is how much more validation loss its rate gave" in said
        assert " nats " in said
        assert "perplexity" not in said
        loss.invoke("report", "-o", "report.html")
        assert "Validation loss by learning rate" in (loss.path / "report.html").read_text()
        found = json.loads(loss.invoke("report", "--json").out)
        assert (found["metric"], found["direction"]) == ("validation_loss", "minimize")
        assert found["best"]["value"] == loss.study().best_value

    def test_status_and_show_name_it(self, loss: Workspace) -> None:
        status = json.loads(loss.invoke("status", "--json").out)
        assert (status["metric"], status["best"]["value"]) == (
            "validation_loss",
            loss.study().best_value,
        )
        assert "validation loss" in loss.invoke("show", 0).out
        assert "validation loss" in loss.invoke("list").out

    def test_the_best_is_trained_again(self, loss: Workspace) -> None:
        said = loss.invoke("export").out
        assert f"validation loss {loss.study().best_value:.4f}" in said
        exported = yaml.safe_load((loss.path / "best.yaml").read_text())
        assert exported["train"]["metric"] == "validation_loss"
        trained = loss.invoke("train", "best.yaml").out
        assert "gave validation loss" in trained
        assert "met again" in trained

    def test_a_loss_is_added(self, loss: Workspace) -> None:
        done = loss.invoke("add", "--rate", "1e-3", "--validation-loss", 5.5)
        assert "validation loss 5.5000" in done.out
        for flags, says in (
            (("--perplexity", 40), "the study's metric is validation_loss"),
            (("--validation-loss", -1), "must be a validation loss, at least 0, got -1"),
            (("--validation-loss", 5, "--value", 5), "given twice"),
            ((), "--validation-loss is missing"),
        ):
            assert says in refusal(loss.invoke("add", "--rate", "1e-3", *flags, code=2))

    def test_it_is_no_perplexitys_study(self, loss: Workspace) -> None:
        name = loss.study().study_name
        said = refusal(loss.invoke("run", "--study", name, code=2))
        assert "metric" in said


@pytest.mark.more
class TestANumberThatIsToBeLarge:
    def test_it_is_stored_with_the_other_sign_and_shown_with_its_own(
        self, score: Workspace
    ) -> None:
        study = score.study()
        assert study.metric_names == ["-score"]
        assert -100 <= study.best_value < -90
        best = f"score {-study.best_value:.5g}"
        assert best in score.said.out
        assert best in " ".join(score.invoke("report").out.split())
        found = json.loads(score.invoke("report", "--json").out)
        assert found["best"]["value"] == -study.best_value

    def test_its_best_rate_is_found(self, score: Workspace) -> None:
        found = json.loads(score.invoke("report", "--json").out)
        assert found["optimum"]["learning_rate"] == pytest.approx(3e-2, rel=0.3)
        assert " of score is expected to be left to gain" in " ".join(score.said.out.split())

    def test_nan_counts_as_diverged(self, score: Workspace) -> None:
        rows = json.loads(score.invoke("status", "--json").out)["trials"]
        lost = [row for row in rows if row["learning_rate"] > 3e-2 * math.exp(1.5)]
        assert all(row["diverged"] and row["value"] is None for row in lost)

    def test_its_pictures_are_drawn(self, score: Workspace) -> None:
        score.invoke("report", "-o", "report.html")
        assert "Score by learning rate" in (score.path / "report.html").read_text()

    def test_any_value_is_added(self, score: Workspace) -> None:
        done = score.invoke("add", "--rate", "2e-3", "--value", -70.5)
        assert "score -70.5" in done.out
        assert score.study().trials[-1].value == 70.5
        assert "--value must be a score, finite" in refusal(
            score.invoke("add", "--rate", "2e-3", "--value", "nan", code=2)
        )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--metric", "rouge"), ["trainer.metric (--metric)", "rouge", "validation_loss"]),
        (("--direction", "maximize"), ["direction of perplexity must be minimize"]),
        (("--direction", "up"), ["trainer.direction (--direction)", "up"]),
        (("--metric", ""), ["trainer.metric (--metric)"]),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_trained(
    tmp_path: Path, english: Path, flags: tuple[str, ...], says: list[str]
) -> None:
    workspace = Workspace(tmp_path / "refused", english)
    line = refusal(workspace.invoke("run", *flags, code=2))
    assert all(each in line for each in says)
    assert not (workspace.path / "sweep.db").exists()


def test_a_report_without_the_metric_says_which_it_has(tmp_path: Path, english: Path) -> None:
    workspace = Workspace(tmp_path / "missing", english)
    workspace.write("scored.py", SCORED)
    flags = ("--metric", "rouge", "--trainer", "scored:train", "--trials", 3)
    line = refusal(workspace.sweep("run", *flags, code=2))
    assert "no metric rouge" in line
    assert "perplexity, validation_loss, score" in line
