"""The ledger on a real SQLite file, reopened as after a crash. No trainer: reports are given."""

import dataclasses
import json
import math
import os
import time
from itertools import pairwise
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial
from support import ENDED, open_ledger, report, sql, storage_of

from studies.definition import PARAMETER, WIDE, Identity
from studies.prior import Prior
from studies.pruner import LearningRatePruner
from studies.trials import PAUSED, is_paused
from sweep.errors import SweepError
from sweep.execution.protocol import TrialSpec
from sweep.orchestration.ledger import Ledger
from sweep.orchestration.strategy import TrialCounts
from sweep.results.belief import recommended, terms_of
from sweep.results.record import read_study
from sweep.results.summary import summarise
from sweep.storage.connect import open_storage
from trainers.config import TrainConfig
from trainers.report import Outcome, Verdict

FIRST = [1e-2, 1e-3, 1e-1]
TRAIN = TrainConfig(learning_rate=1.0)
ASKED = optuna.trial.create_trial(value=1.0)
ASKED.number = len(FIRST)


def asked(ledger: Ledger) -> TrialSpec:
    spec = ledger.ask()
    assert spec is not None
    return spec


def finish(ledger: Ledger, *perplexities: float, outcome: Outcome = Outcome.COMPLETED) -> int:
    """Asks for a trial and runs it to its end."""
    number = asked(ledger).number
    for epoch, perplexity in enumerate(perplexities, 1):
        ledger.report({number: report(epoch, perplexity)})
    ledger.tell(number, outcome, outcome.sentence)
    return number


def stored(folder: Path) -> list[FrozenTrial]:
    """Read by a second connection."""
    study = optuna.load_study(
        study_name="study", storage=open_storage(storage_of(folder), create=False)
    )
    return study.get_trials(deepcopy=False)


def killed(ledger: Ledger) -> None:
    """The process dies, and its lease has run out: nothing more of it is stored."""
    ledger._lease.release()


def set_attribute(ledger: Ledger, number: int, key: str, value: str) -> None:
    """Writes an attribute of a trial, which may have ended, beside Optuna."""
    identifier, text = ledger._trials.stored(number)._trial_id, json.dumps(value)
    engine = ledger._storage.engine
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"delete from trial_user_attributes where trial_id = {identifier} and key = '{key}'"
        )
        connection.exec_driver_sql(
            "insert into trial_user_attributes (trial_id, key, value_json) "
            f"values ({identifier}, '{key}', '{text}')"
        )


