import io
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from studies.errors import StudyError
from sweep.config.load import load
from sweep.errors import SweepError
from sweep.orchestration.plan import (
    Plan,
    earlier_names,
    identity,
    identity_fields,
    make_plan,
    renamed,
    study_directory,
    study_name,
)
from sweep.orchestration.prepare import warn_of_loss
from sweep.orchestration.ranges import range_of
from sweep.view.live.plain import PlainView
from trainers.data import build_corpus
from trainers.errors import TrainerError

PARAMETERS = 2739432
Make = Callable[..., Plan]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A plan from a sweep.toml and --set, for a model of a known size that is not built."""
    monkeypatch.chdir(tmp_path)

    def made(*sets: str, text: str = "", profile: str = "cuda") -> Plan:
        (tmp_path / "sweep.toml").write_text(text)
        config = load(None, profile=profile, cuda=False, assignments=sets)
        return make_plan(config, parameters=PARAMETERS)

    return made


class TestTheRates:
    def test_for_the_known_case_the_rules_say_what_they_said(self, plan: Make) -> None:
        """Batch 32 in FP32 at 1e-4, carried to batch 2048 (README)."""
        assert plan().rates == pytest.approx(
            {
                "unscaled": 1e-4,
                "linear": 6.4e-3,
                "sqrt": 8e-4,
                "model_size": 1e-4,
                "sqrt_model_size": 8e-4,
            }
        )

    def test_equal_rates_are_one_trial_that_names_all_its_rules(self, plan: Make) -> None:
        first = plan().first
        assert [centre.learning_rate for centre in first] == pytest.approx([8e-4, 1e-4, 6.4e-3])
        assert [centre.rules for centre in first] == [
            ("sqrt", "sqrt_model_size"),
            ("unscaled", "model_size"),
            ("linear",),
        ]

    def test_a_rule_of_the_users_own_joins_them(self, plan: Make) -> None:
        text = "[[rules]]\nname = 'third'\nbatch_exponent = 0.333\nparameter_exponent = 0\n"
        made = plan(text=text)
        assert made.rates["third"] == pytest.approx(1e-4 * 64**0.333)
        assert any("third" in centre.rules for centre in made.first)

    def test_a_rules_name_is_taken_once(self, plan: Make) -> None:
        text = "[[rules]]\nname = 'sqrt'\nbatch_exponent = 0.5\nparameter_exponent = 0\n"
        with pytest.raises(SweepError, match="'sqrt' is taken twice"):
            plan(text=text)


class TestTheRange:
    def test_around_a_swept_reference_it_is_narrow(self, plan: Make) -> None:
        made = plan("reference.swept=true")
        assert (made.low, made.high) == pytest.approx((1e-4 / 3, 6.4e-3 * 3), rel=0.01)

    def test_around_a_guess_it_is_wide(self, plan: Make) -> None:
        made = plan("reference.swept=false")
        assert (made.low, made.high) == pytest.approx((1e-5, 6.4e-2), rel=0.01)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ("model=gpt", "model context_vector, not gpt"),
            ("data.name=docstrings", "data Salesforce/wikitext, not docstrings"),
            ("trainer.epochs=7", "epochs 50, not 7"),
        ],
    )
    def test_a_borrowed_reference_is_a_guess_and_says_why(
        self, plan: Make, change: str, says: str
    ) -> None:
        made = plan("reference.swept=true", change)
        assert made.borrowed == f"borrowed: it was measured with {says}"
        assert made.low == pytest.approx(1e-5)
        assert plan("reference.swept=true").borrowed == ""

    def test_a_given_range_is_taken_and_the_rules_rates_are_clipped_to_it(self, plan: Make) -> None:
        made = plan("study.range=[2e-4, 1e-3]")
        assert (made.low, made.high) == (2e-4, 1e-3)
        assert [centre.learning_rate for centre in made.first] == pytest.approx([8e-4, 2e-4])
        assert made.first[0].rules == ("sqrt", "sqrt_model_size", "linear")
        assert made.rates["linear"] == pytest.approx(6.4e-3)  # the rule's own is told as it is

    @pytest.mark.parametrize("given", ["[1e-3]", "[1e-3, 1e-4]", "[1e-3, 1e-3]", "[1e-9, 1.0]"])
    def test_a_range_that_cannot_be_searched_is_refused(self, plan: Make, given: str) -> None:
        with pytest.raises((SweepError, StudyError), match="range"):
            plan(f"study.range={given}")


class TestTheStudy:
    def test_its_name_says_model_batch_precision_and_data(self, plan: Make) -> None:
        assert re.fullmatch("context_vector-b2048-fp16-wikitext-[0-9a-f]{8}", study_name(plan()))
        own = plan("model=my.models:tiny net", "data.name=some set", "trainer.batch_size=8")
        assert re.fullmatch("tiny_net-b8-fp16-some_set-[0-9a-f]{8}", study_name(own))
        assert study_name(plan("study.name=mine")) == "mine"

    def test_what_makes_trials_comparable_changes_the_name(self, plan: Make) -> None:
        sets = (
            "trainer.weight_decay=0.1",
            "trainer.seed=1",
            "trainer.epochs=3",
            "data.window=48",
            "models.context_vector.hidden=8",
            "study.trainer=trainers.train:Step",
        )
        names = {study_name(plan(*change)) for change in [(), *((one,) for one in sets)]}
        assert len(names) == 7

    def test_a_field_that_came_later_changes_it_only_where_it_is_set(self, plan: Make) -> None:
        """The name is that of the first version without the field, so its study is found."""
        assert study_name(plan()) == "context_vector-b2048-fp16-wikitext-3c2fe9fa"
        share = "trainer.lr_schedule.warmup_share"
        assert identity_fields(plan(f"{share}=0.0")) == identity_fields(plan())
        assert identity_fields(plan(f"{share}=0.1"))["lr_schedule.warmup_share"] == 0.1
        assert study_name(plan(f"{share}=0.1")) != study_name(plan())

    def test_what_does_not_leaves_it(self, plan: Make) -> None:
        sets = ("study.trials=99", "study.pruner=none", "study.range=[1e-4,1e-2]", "device=cpu")
        assert {study_name(plan(*change)) for change in [(), *((one,) for one in sets)]} == {
            study_name(plan())
        }

    def test_its_identity_has_every_setting_but_the_rate_and_what_was_read(
        self, plan: Make, english: Path
    ) -> None:
        made = plan(f"data.name={english}", "data.vocabulary_size=300")
        corpus = build_corpus(made.train.data)
        fields = identity(made, corpus).fields
        assert "learning_rate" not in fields
        assert fields["data_fingerprint"] == corpus.fingerprint
        assert fields["data_source"] == str(english)
        assert fields["model.options.hidden"] == 512
        assert fields["clip_schedule"] == "[[0, 0.5], [10, 1.0], [30, 2.0]]"
        assert fields["trainer"] == "trainers.train:train"

    def test_another_text_under_the_same_path_is_another_study(
        self, plan: Make, tmp_path: Path
    ) -> None:
        text = tmp_path / "mine.txt"
        text.write_text("once upon a time there was a text")
        one = plan(f"data.name={text}")
        name, fields = study_name(one), identity_fields(one)
        text.write_text("once upon a time there was another text")
        assert study_name(one) != name
        assert identity_fields(one) != fields

    def test_another_spelling_of_a_path_is_the_same_study(
        self, plan: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "text").mkdir()
        (tmp_path / "text" / "a.txt").write_text("once upon a time there was a text")
        (tmp_path / "link").symlink_to("text")
        spellings = ("text", "text/", "./text", str(tmp_path / "text"), "link")
        made = [plan(f"data.name={each}") for each in spellings]
        assert len({study_name(each) for each in made}) == 1
        assert all(identity_fields(each) == identity_fields(made[0]) for each in made)
        first, second = zip(*map(earlier_names, made), strict=True)  # as stored studies are called
        assert len(set(first)) == 5
        assert len(set(second)) == 1

    def test_a_renamed_text_is_the_same_study(
        self, plan: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "text").mkdir()
        (tmp_path / "text" / "a.txt").write_text("once upon a time there was a text")
        before = plan("data.name=text")
        name, fields = study_name(before), identity_fields(before)
        (tmp_path / "text").rename(tmp_path / "novel")
        after = plan("data.name=./novel")
        assert identity_fields(after) == fields
        assert study_name(after) == name.replace("-text-", "-novel-")
        there = [name, f"{name}-fixed", study_name(plan("data.name=novel", "trainer.epochs=3"))]
        assert renamed(after, there, "") == [name]
        assert renamed(after, there, "-fixed") == [f"{name}-fixed"]
        (tmp_path / "novel" / "a.txt").rename(tmp_path / "novel" / "b.txt")
        assert identity_fields(plan("data.name=novel")) != fields

    def test_a_made_name_fits_a_folder(self, plan: Make, tmp_path: Path) -> None:
        text = tmp_path / f"{'é' * 120}.txt"
        text.write_text("once upon a time there was a text")
        made = plan(f"data.name={text}")
        assert study_directory(made, study_name(made) + "-fixed").parent == tmp_path / "runs"

    def test_its_folder_lies_beside_its_database(self, plan: Make, tmp_path: Path) -> None:
        made = plan("study.storage=sqlite:///deep/er/x.db", "study.directory=kept")
        assert study_directory(made, "mine") == tmp_path / "deep" / "er" / "kept" / "mine"
        remote = plan("study.storage=postgresql://host/x")
        assert study_directory(remote, "mine") == tmp_path / "runs" / "mine"

    @pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "/etc", "x" * 300, "a\nb"])
    def test_a_name_that_is_no_folders_is_refused(self, plan: Make, name: str) -> None:
        with pytest.raises(SweepError, match="cannot be a folder's name"):
            study_directory(plan(), name)


@pytest.mark.parametrize(
    ("change", "warned"),
    [
        (("reference.perplexity=3.45",), True),
        (("reference.perplexity=31.5",), False),
        (("reference.perplexity=3.45", "reference.epochs=1"), False),  # borrowed: not compared
        (("reference.perplexity=3.45", "study.trainer=trainers.train:Step"), False),
    ],
)
def test_a_reference_s_loss_is_warned_of(plan: Make, change: tuple[str, ...], warned: bool) -> None:
    said = io.StringIO()
    corpus = SimpleNamespace(unigram_perplexity=135.7)
    warn_of_loss(plan(*change), corpus, PlainView(said))  # type: ignore[arg-type]
    assert (said.getvalue() == "") is not warned
    assert not warned or "Warning: reference.perplexity 3.45 looks like a loss" in said.getvalue()


class TestTheTokens:
    def test_settings_of_before_leave_no_trace(self, plan: Make) -> None:
        made = plan("data.tokenizer=words", "data.pack=false", "data.attend=document")
        assert study_name(made) == study_name(plan())
        assert not {"data.tokenizer", "data.pack", "data.attend"} & identity_fields(made).keys()
        assert identity_fields(plan("data.tokenizer=bytes"))["data.tokenizer"] == "bytes"

    def test_a_tokenizer_is_known_by_its_content(self, plan: Make, tmp_path: Path) -> None:
        for name, content in (("a.json", "{}"), ("b.json", "{}"), ("c.json", "[]")):
            (tmp_path / name).write_text(content)
        first, second, third = (
            identity_fields(plan(f"data.tokenizer={tmp_path / name}.json")) for name in "abc"
        )
        assert first == second
        assert first["data.tokenizer"] != third["data.tokenizer"]
        assert first.keys() == third.keys()

    def test_perplexities_of_other_tokens_are_not_compared(self, plan: Make) -> None:
        assert plan().borrowed == ""
        assert plan("data.tokenizer=bytes").borrowed.endswith("tokenizer words, not bytes")
        told = plan("data.tokenizer=bytes", text="[profiles.cuda.reference]\ntokenizer='bytes'\n")
        assert told.borrowed == ""

    def test_a_recurrence_that_is_to_be_packed_is_refused(self, plan: Make) -> None:
        with pytest.raises(TrainerError, match="context_vector would carry its context"):
            plan("data.pack=true")


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ([1e-3, 0.0], "from 1e-07 to 10, got 0"),
        ([float("nan")], "got nan"),
        ([1e-3, 2e-3, 1e-3], "0.001 is named twice"),
    ],
)
def test_impossible_rates_are_refused(rates: list[float], words: str) -> None:
    with pytest.raises(SweepError, match=words):
        range_of(rates)


def test_given_rates_are_all_that_is_trained(plan: Make) -> None:
    made = plan("study.rates=[3e-3,1e-3]", "study.pruner=percentile", "study.until=2%")
    assert [centre.learning_rate for centre in made.first] == [3e-3, 1e-3]
    assert (made.low, made.high) == (5e-4, 6e-3)
    study = made.config.study
    assert (study.trials, study.pruner, study.until, study.transfer) == (2, "none", "", False)
    assert study_name(made) == study_name(plan())
