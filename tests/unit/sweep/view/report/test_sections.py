"""The report of a study: its figures against the truth, and against the database by pandas."""

import io
import json
import math
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from html import unescape
from math import inf
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from rich.console import Console
from support import open_ledger, play
from support import report as epoch_report

from studies.objective import Objective
from studies.prior import Prior
from sweep.orchestration.ledger import Ledger
from sweep.results.confirmation import Confirmation, make_finalist, record
from sweep.results.notes import note_confirmation
from sweep.results.report import Report, build
from sweep.view.report.charts import charts
from sweep.view.report.layers import Points
from sweep.view.report.sections import headline, sections
from sweep.view.report.to_html import html
from sweep.view.report.to_json import report_object
from sweep.view.report.to_text import markdown, print_report
from sweep.workflows.add import add
from trainers.config import LRSchedule, TrainConfig
from trainers.report import Outcome

BEST = 1.5e-2
PRIORS = {"sqrt": Prior(1e-2), "unscaled": Prior(1e-3), "linear": Prior(1e-1)}


def basin(rate: float) -> float:
    return 60 * math.exp(0.05 * math.log(rate / BEST) ** 2)


def searched(folder: Path, **more: Any) -> Ledger:
    usual = {"sampler": "learning-rate", "pruner": "learning-rate", "priors": PRIORS, "trials": 12}
    return open_ledger(folder, **(usual | more))


def play_at(ledger: Ledger, rates: list[float], curve: Callable[[float], float] = basin) -> None:
    """Trials at given rates; above 0.5 training is lost."""
    for rate in rates:
        ledger.study.enqueue_trial({"learning_rate": rate})
    play(ledger, curve, trials=len(rates), diverges=lambda rate: rate > 0.5)


def report_of(ledger: Ledger) -> Report:
    return build(ledger.study, "sweep.db", [ledger.study])


def terminal_text(report: Report, width: int = 100) -> str:
    out = io.StringIO()
    print_report(report, Console(file=out, width=width))
    return out.getvalue()


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """Twelve trials: complete, pruned and diverged ones, and a run made by hand."""
    folder = tmp_path_factory.mktemp("swept")
    train = TrainConfig(learning_rate=1.0, epochs=8, batch_size=64)
    with searched(folder, train=train, high=3.0, widen=False) as ledger:
        play(ledger, basin, trials=3)
        play_at(ledger, [1.3e-2, 1.8e-2, 2.5e-2, 2.0, 1.5, 1e-4, 2e-4])
        ledger.finish({}, "")
        ledger._lease.release()
        add(ledger.study, 2e-2, 61.0, "last week")
        return folder, report_of(ledger)


class TestTheAnswer:
    def test_the_true_optimum_is_in_the_interval(self, swept: tuple[Path, Report]) -> None:
        found = swept[1].optimum
        assert found is not None
        assert found.low < BEST < found.high
        assert BEST / 1.3 < found.learning_rate < BEST * 1.3
        assert found.level == 0.9

    def test_nothing_finer_than_a_fifth_of_a_rate_is_claimed(
        self, swept: tuple[Path, Report]
    ) -> None:
        found = swept[1].optimum
        assert found is not None
        rates = (found.learning_rate, found.low, found.high)
        assert all(rate == float(f"{rate:.1e}") for rate in rates)
        assert found.low <= found.learning_rate / 1.15
        assert found.high >= found.learning_rate * 1.15

    def test_rates_within_one_percent_are_those_of_the_true_curve(
        self, swept: tuple[Path, Report]
    ) -> None:
        found = swept[1].optimum
        assert found is not None
        assert found.near is not None
        away = math.sqrt(math.log(1.01) / 0.05)
        assert found.near[0] == pytest.approx(BEST * math.exp(-away), rel=0.3)
        assert found.near[1] == pytest.approx(BEST * math.exp(away), rel=0.4)

    def test_the_nearest_rule_is_weighed_most(self, swept: tuple[Path, Report]) -> None:
        report = swept[1]
        assert report.verdict is not None
        assert report.verdict.rules == ("sqrt",)
        assert report.verdict.decided == (report.verdict.weight >= 0.8)
        assert [rule.name for rule in report.rules if rule.inside] in ([], ["sqrt"])
        assert sum(rule.weight for rule in report.rules) <= 1.0 + 1e-9

    def test_noise_widens_the_interval(self, tmp_path: Path) -> None:
        def noisy(rate: float) -> float:
            return basin(rate) * (1.15 if round(1e3 * rate) % 2 else 0.87)

        widths = []
        for name, curve in (("smooth", basin), ("noisy", noisy)):
            (tmp_path / name).mkdir()
            with searched(tmp_path / name, pruner="none") as ledger:
                play_at(ledger, [8e-3, 1.1e-2, 1.4e-2, 1.5e-2, 1.7e-2, 2e-2, 2.6e-2], curve)
                report = report_of(ledger)
                assert report.optimum is not None
                widths.append(report.optimum.high / report.optimum.low)
        assert report.noise is not None
        assert report.noise > 0.03
        assert widths[1] > 1.3 * widths[0]
        assert "Runs at nearly the same rate differ" in " ".join(headline(report))