class TestAsking:
    def test_the_rules_rates_come_first_in_their_order_then_the_samplers(
        self, tmp_path: Path
    ) -> None:
        with open_ledger(tmp_path) as ledger:
            rates = [asked(ledger).config.learning_rate for _ in range(5)]
            assert ledger.ask() is None
        assert rates[:3] == FIRST
        assert all(1e-4 <= rate <= 1 for rate in rates[3:])

    def test_a_trial_is_the_studys_configuration_at_its_own_rate(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path) as ledger:
            spec = asked(ledger)
        assert spec.config.epochs == 3
        assert spec.directory == tmp_path / "runs" / "study" / "0000"
        assert (spec.attempt, spec.trainer) == (1, "trainers.train:train")

    def test_every_trial_stores_the_same_wide_distribution(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path) as ledger:
            for _ in range(5):
                asked(ledger)
        assert {trial.distributions[PARAMETER] for trial in stored(tmp_path)} == {WIDE}

    def test_it_records_the_nearest_rule_and_the_multiple_of_each(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path) as ledger:
            asked(ledger)
        (trial, *_) = stored(tmp_path)
        assert trial.user_attrs["nearest_rule"] == "sqrt"
        assert trial.user_attrs["multiple"] == 1
        assert trial.user_attrs["multiples"] == pytest.approx(
            {"sqrt": 1, "unscaled": 10, "linear": 0.1}
        )

    def test_the_total_counts_earlier_runs(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path, trials=2) as ledger:
            finish(ledger, 50)
            finish(ledger, 51)
            assert ledger.ask() is None
        with open_ledger(tmp_path, trials=3) as ledger:
            assert asked(ledger).number == 2
            assert ledger.ask() is None

    def test_trials_added_by_hand_do_not_count_but_their_rates_are_known(
        self, tmp_path: Path
    ) -> None:
        with open_ledger(tmp_path, trials=2) as ledger:
            by_hand = optuna.trial.create_trial(
                params={PARAMETER: 1e-2},
                distributions={PARAMETER: WIDE},
                value=40.0,
                user_attrs={"by_hand": True},
            )
            ledger.study.add_trial(by_hand)
            rates = [asked(ledger).config.learning_rate for _ in range(2)]
            assert rates == FIRST[1:]
            assert ledger.ask() is None

    def test_a_failed_rules_rate_is_tried_once_more_and_not_a_third_time(
        self, tmp_path: Path
    ) -> None:
        with open_ledger(tmp_path, trials=9) as ledger:
            rates = []
            for _ in range(6):
                spec = asked(ledger)
                rates.append(spec.config.learning_rate)
                ledger.tell(spec.number, Outcome.OUT_OF_MEMORY, "ran out of memory")
        assert sorted(rates) == sorted(FIRST * 2)
        with open_ledger(tmp_path, trials=9) as ledger:
            assert asked(ledger).config.learning_rate not in FIRST

    @pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.KILLED])
    def test_what_failed_for_a_reason_outside_does_not_count_in_the_next_run_and_is_asked_again(
        self, tmp_path: Path, outcome: Outcome
    ) -> None:
        runs = []
        for _ in range(2):
            with open_ledger(tmp_path, trials=7) as ledger:
                rates = []
                while (spec := ledger.ask()) is not None:
                    rates.append(spec.config.learning_rate)
                    ledger.tell(spec.number, outcome, outcome.sentence)
                runs.append(rates)
        assert [len(rates) for rates in runs] == [7, 7]  # in one run they count: it ends
        assert set(runs[0]) == set(runs[1])
        with open_ledger(tmp_path, trials=7) as ledger:
            rates = []
            while (spec := ledger.ask()) is not None:
                rates.append(spec.config.learning_rate)
                ledger.report({spec.number: report(1, 50)})
                ledger.tell(spec.number, Outcome.COMPLETED, "trained to its end")
        assert len(rates) == len(set(rates)) == 7
        assert set(runs[0]) <= set(rates)
        with open_ledger(tmp_path, trials=7) as ledger:
            assert ledger.ask() is None

    @pytest.mark.parametrize("killed_first", [False, True])
    @pytest.mark.parametrize(
        "given",
        [
            "abc",
            0,
            -1e-3,
            math.nan,
            math.inf,
            100.0,
            None,
            [1e-3],
            "",
            pytest.param(10**400, id="huge"),
        ],
    )
    def test_an_enqueued_rate_that_is_none_is_a_failed_trial_in_words(
        self, tmp_path: Path, given: object, killed_first: bool
    ) -> None:
        with open_ledger(tmp_path, sampler="learning-rate") as ledger:
            finish(ledger, 50)
            number = len(ledger.study.trials)
            ledger.study.enqueue_trial({PARAMETER: given})
            waiting = ledger.row(number).learning_rate
            assert waiting == given or math.isnan(waiting)
            for _ in FIRST[1:]:
                finish(ledger, 51)
            if killed_first:
                ledger.study.ask()
                killed(ledger)
                ledger = open_ledger(tmp_path, sampler="learning-rate")
                assert ledger.unfinished() == []
            assert 1e-4 <= asked(ledger).config.learning_rate <= 1
            (row,) = [row for row in summarise(ledger.study, "").trials if row.number == number]
            assert row.state == "failed"
            assert row.reason.startswith("failed: learning_rate must be a number from 1e-07 to 10,")
            assert ledger.belief() is not None

    def test_an_enqueued_rate_may_be_a_number_in_quotes(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path) as ledger:
            ledger.study.enqueue_trial({PARAMETER: "0.02"})
            assert asked(ledger).config.learning_rate == 0.02

    def test_no_rate_is_asked_for_twice_where_every_trial_fails(self, tmp_path: Path) -> None:
        rates = []
        with open_ledger(tmp_path, trials=12, sampler="learning-rate") as ledger:
            while (spec := ledger.ask()) is not None:
                rates.append(spec.config.learning_rate)
                ledger.report({spec.number: report(1, 50)})
                ledger.tell(spec.number, Outcome.FAILED, "failed: no room on the disk")
        assert len(rates) == 12
        assert len({round(rate, 9) for rate in rates if rate not in FIRST}) == 12 - 2 * len(FIRST)

    def test_reopened_it_draws_what_it_would_have_drawn(self, tmp_path: Path) -> None:
        drawn: list[list[float]] = []
        for name, reopen in (("one", False), ("two", True)):
            folder = tmp_path / name
            folder.mkdir()
            ledger = open_ledger(folder, sampler="tpe")
            rates = []
            for perplexity in (50, 40, 45, 44, 43):
                number = finish(ledger, perplexity)
                rates.append(stored(folder)[number].params[PARAMETER])
                if reopen:
                    killed(ledger)
                    ledger = open_ledger(folder, sampler="tpe")
            drawn.append(rates)
        assert drawn[0] == drawn[1]


