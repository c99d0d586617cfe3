"""`sweep run` from its command line to its database: real text, real workers, real trials."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial
from support import PARAMETERS, Workspace, refusal

SQRT, UNSCALED, LINEAR = 3e-2 * math.sqrt(2), 3e-2, 6e-2

# Trials that end in every way there is; no model, so that an end costs nothing.
ZOO = """\
    import math, os, signal
    from trainers.report import Ending, Report, Outcome, Progress

    CURVES = {
        0: (50, 40, 30), 1: (51, 41, 31), 2: (52, 42, 32), 3: (190, 189, 188), 4: (45,),
        7: (45,), 9: (math.nan,), 11: (49, 39, 29),
    }

    def train(config, *, device, directory):
        number = int(directory.name)
        yield Progress(1)
        for epoch, perplexity in enumerate(CURVES.get(number, (53, 43, 33)), 1):
            if number in (5, 6, 8, 10):
                break
            verdict = yield Report(epoch=epoch, validation_loss=math.log(perplexity))
            if verdict == "prune":
                return Ending(Outcome.PRUNED)
        if number == 1:
            return Ending(Outcome.EARLY_STOPPED)
        if number == 4:
            return Ending(Outcome.DIVERGED, "diverged in epoch 2: the loss is not finite")
        if number == 5:
            with open("attempts", "a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 6:
            raise MemoryError("no room for 8 GiB")
        if number == 7:
            raise ValueError("the first line\\nthe second line")
        if number == 10:
            return Ending(Outcome.OVERFLOW)
        return Ending(Outcome.COMPLETED)
"""


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("dry"), english)
    workspace.said = workspace.invoke("run", "--dry-run", "--trials", 4)
    return workspace


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("zoo"), english)
    workspace.write("zoo.py", ZOO)
    workspace.said = workspace.sweep(
        "run", "--trainer", "zoo:train", "--trials", 12, "--json",
        "--set", "study.floor=0.6", "--set", "study.retries=1",
        "--set", "study.pruner=patient-median", "--set", "study.range=[0.003, 0.06]",
    )  # fmt: skip
    return workspace


def trials(workspace: Workspace) -> list[FrozenTrial]:
    return workspace.study().get_trials(deepcopy=False)


def rates(workspace: Workspace) -> list[float]:
    return [trial.params["learning_rate"] for trial in trials(workspace)]


class TestAWholeSweep:
    def test_the_rules_own_rates_are_tried_first_the_square_root_before_the_others(
        self, finished: Workspace
    ) -> None:
        assert rates(finished)[:3] == pytest.approx([SQRT, UNSCALED, LINEAR])

    def test_the_sampler_then_goes_on_around_them(self, finished: Workspace) -> None:
        low, high = finished.study().user_attrs["range"]
        drawn = rates(finished)[3:]
        assert len(drawn) == 2
        assert all(low <= rate <= high for rate in drawn)
        assert len({round(math.log(rate), 3) for rate in rates(finished)}) == 5

    def test_every_epochs_perplexity_is_an_intermediate_value(self, finished: Workspace) -> None:
        rows = finished.sql(
            "select t.number, v.step, v.intermediate_value from trial_intermediate_values v "
            "join trials t using (trial_id) order by t.number, v.step"
        )
        steps = finished.study().user_attrs["steps_per_epoch"]
        expected = [(n, epoch * steps) for n in range(5) for epoch in (1, 2, 3)]
        assert [row[:2] for row in rows] == expected
        assert all(1 < perplexity < 300 for _, _, perplexity in rows)

    def test_a_trials_value_is_its_lowest_perplexity(self, finished: Workspace) -> None:
        for trial in trials(finished):
            assert trial.state.name == "COMPLETE"
            assert trial.value == min(trial.intermediate_values.values())

    def test_it_learns_more_than_the_frequency_of_words(self, finished: Workspace) -> None:
        study = finished.study()
        assert study.best_value < study.user_attrs["unigram_perplexity"]

    def test_each_trial_records_its_rule_and_how_it_ended(self, finished: Workspace) -> None:
        for trial, rule in zip(trials(finished), ["sqrt", "unscaled", "linear"], strict=False):
            about, rate = trial.user_attrs, trial.params["learning_rate"]
            assert about["nearest_rule"] == rule
            assert about["multiple"] == pytest.approx(1)
            assert about["multiples"]["unscaled"] == pytest.approx(rate / UNSCALED)
            assert set(about["multiples"]) == {
                "unscaled", "linear", "sqrt", "model_size", "sqrt_model_size",
            }  # fmt: skip
            assert about["outcome"] == "completed"
            assert about["reason"] == "trained to its end"
            assert 0 < about["accuracy"] < 1

    def test_the_study_records_what_it_is(self, finished: Workspace, english: Path) -> None:
        about = finished.study().user_attrs
        assert about["identity"]["batch_size"] == 64
        assert about["identity"]["precision"] == "fp32"
        assert about["identity"]["model.name"] == "context_vector"
        assert about["identity"]["data_source"] == str(english)
        assert re.fullmatch("[0-9a-f]{64}", about["identity"]["data_fingerprint"])
        assert "learning_rate" not in about["identity"]
        assert about["parameters"] == PARAMETERS
        assert about["reference_perplexity"] == 60.0
        assert [rule["name"] for rule in about["rules"]] == [
            "unscaled", "linear", "sqrt", "model_size", "sqrt_model_size",
        ]  # fmt: skip
        assert about["trials"] == 5
        assert about["device"] == "cpu"

    def test_the_study_is_named_after_what_it_is(self, finished: Workspace) -> None:
        assert re.fullmatch(
            r"context_vector-b64-fp32-english-[0-9a-f]{8}", finished.study().study_name
        )

    def test_without_a_terminal_it_writes_plain_lines(self, finished: Workspace) -> None:
        said = finished.said
        assert said.err == ""
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", said.out)
        first, *_ = said.out.splitlines()
        assert first == "profile cpu on cpu: no CUDA device was found"
        assert len(re.findall(r"trial \d  lr \S+  step \d+/\d+  perplexity ", said.out)) == 15

    def test_the_end_says_the_best_rate_the_baselines_and_the_way_on(
        self, finished: Workspace
    ) -> None:
        best = finished.study().best_trial
        _, _, end = finished.said.out.partition("Best learning rate ")
        assert end.startswith(f"{best.params['learning_rate']:.2e}".replace("e-0", "e-"))
        assert f"perplexity {best.value:.2f} (trial {best.number}" in end
        assert "below the unigram baseline" in end
        assert "the reference's perplexity 60.00" in end
        assert "How each rule's own rate did:" in end
        assert "sweep export -o best.yaml" in end

    def test_the_database_is_in_wal_mode(self, finished: Workspace) -> None:
        assert finished.sql("pragma journal_mode") == [("wal",)]

    def test_the_same_command_again_trains_nothing_and_reports_again(
        self, finished: Workspace
    ) -> None:
        before = finished.curves()
        again = finished.invoke("run", "--trials", 5)
        assert finished.curves() == before
        assert f"step {finished.study().user_attrs['steps_per_epoch']}/" not in again.out
        assert "Best learning rate" in again.out

    def test_a_smaller_total_than_there_are_trials_trains_nothing(
        self, finished: Workspace
    ) -> None:
        finished.invoke("run", "--trials", 2)
        assert len(finished.states()) == 5
        finished.invoke("run", "--trials", 5)  # the total as it was

    def test_json_lines_are_strict_and_say_the_same(self, finished: Workspace) -> None:
        done = finished.invoke("run", "--trials", 5, "--json")
        assert [event["event"] for event in done.events][-2:] == ["study_started", "study_finished"]
        study = done.events[-1]["study"]
        assert study["best"]["value"] == finished.study().best_value
        assert [row["number"] for row in study["trials"]] == [0, 1, 2, 3, 4]

    def test_status_list_and_show_read_it(self, finished: Workspace) -> None:
        name = finished.study().study_name
        status = json.loads(finished.invoke("status", "--json").out)
        assert status["name"] == name
        assert status["best"]["number"] == finished.study().best_trial.number
        (listed,) = finished.invoke("list", "--json").events
        assert listed["name"] == name
        shown = json.loads(finished.invoke("show", 2, "--json").out)
        curve = {int(epoch): value for epoch, value in shown["values"].items()}
        assert curve == finished.curves()[2]
        assert shown["multiples"]["linear"] == pytest.approx(1)

    def test_another_setting_under_the_same_name_is_refused_naming_it(
        self, finished: Workspace
    ) -> None:
        name = finished.study().study_name
        refused = finished.invoke("run", "--study", name, "--batch", 32, code=2)
        assert "batch_size: 64 there, 32 here" in refusal(refused)


class TestDryRun:
    def test_it_says_what_would_be_tried_and_what_it_would_take(self, dry: Workspace) -> None:
        said = dry.said.out
        first = "0.0424 (sqrt, sqrt_model_size), 0.03 (unscaled, model_size), 0.06 (linear)"
        assert f"rates tried first: {first}" in said
        assert f"{PARAMETERS:,} parameters" in said
        steps = int(re.search(r"steps: (\d+) an epoch", said)[1])
        sequences = int(re.search(r"([\d,]+) training sequences", said)[1].replace(",", ""))
        assert steps == math.ceil(sequences / 64)
        assert f"{steps * 3} a trial, {steps * 12} at the most" in said
        assert re.search(r"measured: \d+ ms a step", said)
        assert "without pruning" in said

    def test_it_trains_and_stores_nothing(self, dry: Workspace) -> None:
        assert [path.name for path in dry.path.iterdir()] == ["sweep.toml"]


class TestEveryWayToEnd:
    """One sweep of `ZOO`: a trial for each way."""

    def about(self, zoo: Workspace, number: int) -> tuple[str, float | None, str]:
        trial = trials(zoo)[number]
        return trial.state.name, trial.value, trial.user_attrs["reason"]

    def test_sound_trials_are_complete_whatever_became_of_the_others(self, zoo: Workspace) -> None:
        values = [trials(zoo)[number].value for number in (0, 1, 2, 11)]
        assert values == pytest.approx([30, 31, 32, 29])
        assert self.about(zoo, 1)[2] == "validation stopped improving"

    def test_a_hopeless_trial_is_pruned_and_the_reason_is_shown(self, zoo: Workspace) -> None:
        state, value, reason = self.about(zoo, 3)
        assert (state, value) == ("PRUNED", pytest.approx(189))
        assert reason.startswith(
            "pruned: perplexity 189.0 after step 2 is above 41.00, the median of "
        )
        status = " ".join(zoo.invoke("status").out.split())
        assert "the median of" in status

    def test_a_diverged_trial_is_pruned_with_infinity_and_its_reason(self, zoo: Workspace) -> None:
        state, value, reason = self.about(zoo, 4)
        assert (state, value) == ("PRUNED", math.inf)
        assert reason == "diverged in epoch 2: the loss is not finite"
        assert zoo.curves()[4] == {1: pytest.approx(45), 2: math.inf}

    def test_an_overflow_before_any_report_is_pruned_with_infinity_too(
        self, zoo: Workspace
    ) -> None:
        state, value, reason = self.about(zoo, 10)
        assert (state, value) == ("PRUNED", math.inf)
        assert reason.startswith("overflowed")

    def test_a_perplexity_that_is_no_number_counts_as_infinite(self, zoo: Workspace) -> None:
        state, value, reason = self.about(zoo, 9)
        assert (state, value) == ("PRUNED", math.inf)
        assert reason == "pruned: perplexity is not finite after step 1"

    def test_a_killed_worker_is_tried_again_and_then_the_trial_fails(self, zoo: Workspace) -> None:
        state, value, reason = self.about(zoo, 5)
        assert (state, value) == ("FAIL", None)
        assert reason == "lost: its worker process died (killed by SIGKILL)"
        assert (zoo.path / "attempts").read_text() == "xx"
        assert sum("trial 5: lost" in str(event) for event in zoo.said.events) == 1

    def test_out_of_memory_an_error_and_nothing_at_all_fail_with_one_line(
        self, zoo: Workspace
    ) -> None:
        assert self.about(zoo, 6) == ("FAIL", None, "ran out of memory: no room for 8 GiB")
        fewer = "trial 6: ran out of memory: no room for 8 GiB; a fresh worker goes on with 16 rows"
        assert sum(fewer in str(event) for event in zoo.said.events) == 1
        assert self.about(zoo, 7) == ("FAIL", None, "failed: ValueError: the first line")
        assert self.about(zoo, 8) == (
            "FAIL", None, "failed: the trainer ended without a report",
        )  # fmt: skip

    def test_no_bad_end_is_ever_the_best(self, zoo: Workspace) -> None:
        finished = zoo.said.events[-1]
        assert finished["event"] == "study_finished"
        assert finished["study"]["best"]["number"] == 11
        assert "sweep show 11" in finished["commands"]

    def test_json_says_of_a_diverged_trial_that_it_is(self, zoo: Workspace) -> None:
        rows = {row["number"]: row for row in zoo.said.events[-1]["study"]["trials"]}
        assert {number for number, row in rows.items() if row["diverged"]} == {4, 9, 10}
        assert rows[4]["value"] is None


class TestTheEdgeOfTheRange:
    """The best rate, by hand, leans on the upper edge of what `zoo` searched."""

    @pytest.fixture
    def leaning(self, zoo: Workspace, tmp_path: Path) -> Workspace:
        workspace = zoo.copy_to(tmp_path / "leaning")
        _, high = workspace.study().user_attrs["range"]
        workspace.invoke("add", "--rate", high / 1.1, "--perplexity", 5)
        return workspace

    def test_a_range_that_was_worked_out_is_widened(self, leaning: Workspace) -> None:
        _, high = leaning.study().user_attrs["range"]
        leaning.invoke("run", "--trainer", "zoo:train", "--trials", 13)
        assert leaning.study().user_attrs["range"][1] == pytest.approx(10 * high)

    def test_a_range_that_was_given_is_kept_and_the_edge_is_said(self, leaning: Workspace) -> None:
        low, high = leaning.study().user_attrs["range"]
        again = ("--trainer", "zoo:train", "--trials", 13, "--range", low, high)
        done = leaning.invoke("run", *again)
        assert leaning.study().user_attrs["range"] == [low, high]
        assert leaning.states()[13] == "COMPLETE"
        assert max(rates(leaning)) <= high
        assert "The best rate leans on the upper edge of the searched range" in done.out


class TestTheTrainerThatNeverWorks:
    def test_the_sweep_gives_up_after_two_trials_in_one_line(self, workspace: Workspace) -> None:
        workspace.write("broken.py", "def train(config, *, device, directory):\n    yield 7\n")
        refused = workspace.invoke("run", "--trainer", "broken:train", code=2)
        assert "a trainer yields Progress and Report, not 7" in refusal(refused)
        assert workspace.states()[:2] == ["FAIL", "FAIL"]


class TestADivergingRate:
    def test_the_shared_trainer_says_so_and_nothing_crashes(self, workspace: Workspace) -> None:
        # Where rate x decay is over 2, each step of AdamW overshoots zero and grows the weights.
        decay = ("--set", "trainer.optimizer=adamw", "--set", "trainer.weight_decay=9")
        done = workspace.invoke("run", "--trials", 2, "--range", 5, 10, *decay)
        assert workspace.states()[:2] == ["PRUNED", "PRUNED"]
        for trial in trials(workspace)[:2]:
            assert trial.user_attrs["outcome"] == "diverged"
            assert trial.user_attrs["reason"].startswith("diverged by step ")
            assert list(trial.intermediate_values.values())[-1] == math.inf
        assert "No trial completed, so there is no best rate" in done.out
        assert "2 diverged, the lowest at 5.00e0" in done.out


class TestCalibrate:
    def test_its_best_trial_is_the_reference_of_what_is_run_next(
        self, workspace: Workspace
    ) -> None:
        # With dropout three epochs learn little more than to count words.
        still = ("--set", "models.context_vector.dropout=0.0")
        done = workspace.invoke("calibrate", "--trials", 2, *still)
        best = workspace.study().best_trial
        assert workspace.study().user_attrs["identity"]["batch_size"] == 32
        assert "sweep.toml: [profiles.cpu.reference] is now learning rate" in done.out
        known = workspace.invoke("priors", "--json", *still).out
        reference = json.loads(known)["reference"]
        assert reference["learning_rate"] == pytest.approx(best.params["learning_rate"], rel=5e-3)
        assert reference["perplexity"] == pytest.approx(best.value, abs=5e-3)
        assert (reference["batch_size"], reference["swept"]) == (32, True)
        assert reference["borrowed"] == ""


class TestTheCommandLineItself:
    @pytest.mark.parametrize(
        ("code", "unwanted"),
        [
            ("from sweep.cli import main; main(['--help'])", {"torch", "optuna", "pandas"}),
            ("from studies import make_sampler", {"torch", "trainers", "sweep"}),
        ],
        ids=["sweep --help", "a name of studies"],
    )
    def test_it_loads_no_more_than_it_needs(self, code: str, unwanted: set[str]) -> None:
        tell = f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"
        done = subprocess.run(
            [sys.executable, "-c", tell], capture_output=True, text=True, check=True
        )
        assert not unwanted & set(done.stderr.split())
        assert "click" in done.stderr or "optuna" in done.stderr