class TestCompanions:
    @pytest.mark.parametrize(
        ("batch", "betas", "eps", "shown"),
        [
            (64, (0.81, 0.998001), 1e-8 / math.sqrt(2), ("0.81", "0.998")),
            (2048, (0.9**64, 0.999**64), 1e-8 / 8, ("0.001", "0.938")),
            (8, (0.9**0.25, 0.999**0.25), 2e-8, ("0.974", "0.99975")),
            (32, (0.9, 0.999), 1e-8, None),
        ],
    )
    def test_the_half_life_in_tokens_and_the_square_root_rule(
        self,
        tmp_path: Path,
        batch: int,
        betas: tuple[float, float],
        eps: float,
        shown: tuple[str, str] | None,
    ) -> None:
        train = TrainConfig(learning_rate=1.0, epochs=3, batch_size=batch)
        with searched(tmp_path, train=train) as ledger:
            report = report_of(ledger)
        asked = report.companions
        assert asked is not None
        assert asked.asked_eps == pytest.approx(eps)
        assert asked.asked_betas == pytest.approx(betas)
        assert report_object(report)["companions"]["asked_betas"] == pytest.approx(betas)
        (section,) = (each for each in sections(report) if each.title == "Momentum and epsilon")
        if shown is None:
            assert section.table is None
        else:
            assert section.table is not None
            assert tuple(row[2] for row in section.table.rows[:2]) == shown
            assert "This was not searched" in section.sentences[0]

    def test_of_muon_nothing_is_asked_and_optimizer_and_schedule_are_named(
        self, tmp_path: Path
    ) -> None:
        train = TrainConfig(
            learning_rate=1.0, epochs=3, optimizer="muon", lr_schedule=LRSchedule(name="wsd")
        )
        with searched(tmp_path, train=train) as ledger:
            report = report_of(ledger)
        assert report.companions is None
        every = {each.title: each for each in sections(report)}
        assert "Momentum and epsilon" not in every
        assert every["Setting"].table is not None
        facts = dict(every["Setting"].table.rows)
        assert facts["optimizer"] == "muon, AdamW's rate 1 times Muon's"
        assert facts["schedule"] == ("wsd, a linear decay over the last 0.2 of the steps, to zero")
        assert report_object(report)["optimizer"] == facts["optimizer"]


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    names = ("trials", "trial_values", "trial_intermediate_values", "trial_params")
    names = (*names, "trial_user_attributes", "study_user_attributes")
    with closing(sqlite3.connect(folder / "sweep.db")) as connection:
        return {name: pd.read_sql(f"select * from {name}", connection) for name in names}