class TestReporting:
    def test_an_epoch_is_on_disk_before_the_verdict(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path) as ledger:
            number = asked(ledger).number
            assert ledger.report({number: report(1, 50)}) == {number: Verdict.CONTINUE}
            query = "select step, intermediate_value from trial_intermediate_values"
            assert sql(tmp_path, query) == [(1, pytest.approx(50))]

    def test_a_repeated_epoch_is_not_written_again(self, tmp_path: Path) -> None:
        """Optuna would warn, and a warning fails this test."""
        with open_ledger(tmp_path) as ledger:
            number = asked(ledger).number
            for epoch in (1, 2, 1, 2, 3):
                ledger.report({number: report(epoch, 50 - epoch)})
        assert stored(tmp_path)[0].intermediate_values == pytest.approx({1: 49, 2: 48, 3: 47})

    def unrepeatable(
        self, ledger: Ledger, number: int, outcome: Outcome = Outcome.PRUNED
    ) -> FrozenTrial:
        """A trial that says another perplexity when its first epoch is repeated."""
        ledger.report({number: report(1, 50)})
        assert ledger.report({number: report(1, 50.6)}) == {number: Verdict.PRUNE}
        assert ledger.tell(number, outcome, outcome.sentence)
        return ledger._trials.stored(number)

    @pytest.mark.parametrize("outcome", [Outcome.PRUNED, Outcome.PAUSED, Outcome.LOST])
    def test_a_trial_that_cannot_be_repeated_begins_anew_in_a_fresh_folder_and_counts_once(
        self, tmp_path: Path, outcome: Outcome
    ) -> None:
        with open_ledger(tmp_path, trials=3) as ledger:
            before = [asked(ledger) for _ in range(3)]
            trial = self.unrepeatable(ledger, before[1].number, outcome)
            reason = trial.user_attrs["reason"]
            assert trial.state.name == "FAIL"
            assert reason.startswith("failed: step 1 cannot be repeated: perplexity 50.6 now, 50 ")
            assert reason.endswith("; it begins anew")
            anew = asked(ledger)
            assert anew.config == before[1].config
            assert anew.number == 3
            assert anew.directory not in [spec.directory for spec in before]
            assert ledger.ask() is None
        assert trial.intermediate_values == {1: pytest.approx(50, abs=1e-9)}

    def test_it_begins_anew_only_once_and_then_the_study_lives_without_it(
        self, tmp_path: Path
    ) -> None:
        with open_ledger(tmp_path, trials=3) as ledger:
            first = asked(ledger)
            self.unrepeatable(ledger, first.number)
            anew = next(spec for spec in iter(ledger.ask, None) if spec.config == first.config)
            trial = self.unrepeatable(ledger, anew.number)
            assert "anew" not in trial.user_attrs
            assert "it begins anew" not in trial.user_attrs["reason"]
            assert ledger.ask() is None

    def test_a_repeated_epoch_may_differ_by_a_rounding(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path) as ledger:
            number = asked(ledger).number
            ledger.report({number: report(1, 50)})
            said = ledger.report({number: report(1, 50.001)})  # in other company, or on CUDA
            assert said == {number: Verdict.CONTINUE}
            ledger.tell(number, Outcome.COMPLETED, "trained to its end")
        assert stored(tmp_path)[0].state.name == "COMPLETE"

    def test_no_number_counts_as_infinite_also_when_it_is_repeated(self, tmp_path: Path) -> None:
        broken = dataclasses.replace(report(1, 50), validation_loss=math.nan)
        with open_ledger(tmp_path, pruner="none") as ledger:
            number = asked(ledger).number
            ledger.report({number: broken})
            ledger.report({number: broken})
        assert stored(tmp_path)[0].intermediate_values == {1: math.inf}

    def test_how_long_a_run_is_may_be_said_by_its_reports(self, tmp_path: Path) -> None:
        place = {"epoch": 0, "step": 0, "steps": 0}
        start = dataclasses.replace(report(1, 90), **place)
        with open_ledger(tmp_path, trainer="mine:train") as ledger:
            number = asked(ledger).number
            for step, steps in ((0, 0), (40, 0), (80, 400), (120, 500)):
                said = dataclasses.replace(start, step=step, steps=steps)
                ledger.report({number: said})
                assert ledger.row(number).steps == steps
            assert ledger.row(number).step == 120

    def test_a_loss_below_zero_is_no_loss(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path) as ledger:
            number = asked(ledger).number
            with pytest.raises(
                SweepError,
                match=r"trial 0, step 1: the trainer's validation_loss must be .* 0, got -3.9",
            ):
                ledger.report({number: dataclasses.replace(report(1, 50), validation_loss=-3.9)})
        assert stored(tmp_path)[0].intermediate_values == {}

    def test_all_that_arrives_together_is_written_before_any_of_it_is_judged(
        self, tmp_path: Path
    ) -> None:
        """A cohort's verdicts must not depend on the order of its members."""
        seen: list[int] = []
        with open_ledger(tmp_path) as ledger:
            numbers = [asked(ledger).number for _ in range(3)]
            judge = ledger._judge

            def watched(number: int, said: object) -> Verdict:
                seen.append(sum(1 in trial.intermediate_values for trial in stored(tmp_path)))
                return judge(number, said)

            ledger._judge = watched  # type: ignore[method-assign]
            ledger.report({number: report(1, 50) for number in reversed(numbers)})
        assert seen == [3, 3, 3]