def test_its_numbers_are_those_of_the_database(swept: tuple[Path, Report]) -> None:
    """Recomputed from the tables, with nothing of ours or of Optuna's."""
    folder, report = swept
    table, cost = tables(folder), report.cost
    attributes = table["trial_user_attributes"]
    by_hand = set(attributes.loc[attributes["key"] == "by_hand", "trial_id"])
    own = table["trials"][~table["trials"]["trial_id"].isin(by_hand)]
    reports = table["trial_intermediate_values"]
    reports = reports[reports["trial_id"].isin(own["trial_id"])]
    lost = set(reports.loc[reports["intermediate_value_type"] == "INF_POS", "trial_id"])
    complete = own[own["state"] == "COMPLETE"]
    pruned = own[(own["state"] == "PRUNED") & ~own["trial_id"].isin(lost)]
    spent = reports.groupby("trial_id")["step"].max()

    assert len(by_hand) == 1
    assert (cost.trials, cost.complete) == (len(own), len(complete))
    assert (cost.pruned, cost.diverged) == (len(pruned), len(lost))
    assert cost.pruned > 0
    assert cost.diverged > 0
    assert cost.steps_spent == spent.sum()
    assert cost.pruned_steps == int((8 - spent[pruned["trial_id"]]).sum())

    values = table["trial_values"].set_index("trial_id")["value"]
    rates = table["trial_params"].set_index("trial_id")["param_value"]
    whole = table["trials"].set_index("trial_id")
    best = values[whole.index[whole["state"] == "COMPLETE"]].idxmin()
    assert report.study.best is not None
    assert report.study.best.value == values[best]
    assert report.study.best.learning_rate == rates[best]
    assert report.divergence.lowest_diverged == rates[list(lost)].min()

    about = table["study_user_attributes"].set_index("key")["value_json"]
    low, high = json.loads(about["range"])
    grid, rate = 1, low
    while rate < high:
        grid, rate = grid + 1, rate * 1.44
    assert (cost.grid_rates, cost.grid_steps) == (grid, 8 * grid)


def one_runs(ledger: Ledger) -> None:
    assert ledger.ask() is not None


def one_reported(ledger: Ledger) -> None:
    spec = ledger.ask()
    assert spec is not None
    ledger.report({spec.number: epoch_report(1, 80.0)})


def one_complete(ledger: Ledger) -> None:
    play(ledger, basin, trials=1)


def all_diverge(ledger: Ledger) -> None:
    play(ledger, basin, trials=3, diverges=lambda _: True)


def all_fail(ledger: Ledger) -> None:
    for _ in range(2):
        spec = ledger.ask()
        assert spec is not None
        ledger.tell(spec.number, Outcome.FAILED, "failed: [red]no[/red] | *luck* <b>")


def by_hand_alone(ledger: Ledger) -> None:
    ledger._lease.release()
    add(ledger.study, 1e-2, 61.0, "by me")


def goes_on(ledger: Ledger) -> None:
    play(ledger, basin, trials=4)
    one_reported(ledger)


def nothing(ledger: Ledger) -> None:
    pass


@pytest.mark.parametrize(
    ("happens", "words", "known"),
    [
        (nothing, "No trial has ended yet", False),
        (one_runs, "No trial has ended yet", False),
        (one_reported, "No trial has ended yet", False),
        (one_complete, "rests on one complete trial", True),
        (all_diverge, "3 diverged, the lowest at 1.00e-3: search below that", False),
        (all_fail, "2 failed, the last one (trial 1) with: [red]no[/red]", False),
        (by_hand_alone, "rests on one complete trial", True),
        (goes_on, "Not all trials have ended (4 complete, 1 running)", True),
    ],
)
def test_every_state_of_a_study_gets_a_clear_statement(
    tmp_path: Path, happens: Callable[[Ledger], None], words: str, known: bool
) -> None:
    with searched(tmp_path, pruner="none") as ledger:
        happens(ledger)
        report = report_of(ledger)
    assert words in " ".join(headline(report))
    for text in (terminal_text(report), markdown(report)):
        assert "nan" not in text.lower().split()
        assert words.split("[")[0] in " ".join(text.split())
    found = report_object(report)
    json.dumps(found, allow_nan=False)
    assert (found["optimum"] is not None) == known
    assert (found["verdict"] is not None) == known


def test_markdown_keeps_foreign_text_from_being_markup(tmp_path: Path) -> None:
    with searched(tmp_path) as ledger:
        all_fail(ledger)
        text = markdown(report_of(ledger))
    assert "\\*luck\\* &lt;b&gt;" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| 1 |")]
    assert "\\[/red\\] \\| \\*luck" in row