class TestJudging:
    def behind(self, ledger: Ledger) -> int:
        """A trial that is far behind a finished one, after its first epoch."""
        finish(ledger, 50, 40, 30)
        number = asked(ledger).number
        assert ledger.report({number: report(1, 90)}) == {number: Verdict.CONTINUE}
        return number

    def test_a_hopeless_trial_is_pruned_with_its_reason_in_words(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path) as ledger:
            number = self.behind(ledger)
            assert ledger.report({number: report(2, 89)}) == {number: Verdict.PRUNE}
            ledger.tell(number, Outcome.PRUNED, Outcome.PRUNED.sentence)
        trial = stored(tmp_path)[number]
        assert (trial.state.name, trial.value) == ("PRUNED", pytest.approx(89))
        assert trial.user_attrs["reason"].startswith("pruned: perplexity 89.00 after step 2")
        assert trial.user_attrs["outcome"] == "pruned"

    def test_only_the_last_stored_epoch_can_prune(self, tmp_path: Path) -> None:
        """A resumed trainer says its epochs again: those were judged already."""
        with open_ledger(tmp_path, train=dataclasses.replace(TRAIN, epochs=4), floor=0.5) as ledger:
            number = self.behind(ledger)
            ledger.report({number: report(2, 89)})
            killed(ledger)
        with open_ledger(tmp_path, train=dataclasses.replace(TRAIN, epochs=4), floor=0.5) as ledger:
            (spec,) = ledger.unfinished()
            assert spec.number == number
            assert ledger.report({number: report(1, 90)}) == {number: Verdict.CONTINUE}
            assert ledger.report({number: report(2, 89)}) == {number: Verdict.PRUNE}

    def test_a_trials_last_epoch_is_not_pruned_it_is_paid_for(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path, floor=0.9) as ledger:
            number = self.behind(ledger)
            assert ledger.report({number: report(2, 89)}) == {number: Verdict.CONTINUE}
            assert ledger.report({number: report(3, 88)}) == {number: Verdict.CONTINUE}

    def test_but_an_infinite_last_epoch_is(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path) as ledger:
            number = asked(ledger).number
            for epoch in (1, 2):
                ledger.report({number: report(epoch, 50)})
            assert ledger.report({number: report(3, math.inf)}) == {number: Verdict.PRUNE}


class TestTheLearningRateSearch:
    """The sampler, the pruner and the stop of our own, through the ledger."""

    @staticmethod
    def curve(rate: float) -> float:
        return 40 * math.exp(0.1 * math.log(rate / 2e-2) ** 2)

    def run(self, ledger: Ledger) -> list[float]:
        """Runs trials until there is none left; answers their rates."""
        rates = []
        while (spec := ledger.ask()) is not None:
            rates.append(spec.config.learning_rate)
            for epoch in (1, 2, 3):
                ledger.report({spec.number: report(epoch, self.curve(rates[-1]) * (4 - epoch))})
            ledger.tell(spec.number, Outcome.COMPLETED, Outcome.COMPLETED.sentence)
        return rates

    def test_the_sampler_is_told_the_rules_and_goes_on_from_their_rates(
        self, tmp_path: Path
    ) -> None:
        search = {"sampler": "learning-rate", "pruner": "none", "priors": {"sqrt": Prior(1e-2)}}
        with open_ledger(tmp_path, trials=6, **search) as ledger:
            rates = self.run(ledger)
        assert rates[:3] == FIRST
        assert min(map(self.curve, rates)) < 40 * 1.002

    def test_until_ends_the_study_and_says_what_is_left(self, tmp_path: Path) -> None:
        search = {"sampler": "learning-rate", "pruner": "none", "trials": 30}
        with open_ledger(tmp_path, until=0.01, **search) as ledger:
            some = len(self.run(ledger))
            said = summarise(ledger.study, "sweep.db").remaining
        assert len(FIRST) < some < 12
        assert said.startswith("0.")
        assert "% of perplexity is expected to be left to gain over rate 0.0" in said
        assert "under 1 %" in said
        with open_ledger(tmp_path, until=0.0001, **search) as ledger:
            assert self.run(ledger)
        with open_ledger(tmp_path, **search) as ledger:
            assert summarise(ledger.study, "sweep.db").remaining == ""

    @pytest.mark.parametrize(("high", "then"), [(1.1e-1, 1.1), (3e-1, 3e-1)])
    def test_the_range_widens_where_the_interval_reaches_out_of_it_and_its_end_was_tried(
        self, tmp_path: Path, high: float, then: float
    ) -> None:
        with open_ledger(tmp_path, sampler="learning-rate", high=high, trials=4) as ledger:
            for rate in FIRST:
                assert asked(ledger).config.learning_rate == rate
            for number, perplexity in enumerate((50, 60, 41)):  # falling up to the highest rate
                ledger.report({number: report(1, perplexity)})
                ledger.tell(number, Outcome.COMPLETED, Outcome.COMPLETED.sentence)
            asked(ledger)
            assert ledger.working_range == pytest.approx((1e-4, then))