def test_a_study_without_stored_priors_is_read_all_the_same(tmp_path: Path) -> None:
    with searched(tmp_path) as ledger:
        play(ledger, basin, trials=6)
        for key in ("priors", "reference", "pruner"):
            ledger.study._storage.set_study_user_attr(ledger.study._study_id, key, None)
        assert report_of(ledger).companions is None


def test_studies_at_other_batch_sizes_stand_beside_it(tmp_path: Path) -> None:
    studies = []
    for batch, best in ((64, 1e-2), (256, 2e-2)):
        folder = tmp_path / str(batch)
        folder.mkdir()
        train = TrainConfig(learning_rate=1.0, epochs=3, batch_size=batch)
        with searched(folder, train=train, pruner="none") as ledger:

            def curve(rate: float, best: float = best) -> float:
                return 60 * math.exp(0.05 * math.log(rate / best) ** 2)

            play_at(ledger, [best / 2, best / 1.3, best, best * 1.5], curve)
            studies.append(ledger.study)
    optuna.copy_study(
        from_study_name="study",
        from_storage=studies[1]._storage,
        to_storage=studies[0]._storage,
        to_study_name="other",
    )
    other = optuna.load_study(study_name="other", storage=studies[0]._storage)
    report = build(studies[0], "sweep.db", [studies[0], other])
    found = [(each.batch_size, each.learning_rate, each.itself) for each in report.neighbours]
    assert found == [
        (64, pytest.approx(1e-2, rel=0.3), True),
        (256, pytest.approx(2e-2, rel=0.3), False),
    ]
    long = "context_vector-b2048-fp16-docstrings-41024971"
    named = replace(report, neighbours=tuple(replace(n, study=long) for n in report.neighbours))
    fits_a_terminal(named)
    assert long in terminal_text(named, 120)
    assert re.search(r"64 \(this study\) +100 +fp32 +\S+ +\S+ to \S+\n", terminal_text(named, 80))
    assert report.exponents is not None
    assert report.exponents.batch is not None
    assert report.exponents.batch.low < 0.5 < report.exponents.batch.high
    assert "Power law lr = c B^p" in terminal_text(report)


def test_what_new_seeds_said_stands_in_every_form(tmp_path: Path) -> None:
    with searched(tmp_path, pruner="none", first=()) as ledger:
        play_at(ledger, [1e-2, 1.5e-2, 3e-2])
        unconfirmed = " ".join(headline(report_of(ledger)))
        held = make_finalist(2, 3e-2, 61.4, ["complete"] * 3, [60.0, 61.0, 63.5])
        lost = make_finalist(1, 1.5e-2, 60.0, ["complete", "diverged", "complete"], [60, inf, 61])
        study = ledger.study
    note_confirmation(study, record(Confirmation("study", (1, 2, 3), (held, lost), Objective())))
    report = build(study, "sweep.db")
    assert "Not confirmed: `sweep confirm`" in unconfirmed
    assert "Not confirmed" not in " ".join(headline(report))
    for text in (terminal_text(report), markdown(report), html(report)):
        words = " ".join(unescape(re.sub("<[^>]*>", " ", text)).split())
        assert "Best over 3 new seeds: learning rate 3.00e-2 (trial 2)" in words
        assert "perplexity 61.5 +- 1.0; the search's seed gave" in words
        assert "1.50e-2 diverged at 1 of 3 seeds." in words
    found = report_object(report)["confirmation"]
    assert (found["trial"], found["seeds"]) == (2, [1, 2, 3])
    fits_a_terminal(report)
    assert found["finalists"][0]["mean"] == pytest.approx(61.5)
    (marks,) = [
        each
        for each in charts(report)[0].layers
        if isinstance(each, Points) and each.symbol == "diamond"
    ]
    assert (marks.x, marks.y) == ((3e-2,), (pytest.approx(61.5),))
    assert marks.high[0] - marks.y[0] == pytest.approx(1.0408, rel=1e-3)