class TestLooks:
    """Runs that are left after a look: who has them, and when they go on."""

    SEARCH = {  # noqa: RUF012
        "sampler": "learning-rate",
        "pruner": "learning-rate",
        "floor": 0,
        "train": dataclasses.replace(TRAIN, epochs=6),
        "priors": {"sqrt": Prior(1e-2), "unscaled": Prior(1e-3), "linear": Prior(1e-1)},
        "until": 0.01,
        "trials": 10,
    }

    def train(self, ledger: Ledger, spec: TrialSpec) -> Verdict:
        """As far as it is let: from 90, a model's without context, down to the best at 3e-3."""
        end = min(90, 40 * math.exp(0.1 * math.log(spec.config.learning_rate / 3e-3) ** 2))
        for epoch in range(1, 7):
            said = {spec.number: report(epoch, end * (90 / end) ** ((6 - epoch) / 6))}
            (verdict,) = ledger.report(said).values()
            if verdict is not Verdict.CONTINUE:
                break
        ledger.tell(spec.number, ENDED[verdict], "trained to its end")
        return verdict

    def stuck(self, ledger: Ledger) -> int:
        """A trial that has learned nothing where others have, which its worker is to leave."""
        for _ in FIRST:
            finish(ledger, 60, 50, 40)
        ledger.study.enqueue_trial({PARAMETER: 0.5})
        number = asked(ledger).number
        assert ledger.report({number: report(1, 95)}) == {number: Verdict.PAUSE}
        return number

    def resumable(self, folder: Path) -> tuple[Ledger, int]:
        """A ledger that is about to go on with a trial, and the trial's number."""
        ledger = open_ledger(folder, **self.SEARCH)
        while True:
            trials, within = ledger._trials.all(), ledger.working_range
            number = ledger._strategy.resumed(trials, within, full=False)
            if number is not None:
                ledger._resume_paused(number)
                break
            self.train(ledger, asked(ledger))
        killed(ledger)
        set_attribute(ledger, number, PAUSED, "a look up to step 1")  # as it was before
        return ledger, number

    def test_a_rate_that_is_asked_for_again_goes_on_the_others_were_pruned(
        self, tmp_path: Path
    ) -> None:
        order: list[int] = []
        specs: dict[int, TrialSpec] = {}
        with open_ledger(tmp_path, **self.SEARCH) as ledger:
            while (spec := ledger.ask()) is not None:
                before = ledger.row(spec.number)
                assert before.state == "running"
                assert specs.setdefault(spec.number, spec) == spec
                assert (before.step > 0) == (spec.number in order)
                order.append(spec.number)
                left = self.train(ledger, spec) is Verdict.PAUSE
                row = ledger.row(spec.number)
                assert row.state == ("paused" if left else "complete")
                assert row.reason.startswith("paused: " if left else "trained to its end")
                assert list(summarise(ledger.study, "").trials)[spec.number] == row
            left = [row for row in map(ledger.row, specs) if row.state == "paused"]
            assert len(left) >= 2
            ledger.finish({}, "")
        assert len(order) > len(set(order))
        for row in left:
            trial = stored(tmp_path)[row.number]
            assert trial.state.name == "PRUNED"
            assert trial.user_attrs["outcome"] == "pruned"
            assert trial.user_attrs["reason"] == f"pruned: {row.reason.removeprefix('paused: ')}"
            assert trial.user_attrs["accuracy"] == 0.1
        resumed = [trial for trial in stored(tmp_path) if order.count(trial.number) > 1]
        assert {trial.state.name for trial in resumed} == {"COMPLETE"}
        assert all(list(trial.intermediate_values) == [1, 2, 3, 4, 5, 6] for trial in resumed)

    def test_reopened_after_every_trial_it_asks_for_the_same(self, tmp_path: Path) -> None:
        orders = []
        for name, reopen in (("straight", False), ("reopened", True)):
            folder = tmp_path / name
            folder.mkdir()
            ledger, order = open_ledger(folder, **self.SEARCH), []
            while (spec := ledger.ask()) is not None:
                order.append((spec.number, spec.config.learning_rate))
                self.train(ledger, spec)
                if reopen:
                    killed(ledger)
                    ledger = open_ledger(folder, **self.SEARCH)
                    assert ledger.unfinished() == []
            ledger.__exit__()
            orders.append(order)
        assert orders[0] == orders[1]

    def test_as_long_as_its_worker_has_it_no_one_else_takes_it(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path, **self.SEARCH) as ledger:
            number = self.stuck(ledger)
            assert not is_paused(stored(tmp_path)[number])
            assert ledger._trials.under_way()[0].number == number
            ledger.tell(number, Outcome.PAUSED, Outcome.PAUSED.sentence)
            assert stored(tmp_path)[number].user_attrs[PAUSED].startswith("perplexity 95 after s")
            assert ledger._trials.under_way() == []

    def test_a_crash_before_its_worker_left_it_has_it_judged_again(self, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, **self.SEARCH)
        number = self.stuck(ledger)
        killed(ledger)
        with open_ledger(tmp_path, **self.SEARCH) as ledger:
            (spec,) = ledger.unfinished()
            assert spec.number == number
            assert ledger.report({number: report(1, 95)}) == {number: Verdict.PAUSE}

    def test_where_its_worker_died_first_it_goes_on_and_is_judged_again(
        self, tmp_path: Path
    ) -> None:
        with open_ledger(tmp_path, **self.SEARCH) as ledger:
            number = self.stuck(ledger)
            ledger.record_setback(
                ledger._spec(ledger._trials._held[number]), "lost: its worker process died"
            )
            assert ledger.row(number).state == "running"
            assert ledger.report({number: report(1, 95)}) == {number: Verdict.PAUSE}

    def test_stopped_by_the_user_it_is_left_all_the_same(self, tmp_path: Path) -> None:
        """Ctrl-C while it is judged: the worker pauses it, and the next run does not take it up."""
        with open_ledger(tmp_path, **self.SEARCH) as ledger:
            number = self.stuck(ledger)
            ledger.tell(number, Outcome.PAUSED, Outcome.PAUSED.sentence)
        with open_ledger(tmp_path, **self.SEARCH) as ledger:
            assert ledger.unfinished() == []
            assert asked(ledger).number == number + 1
            assert ledger.row(number).state == "paused"

    def test_another_orchestrator_goes_on_with_it_and_owns_it(self, tmp_path: Path) -> None:
        _, number = self.resumable(tmp_path)
        first = open_ledger(tmp_path, **self.SEARCH)
        with first, open_ledger(tmp_path, join=True, **self.SEARCH) as second:
            assert asked(second).number == number
            assert first.elsewhere() == 1
            assert (first.unfinished(), second.unfinished()) == ([], [])
            spec = first.ask()
            assert spec is None or spec.number != number
            assert (
                self.train(second, second._spec(second._trials._held[number])) is Verdict.CONTINUE
            )
            assert first.row(number).state == "complete"
            for ledger in (first, second):
                ledger.finish({}, "")
        assert all(trial.state.is_finished() for trial in stored(tmp_path) if is_paused(trial))

    def test_one_that_another_program_ended_is_not_asked_for_again(self, tmp_path: Path) -> None:
        _, number = self.resumable(tmp_path)
        with open_ledger(tmp_path, **self.SEARCH) as ledger:
            sql(tmp_path, f"update trials set state = 'FAIL' where number = {number}")
            spec = ledger.ask()
            assert spec is None or spec.number != number
            ledger.finish({}, "")
        assert stored(tmp_path)[number].state.name == "FAIL"

    @pytest.mark.parametrize(
        ("sampler", "pruner", "verdict"),
        [
            ("tpe", "learning-rate", Verdict.PRUNE),
            ("random", "learning-rate", Verdict.PRUNE),
            ("learning-rate", "patient-median", Verdict.PRUNE),
            ("learning-rate", "none", Verdict.CONTINUE),
            ("random", "none", Verdict.CONTINUE),
        ],
    )
    def test_other_searches_leave_none(
        self, tmp_path: Path, sampler: str, pruner: str, verdict: Verdict
    ) -> None:
        search = {**self.SEARCH, "sampler": sampler, "pruner": pruner, "until": None}
        with open_ledger(tmp_path, **search) as ledger:
            for _ in FIRST:
                finish(ledger, 60, 50, 40, 39, 38, 37)
            number = asked(ledger).number
            for epoch in (1, 2, 3):
                (said,) = ledger.report({number: report(epoch, 95)}).values()
                if said is not Verdict.CONTINUE:
                    break
            assert said is verdict
        assert PAUSED not in stored(tmp_path)[number].user_attrs

    def test_a_run_to_check_the_pruner_goes_on_and_says_so(self, tmp_path: Path) -> None:
        seed = next(seed for seed in range(99) if LearningRatePruner(seed=seed)._is_audited(ASKED))
        train = dataclasses.replace(self.SEARCH["train"], seed=seed)
        with open_ledger(tmp_path, **{**self.SEARCH, "train": train}) as ledger:
            for _ in FIRST:
                finish(ledger, 60, 50, 40)
            ledger.study.enqueue_trial({PARAMETER: 0.5})
            number = asked(ledger).number
            assert number == ASKED.number
            assert ledger.report({number: report(1, 95)}) == {number: Verdict.CONTINUE}
        said = stored(tmp_path)[number].user_attrs["audit"]
        assert said.startswith("audit, runs on to check the pruner: perplexity 95 after step 1 is")

    def test_a_study_of_an_earlier_version_is_read_and_goes_on(self, tmp_path: Path) -> None:
        """It says nothing of its sampler and floor, and its pruner ended trials at once."""
        with open_ledger(tmp_path, **{**self.SEARCH, "trials": 4}) as ledger:
            for _ in FIRST:
                finish(ledger, 60, 50, 40)
            number = finish(ledger, 60, outcome=Outcome.PRUNED)
        set_attribute(ledger, 0, "audit", "audit, runs on to check the pruner: as it was")
        lacking = "'sampler', 'floor', 'remaining', 'unit', 'version'"
        sql(tmp_path, f"delete from study_user_attributes where key in ({lacking})")
        study = optuna.load_study(
            study_name="study", storage=open_storage(storage_of(tmp_path), create=False)
        )
        terms = terms_of(read_study(study))
        assert (terms.floor, terms.unit, terms.steps) == (0, "epoch", 6)
        assert recommended(study)[0] in (0, 1, 2)
        assert summarise(study, "").trials[0].audit
        assert summarise(study, "").trials[number].state == "pruned"
        with open_ledger(tmp_path, **{**self.SEARCH, "until": None}) as ledger:
            assert self.train(ledger, asked(ledger)) in ENDED
            assert ledger.study.user_attrs["sampler"] == "learning-rate"


class TestTelling:
    @pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.EARLY_STOPPED])
    def test_a_complete_trials_value_is_its_lowest_perplexity(
        self, tmp_path: Path, outcome: Outcome
    ) -> None:
        with open_ledger(tmp_path) as ledger:
            finish(ledger, 50, 40, 45, outcome=outcome)
        (trial,) = [trial for trial in stored(tmp_path) if trial.state.name == "COMPLETE"]
        assert trial.value == pytest.approx(40)
        assert trial.user_attrs["reason"] == outcome.sentence
        assert trial.user_attrs["accuracy"] == 0.1

    @pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.OVERFLOW])
    @pytest.mark.parametrize("before", [(), (50,), (50, 40)])
    def test_a_trial_that_blew_up_ends_in_infinity_one_step_on(
        self, tmp_path: Path, outcome: Outcome, before: tuple[float, ...]
    ) -> None:
        with open_ledger(tmp_path) as ledger:
            number = finish(ledger, *before, outcome=outcome)
            row = ledger.row(number)
        trial = stored(tmp_path)[number]
        assert (trial.state.name, trial.value) == ("PRUNED", math.inf)
        assert trial.last_step == len(before) + 1
        assert trial.intermediate_values[len(before) + 1] == math.inf
        assert (row.state, row.value) == ("pruned", math.inf)

    @pytest.mark.parametrize("outcome", [Outcome.OUT_OF_MEMORY, Outcome.FAILED, Outcome.LOST])
    def test_what_is_no_fault_of_the_rate_is_a_failure(
        self, tmp_path: Path, outcome: Outcome
    ) -> None:
        with open_ledger(tmp_path) as ledger:
            number = finish(ledger, 50, outcome=outcome)
        trial = stored(tmp_path)[number]
        assert (trial.state.name, trial.value) == ("FAIL", None)
        assert trial.user_attrs["reason"] == outcome.sentence

    def test_a_paused_trial_stays_running_without_a_reason(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path) as ledger:
            number = finish(ledger, 50, outcome=Outcome.PAUSED)
        trial = stored(tmp_path)[number]
        assert trial.state.name == "RUNNING"
        assert "reason" not in trial.user_attrs

    @pytest.mark.parametrize(
        ("before", "state", "reason"),
        [
            ((), "FAIL", "failed: the trainer ended without a report"),
            ((math.inf,), "PRUNED", "diverged: no value is finite"),
        ],
    )
    def test_complete_without_any_value_is_not_complete(
        self, tmp_path: Path, before: tuple[float, ...], state: str, reason: str
    ) -> None:
        with open_ledger(tmp_path, pruner="none") as ledger:
            number = finish(ledger, *before)
        trial = stored(tmp_path)[number]
        assert (trial.state.name, trial.user_attrs["reason"]) == (state, reason)

    def test_a_reason_from_before_a_crash_does_not_stay_with_another_end(
        self, tmp_path: Path
    ) -> None:
        with open_ledger(tmp_path) as ledger:
            spec = asked(ledger)
            ledger.report({spec.number: report(1, 50)})
            trial = stored(tmp_path)[spec.number]
            optuna.trial.Trial(ledger.study, trial._trial_id).set_user_attr("reason", "failed: x")
            ledger.tell(spec.number, Outcome.COMPLETED, "trained to its end")
        assert stored(tmp_path)[0].user_attrs["reason"] == "trained to its end"