def fits_a_terminal(report: Report) -> None:
    """No line is wider, and no word or number is cut in two."""
    words = set(terminal_text(report, 400).replace(",", "").split())
    for width in (60, 80, 100, 120):
        text = terminal_text(report, width)
        assert max(map(len, text.splitlines())) <= width
        assert set(re.sub("[,─]", "", text).split()) <= words
        for whole in ("90\n%", "+-\n", "`sweep\nconfirm`"):
            assert whole not in text


def test_its_tables_fit_80_columns(tmp_path: Path, swept: tuple[Path, Report]) -> None:
    fits_a_terminal(swept[1])
    train = TrainConfig(learning_rate=1.0, epochs=3, batch_size=2048)
    with searched(tmp_path, train=train, pruner="none", first=()) as ledger:
        long = {"name": "sqrt_model_size", "formula": "lr0 x sqrt(B/B0) / sqrt(N/N0)"}
        rule = {"learning_rate": 1e-2, "source": "a test", **long}
        ledger.study.set_user_attr("rules", [rule, {**rule, "name": "linear"}])
        play_at(ledger, [1.1e-2, 1.5e-2, 3e-2])
        study = ledger.study
    seeds = tuple(range(1, 9))
    finalist = make_finalist(1, 1.5e-2, 60.0, ["complete"] * 8, [60.0 + seed for seed in seeds])
    note_confirmation(study, record(Confirmation("study", seeds, (finalist,), Objective())))
    report = build(study, "sweep.db")
    fits_a_terminal(report)
    narrow, wide = (terminal_text(report, width) for width in (80, 120))
    assert re.search(r"sqrt_model_size +lr0 x sqrt\(B/B0\) / sqrt\(N/N0\) +1.00e-2", wide)
    assert re.search(r"sqrt_model_size +1.00e-2 +\d+ % ", narrow)
    # Of nine columns of perplexities a narrow terminal gets the text.
    assert "rate 1.50e-2, trial 1, search 60.00, seed 1 61.00, seed 2 62.00," in narrow


def test_a_better_trial_than_the_confirmed_is_said(tmp_path: Path) -> None:
    with searched(tmp_path, pruner="none", first=()) as ledger:
        play_at(ledger, [1e-2, 1.5e-2, 3e-2])
        study = ledger.study
    other = make_finalist(2, 3e-2, 61.4, ["complete"], [60.0])
    note_confirmation(study, record(Confirmation("study", (1,), (other,), Objective())))
    text = " ".join(terminal_text(build(study, "sweep.db")).split())
    assert "Trial 1, the best by now, was not among them: run `sweep confirm` again." in text


def test_a_trial_that_waits_shows_its_rule(tmp_path: Path) -> None:
    with searched(tmp_path) as ledger:
        assert ledger.ask() is not None
        rows = report_of(ledger).study.trials
    waiting = {row.rule: row.multiple for row in rows if row.state == "waiting"}
    assert waiting == {"linear": pytest.approx(1.0), "unscaled": pytest.approx(1.0)}


def test_a_study_of_given_rates_is_not_told_to_widen_its_range(tmp_path: Path) -> None:
    with searched(tmp_path, pruner="none") as ledger:
        play(ledger, lambda rate: 60 * rate**-0.1, trials=4)
        ledger.study.set_user_attr("range", [1e-4, 1e-3])
        assert "widen it with --range" in " ".join(headline(report_of(ledger)))
        ledger.study.set_user_attr("kind", "fixed")
        said = " ".join(headline(report_of(ledger)))
    assert "Its rates were given" in said
    assert "--range" not in said


def test_a_rate_at_the_unigram_level_is_no_optimum(tmp_path: Path) -> None:
    with searched(tmp_path) as ledger:
        play_at(ledger, [1e-3, 1e-2, 1e-1])
        for unigram, found in ((70.0, True), (66.0, False)):
            ledger.study.set_user_attr("unigram_perplexity", unigram)
            report = report_of(ledger)
            said = " ".join(headline(report))
            assert (report.optimum is not None) == found
            assert ("The best learning rate" in said) == found
            assert ("Nothing was learned" in said) == (not found)
            assert (report_object(report)["optimum"] is not None) == found
            assert charts(report)
            assert "Recommended" in markdown(report) if found else "No best rate" in html(report)