class TestTakingUpAgain:
    def test_a_running_trial_keeps_its_number_rate_and_folder(self, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path)
        before = asked(ledger)
        ledger.report({before.number: report(1, 50)})
        killed(ledger)
        with open_ledger(tmp_path) as ledger:
            assert ledger.unfinished() == [before]
            assert ledger.report({before.number: report(2, 40)}) == {0: Verdict.CONTINUE}
        assert stored(tmp_path)[0].intermediate_values == pytest.approx({1: 50, 2: 40})

    @pytest.mark.parametrize("finished", [0, 3], ids=["an enqueued rate", "a drawn rate"])
    def test_a_kill_between_ask_and_suggest_changes_no_rate(
        self, tmp_path: Path, finished: int
    ) -> None:
        rates = []
        for name, kill in (("straight", False), ("killed", True)):
            folder = tmp_path / name
            folder.mkdir()
            ledger = open_ledger(folder)
            for _ in range(finished):
                finish(ledger, 50)
            if kill:
                counts = TrialCounts(ledger.study.get_trials(deepcopy=False))
                for rate in ledger._strategy.missing(counts):
                    ledger.study.enqueue_trial({PARAMETER: rate})
                ledger.study.ask()  # and then nothing more
                assert stored(folder)[finished].params == {}
                killed(ledger)
                ledger = open_ledger(folder)
                (spec,) = ledger.unfinished()
            else:
                spec = asked(ledger)
            assert spec.number == finished
            assert "multiples" in stored(folder)[finished].user_attrs
            rates.append(spec.config.learning_rate)
        assert rates[0] == rates[1]

    def test_a_kill_between_its_first_attributes_completes_them(self, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path)
        asked(ledger)
        sql(tmp_path, "delete from trial_user_attributes where key != 'nearest_rule'")
        killed(ledger)
        with open_ledger(tmp_path) as ledger:
            ledger.unfinished()
        found = set(stored(tmp_path)[0].user_attrs)
        assert found == {"nearest_rule", "multiple", "multiples", "owner"}

    def test_a_kill_while_a_trial_that_diverged_was_told_reports_infinity_once(
        self, tmp_path: Path
    ) -> None:
        ledger = open_ledger(tmp_path)
        number = asked(ledger).number
        ledger.report({number: report(1, 50)})
        ledger._trials.report_infinity(ledger._trials.stored(number))
        killed(ledger)
        with open_ledger(tmp_path) as ledger:
            ledger.unfinished()
            assert ledger.report({number: report(1, 50)}) == {number: Verdict.CONTINUE}
            ledger.tell(number, Outcome.DIVERGED, "diverged in step 2")
        assert stored(tmp_path)[0].intermediate_values == {1: pytest.approx(50), 2: math.inf}

    def test_a_kill_while_the_study_was_made_leaves_nothing_in_the_way(
        self, tmp_path: Path
    ) -> None:
        ledger = open_ledger(tmp_path)
        sql(tmp_path, "delete from study_user_attributes where key in ('identity', 'ran')")
        killed(ledger)
        with open_ledger(tmp_path) as ledger:
            assert ledger.study.user_attrs["identity"]["epochs"] == 3
            assert asked(ledger).config.learning_rate == FIRST[0]


class TestTheRange:
    def lean_on_the_upper_edge(self, ledger: Ledger) -> None:
        for _ in range(3):
            finish(ledger, 50)
        best = optuna.trial.create_trial(
            params={PARAMETER: 0.9}, distributions={PARAMETER: WIDE}, value=20.0
        )
        ledger.study.add_trial(best)

    def test_it_is_widened_where_the_best_rate_leans_on_its_edge(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path, trials=9) as ledger:
            self.lean_on_the_upper_edge(ledger)
            assert ledger.working_range == (1e-4, 1.0)
            asked(ledger)
            assert ledger.working_range == (1e-4, 10.0)

    def test_a_trial_that_failed_beyond_the_edge_does_not_keep_it_there(
        self, tmp_path: Path
    ) -> None:
        with open_ledger(tmp_path, trials=9) as ledger:
            ledger.study.enqueue_trial({PARAMETER: 8.0})
            finish(ledger, outcome=Outcome.OUT_OF_MEMORY)
            self.lean_on_the_upper_edge(ledger)
            asked(ledger)
            assert ledger.working_range == pytest.approx((1e-4, 10))

    def test_a_widened_range_is_kept_by_the_next_run(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path, trials=9) as ledger:
            self.lean_on_the_upper_edge(ledger)
            asked(ledger)
        with open_ledger(tmp_path, trials=9) as ledger:
            assert ledger.working_range == (1e-4, 10.0)

    def test_a_range_that_the_user_gave_is_kept(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path, trials=9, widen=False) as ledger:
            self.lean_on_the_upper_edge(ledger)
            rate = asked(ledger).config.learning_rate
            assert ledger.working_range == (1e-4, 1.0)
            assert rate <= 1

    def test_a_range_that_the_user_gives_later_counts_from_then_on(self, tmp_path: Path) -> None:
        open_ledger(tmp_path).__exit__()
        with open_ledger(tmp_path, widen=False, low=2e-3, high=0.5) as ledger:
            assert ledger.working_range == (2e-3, 0.5)


class TestWhoseStudy:
    def test_another_identity_is_refused_naming_what_differs(self, tmp_path: Path) -> None:
        open_ledger(tmp_path).__exit__()
        other = Identity.of({"trainer": "trainers.train:train", "batch_size": 7})
        with pytest.raises(SweepError, match="batch_size: 32 there, 7 here"):
            open_ledger(tmp_path, identity=other)

    @pytest.mark.parametrize(("there", "here"), [(None, 0.1), (0.1, None), (0.0, 0.1), (0.1, 0.0)])
    def test_a_field_that_came_later_is_at_its_default_where_it_is_absent(
        self, there: float | None, here: float | None, tmp_path: Path
    ) -> None:
        def identity(share: float | None) -> Identity:
            schedule = {} if share is None else {"warmup_share": share}
            return Identity.of({"trainer": "one", "lr_schedule": {"name": "constant", **schedule}})

        open_ledger(tmp_path, identity=identity(there)).__exit__()
        same = {None: 0.0, 0.0: None}
        open_ledger(tmp_path, identity=identity(same.get(there, there))).__exit__()
        said = f"lr_schedule.warmup_share: {there or 0.0} there, {here or 0.0} here"
        with pytest.raises(SweepError, match=said):
            open_ledger(tmp_path, identity=identity(here))

    def test_a_study_of_someone_elses_is_refused_and_left_as_it_is(self, tmp_path: Path) -> None:
        storage = open_storage(storage_of(tmp_path), create=True)
        optuna.create_study(study_name="study", storage=storage, direction="maximize")
        with pytest.raises(SweepError, match="was not made by sweep"):
            open_ledger(tmp_path)
        study = optuna.load_study(study_name="study", storage=storage)
        assert study.user_attrs == {}

    def test_two_ledgers_do_not_write_one_study(self, tmp_path: Path) -> None:
        with (
            open_ledger(tmp_path),
            pytest.raises(SweepError, match=f"being run by process {os.getpid()}"),
        ):
            open_ledger(tmp_path)

    def test_leaving_it_gives_the_lease_back(self, tmp_path: Path) -> None:
        holders = "select pid from sweep_leases"
        with open_ledger(tmp_path):
            assert sql(tmp_path, holders) == [(os.getpid(),)]
        assert sql(tmp_path, holders) == []

    def test_a_lease_that_an_earlier_version_left_is_in_nobodys_way(self, tmp_path: Path) -> None:
        with open_ledger(tmp_path) as ledger:
            held = {"host": "elsewhere", "pid": 1, "token": "old", "expires": time.time() + 3600}
            ledger.study.set_user_attr("lease", held)
        with open_ledger(tmp_path) as ledger:
            assert ledger.ask() is not None


def test_asks_before_any_answer_do_not_repeat_a_rate(tmp_path: Path) -> None:
    with open_ledger(tmp_path, sampler="learning-rate", trials=8) as ledger:
        specs = [ledger.ask() for _ in range(8)]
    rates = sorted(math.log(spec.config.learning_rate) for spec in specs if spec)
    assert len(rates) == 8
    assert all(high - low > 0.07 for low, high in pairwise(rates))
