import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from studies.objective import Objective
from sweep.formatting import (
    format_bound,
    format_duration,
    format_exponent,
    format_multiple,
    format_perplexity,
    format_plain,
    format_speed,
    one_line,
    wrapped,
)
from sweep.results.types import RuleRow, StudySummary, TrialRow
from sweep.view import make_view
from sweep.view.details import print_trial
from sweep.view.live.frame import HINT, frame
from sweep.view.live.jsonl import JsonView
from sweep.view.live.plain import PlainView
from sweep.view.live.running import RunningTrial
from sweep.view.live.screen import RichView
from sweep.view.sentences import against, answer, edge_warning, kept
from sweep.view.tables import format_rate, print_summary, trials_table
from trainers.report import Outcome, Progress, Report

COMMANDS = ["sweep show study", "sweep export study --format csv --output a-rather-long-name.csv"]
RUN_ON = "sweep run --batch-size 2048 --storage sqlite:////a/rather/long/path/to/the/study.db"


def trial(number: int, state: str = "complete", value: float | None = 60.0, **more) -> TrialRow:
    values = {"learning_rate": 8e-4, "rule": "sqrt", "multiple": 1.0, "step": 10, "reason": ""}
    values |= {"number": number, "state": state, "value": value, "steps": 10}
    return TrialRow(**(values | more))


def study(*rows: TrialRow, **more) -> StudySummary:
    values = {
        "name": "context_vector-b2048-fp16-docstrings-1a2b3c4d",
        "storage": "sqlite:///study.db",
        "batch_size": 2048,
        "precision": "fp16",
        "model": "context_vector",
        "parameters": 2_739_432,
        "data": "docstrings",
        "epochs": 10,
        "device": "cpu",
        "reference_text": "lr 0.0001 at batch 32 gave 23.34 (fp32)",
        "reference_perplexity": None,
        "unigram_perplexity": 89.7,
        "working_range": (1e-4, 1.0),
        "edge": "",
        "trials": rows,
        "rules": (
            RuleRow("sqrt", 8e-4, "lr0 x (B/B0)^0.5", "", next(iter(rows), None)),
            RuleRow("sqrt_model_size", 4e-4, "lr0 x (B/B0)^0.5 x (N/N0)^-0.5", ""),
            RuleRow("unscaled", 5e-5, "lr0", ""),
        ),
        "best": next((row for row in rows if row.state == "complete"), None),
        "total": 12,
    }
    return StudySummary(**(values | more))


def report(step: int, loss: float = math.log(61.24)) -> Report:
    return Report(
        step=step,
        steps=10,
        train_loss=loss,
        validation_loss=loss,
        accuracy=0.3,
        learning_rate=8e-4,
        tokens_per_second=12_345.0,
    )


def terminal(width: int = 80, height: int = 24) -> Console:
    return Console(
        record=True,
        width=width,
        height=height,
        force_terminal=True,
        file=io.StringIO(),
        _environ={},
    )


def shown(console: Console, renderable: object) -> list[str]:
    console.print(renderable)
    return console.export_text().splitlines()


WORST = [
    trial(0, reason="trained to its end"),
    trial(123, "pruned", 123456.7, rule="a_rule_of_a_users_own_naming", multiple=1234.5),
    trial(7, "failed", None, reason="failed: RuntimeError: [3, 4]\n\x1b[31mdo not\x1b[0m fit " * 9),
    trial(8, "waiting", None, learning_rate=math.nan, multiple=math.nan, rule="", step=0),
]


class TestFormats:
    @pytest.mark.parametrize(
        ("rate", "text"),
        [(8e-4, "8.00e-4"), (1.0, "1.00e0"), (9.999e-4, "1.00e-3"), (math.nan, "-")],
    )
    def test_rates_have_three_digits(self, rate, text):
        assert format_rate(rate) == text

    @pytest.mark.parametrize(("rate", "text"), [(1e-4, "1e-4"), (1.5e-3, "1.5e-3"), (1.0, "1")])
    def test_bounds_are_short(self, rate, text):
        assert format_bound(rate) == text

    @pytest.mark.parametrize(
        ("perplexity", "text"),
        [
            (None, "-"),
            (math.inf, "inf"),
            (math.nan, "nan"),
            (5.1234, "5.123"),
            (61.237, "61.24"),
            (930.04, "930.0"),
            (12345.6, "12,346"),
            (1.234e7, "1.23e7"),
        ],
    )
    def test_perplexities_have_four_digits(self, perplexity, text):
        assert format_perplexity(perplexity) == text

    def test_other_numbers(self):
        assert [format_duration(seconds) for seconds in (None, 65, 3725)] == [
            "-",
            "1:05",
            "1:02:05",
        ]
        speeds = [format_speed(speed) for speed in (0.0, 850.0, 12_345.0, 999_600.0)]
        assert speeds == ["- tok/s", "850 tok/s", "12.3k tok/s", "1.0M tok/s"]
        multiples = [format_multiple(multiple) for multiple in (1.0, 0.0031, 31.416, math.nan)]
        assert multiples == ["x1.00", "x0.0031", "x31.4", "-"]

    def test_numbers_on_axes(self):
        rates = [format_exponent(rate) for rate in (2e-3, 2.5e-2, 0.1, 1.0, 20.0)]
        assert rates == ["2e-3", "2.5e-2", "1e-1", "1", "2e1"]
        assert [format_plain(x) for x in (42.0, 42.5, 2048, 1e6)] == [
            "42",
            "42.5",
            "2,048",
            "1,000,000",
        ]

    @pytest.mark.parametrize(
        ("text", "lines"),
        [
            ("a perplexity of 44.93 +- 0.76", ["a perplexity of", "44.93 +- 0.76"]),
            ("it is sure to 90 % now", ["it is sure to", "90 % now"]),
            ("then run `sweep confirm` again", ["then run", "`sweep confirm`", "again"]),
            ("use the --seeds-option", ["use the", "--seeds-option"]),
            ("a_name_that_is_too_long", ["a_name_that_is_too_long"]),
        ],
    )
    def test_lines_break_where_a_reader_would(self, text, lines):
        assert wrapped(text, 16).split("\n") == lines

    def test_foreign_text_becomes_one_clean_line(self):
        assert one_line("a\n  \x1b[1;31mb\x1b[0m\tc\x07") == "a b c"


class TestWords:
    def test_comparisons_say_the_side(self):
        def said(value, name, other):
            return against(value, name, other, Objective())

        assert said(61.24, "unigram baseline", 89.7) == "31.7 % below the unigram baseline 89.70"
        assert said(26.0, "reference", 20.0) == "30.0 % above the reference 20.00"
        assert said(20.0, "reference", 20.0) == "equal to the reference 20.00"

    def test_the_answer_names_rate_baseline_and_reference(self):
        text = " ".join(answer(study(trial(3, value=61.24), reference_perplexity=50.0)))
        assert "Best learning rate 8.00e-4, perplexity 61.24 (trial 3" in text
        assert "31.7 % below the unigram baseline 89.70" in text
        assert "22.5 % above the reference's perplexity 50.00" in text

    def test_a_borrowed_reference_is_not_compared(self):
        assert "borrowed" in " ".join(answer(study(trial(3))))

    def test_it_says_what_is_left_to_gain_where_the_sweep_was_to_stop_by_it(self):
        lines = answer(study(trial(3), remaining="at most 0.6 % of perplexity is left to gain"))
        assert lines[-1] == "At most 0.6 % of perplexity is left to gain."

    def test_it_says_how_often_the_pruner_would_have_been_wrong(self):
        rows = [
            trial(0, value=50.0),
            trial(1, value=50.2, audit="audit: so and so"),
            trial(2, value=50.3, audit="audit: so and so"),
            trial(3, "running", 49.0, audit="audit: so and so"),
        ]
        assert answer(study(*rows))[-1] == (
            "Audit of the pruner: 2 trials ran on that it would have ended, and 1 of them came "
            "within 0.5 % of the best."
        )

    def test_worse_than_the_baseline_is_said(self):
        assert "Nothing was learned" in " ".join(
            answer(study(trial(3, value=100.7), baseline=89.7))
        )

    def test_without_a_complete_trial_it_says_what_to_do(self):
        rows = (
            trial(0, "pruned", None, learning_rate=0.3, reason="diverged in epoch 1: the loss"),
            trial(1, "failed", None, reason="failed: ValueError: no such file"),
            trial(2, "running", None),
        )
        text = " ".join(answer(study(*rows)))
        assert "No trial completed" in text
        assert "1 diverged, the lowest at 3.00e-1" in text
        assert "(trial 1) with: ValueError: no such file" in text
        assert "the same command goes on" in text
        assert "No trial has ended" in " ".join(answer(study(rows[2])))
        assert "raise --trials" in " ".join(answer(study(trial(0, "pruned"))))

    def test_the_edge_warning_names_edge_and_range(self):
        assert edge_warning(study()) == ""
        text = edge_warning(study(edge="upper"))
        assert "upper edge of the searched range 1e-4 to 1: widen it with --range" in text

    def test_kept_names_the_open_trials(self):
        rows = (trial(0), trial(1, "running"), trial(2, "running"), trial(3, "waiting"))
        assert kept(study(*rows)).startswith("1 of 12 trials")
        assert "trials 1, 2 go on" in kept(study(*rows))
        assert "trial 1 goes on" in kept(study(*rows[:2]))


class TestTables:
    @pytest.mark.parametrize("width", [60, 80, 120])
    def test_no_line_is_longer_than_the_terminal(self, width):
        lines = shown(terminal(width), trials_table(study(*WORST)))
        assert len(lines) == 2 + len(WORST)
        assert max(map(len, lines)) <= width

    def test_numbers_stay_whole_and_reasons_end_in_an_ellipsis(self):
        text = "\n".join(shown(terminal(), trials_table(study(*WORST))))
        assert "123,457" in text
        assert "x1,234" in text
        assert re.search(r"failed +RuntimeE.*…", text)

    def test_folded_reasons_are_whole(self):
        console = Console(record=True, width=100, file=io.StringIO(), force_terminal=False)
        print_summary(study(trial(1, "failed", None, reason="word " * 40 + "end")), console)
        assert "end" in console.export_text()

    def test_markup_in_foreign_text_is_text(self):
        text = "\n".join(shown(terminal(120), trials_table(study(trial(1, reason="[bold]x[/]")))))
        assert "[bold]x[/]" in text

    def test_a_limit_keeps_the_best_and_the_newest(self):
        rows = [trial(number, value=100.0 - (number == 4) * 50) for number in range(20)]
        lines = shown(terminal(), trials_table(study(*rows), limit=6))
        assert [line.split()[0] for line in lines[2:]] == ["0", "1", "4", "18", "19", "..."]
        assert lines[-1].strip() == "... and 15 more"

    @pytest.mark.parametrize("width", [80, 120])
    def test_the_summary_shows_each_rule(self, width):
        console = terminal(width)
        print_summary(study(*WORST, edge="upper"), console)
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= width
        for part in ("complete, best", "not tried", "out of range", "Warning: The best rate leans"):
            assert part in text


class TestFrame:
    @pytest.mark.parametrize("width", [80, 120])
    @pytest.mark.parametrize("height", [12, 24, 50])
    @pytest.mark.parametrize("running", [0, 1, 3, 40])
    def test_it_fits_the_terminal(self, width, height, running):
        rows = [trial(number, "running") for number in range(running)]
        rows += [trial(number, reason="long " * 30) for number in range(running, 60)]
        bars = [
            RunningTrial.of(replace(row, step=99_000, steps=100_000)).progressed(
                Progress(99_999, 100_000, 1e6), 1.0
            )
            for row in rows[:running]
        ]
        lines = shown(terminal(width, height), frame(study(*rows), bars, 2.0, height))
        assert len(lines) < height
        assert max(map(len, lines)) <= width
        assert lines[-1].rstrip() == HINT

    def test_a_bar_says_where_the_trial_is(self):
        bar = RunningTrial.of(trial(7, "running", 61.24, step=12, steps=60))
        bar = bar.progressed(Progress(14, 60, 12_345.0), 0.0)
        bar = bar.progressed(Progress(16, 60, 12_345.0), 1.0)
        text = "\n".join(shown(terminal(), frame(study(), [bar], 1.0, 24)))
        for part in ("7 8.00e-4", "step 16/60", "ppl 61.24", "12.3k tok/s", "0:22 left"):
            assert part in text


class TestRunningTrial:
    def test_time_left_counts_from_the_first_sign_of_life(self):
        bar = RunningTrial.of(trial(0, "running", step=5))
        assert bar.seconds_left(100.0) is None
        bar = bar.progressed(Progress(5, 10), 100.0)
        assert bar.seconds_left(100.0) is None
        bar = bar.reported(report(6), 110.0)
        assert bar.seconds_left(110.0) == pytest.approx(40.0)
        assert bar.seconds_left(115.0) == pytest.approx(35.0)
        assert bar.seconds_left(999.0) == 0.0

    def test_a_repeated_report_takes_nothing_back(self):
        bar = RunningTrial.of(trial(0, "running", step=5)).reported(report(2), 1.0)
        assert bar.share == 0.5


def drive(view, rows: list[TrialRow]) -> None:
    """One trial's way through a view; `rows`: as it starts, after its report, as it ended."""
    view.note("profile cpu: no CUDA device found")
    view.warn("the fallback is taken")
    view.started(study())
    view.trial_started(rows[0])
    view.progressed(3, Progress(1, 10, 12_345.0))
    view.reported(3, report(1), rows[1])
    view.trial_ended(rows[2])


ROWS = [
    trial(3, "running", None, step=0),
    trial(3, "running", 61.24, step=1),
    trial(3, "complete", 61.24, step=10, reason=Outcome.COMPLETED.sentence),
]


class TestRichView:
    def test_it_ends_with_the_report(self):
        console = terminal()
        with RichView(console) as view:
            drive(view, ROWS)
            view.finished(study(ROWS[2]), COMMANDS)
        text = console.export_text()
        assert "Best learning rate 8.00e-4" in text
        assert all(command in text for command in COMMANDS)
        assert "profile cpu: no CUDA device found" in text

    def test_it_knows_the_best_so_far(self):
        console = terminal()
        with RichView(console) as view:
            drive(view, ROWS)
        assert "best 61.24 at 8.00e-4 (trial 3)" in console.export_text()

    def test_a_failure_is_told_whole(self):
        console = terminal()
        with RichView(console) as view:
            failed = replace(ROWS[2], state="failed", reason="failed: " + "word " * 30 + "end")
            drive(view, [*ROWS[:2], failed])
        assert re.search(r"Warning: trial 3 failed: word [word\s]*end", console.export_text())

    def test_a_pause_prints_the_way_on_in_one_piece(self):
        console = terminal()
        with RichView(console) as view:
            drive(view, ROWS)
            view.paused(study(ROWS[1]), RUN_ON)
        text = console.export_text()
        assert "Paused: 0 of 12 trials" in text
        assert RUN_ON in text

    def test_an_exception_gives_the_terminal_back_and_leaves_the_trials(self):
        console = terminal()

        def interrupted() -> None:
            with RichView(console) as view:
                drive(view, ROWS)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        screen = console.file.getvalue()
        assert screen.count("\x1b[?25h") == 1, "the cursor is shown again"
        assert "trained to its end" in screen[screen.rindex("\x1b[?25h") :]


class TestPlainView:
    def lines(self, times: list[float]) -> list[str]:
        stream = io.StringIO()
        clock = iter(times)
        with PlainView(stream, lambda: next(clock)) as view:
            view.trial_started(ROWS[0])
            for step in (1, 2, 3):
                view.progressed(3, Progress(step, 10, 12_345.0))
        return stream.getvalue().splitlines()

    def test_progress_is_told_every_ten_seconds(self):
        # Two or three looks at the clock a progress: when it came, whether to speak, when it spoke.
        lines = self.lines([0.0, 4.0, 4.0, 11.0, 11.0, 11.0, 12.0, 12.0])
        assert len(lines) == 2
        assert lines[1] == "trial 3  lr 8.00e-4  step 2/10  12,345 tokens/s"

    def test_one_line_an_event_without_control_characters(self, monkeypatch):
        monkeypatch.setenv("FORCE_COLOR", "1")
        stream = io.StringIO()
        with PlainView(stream) as view:
            drive(view, ROWS)
            view.warn("\x1b[31mred\x1b[0m\nerror")
            view.finished(study(*WORST, edge="lower"), COMMANDS)
            view.paused(study(*WORST), RUN_ON)
        text = stream.getvalue()
        assert all(character.isprintable() or character == "\n" for character in text)
        lines = text.splitlines()
        assert "trial 3  lr 8.00e-4  step 1/10  perplexity 61.24  12,345 tokens/s" in lines
        assert "Warning: red error" in lines
        assert f"  {RUN_ON}" in lines

    def test_an_ascii_stream_is_enough(self):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        with PlainView(stream) as view:
            drive(view, ROWS)
            view.finished(study(*WORST, edge="upper"), COMMANDS)


class TestJsonView:
    def events(self, drive_it) -> list[dict]:
        stream = io.StringIO()
        with JsonView(stream) as view:
            drive_it(view)

        def refuse(constant: str) -> float:
            raise ValueError(f"not JSON: {constant}")

        return [json.loads(line, parse_constant=refuse) for line in stream.getvalue().splitlines()]

    def test_every_event_carries_its_values(self):
        def whole(view):
            drive(view, ROWS)
            view.paused(study(ROWS[1]), RUN_ON)
            view.finished(study(ROWS[2]), COMMANDS)

        events = self.events(whole)
        assert [event["event"] for event in events] == [
            "note",
            "warning",
            "study_started",
            "trial_started",
            "trial_progressed",
            "trial_reported",
            "trial_ended",
            "study_paused",
            "study_finished",
        ]
        assert events[5]["report"]["perplexity"] == pytest.approx(61.24)
        assert events[5]["trial"]["learning_rate"] == 8e-4
        assert events[8]["study"]["best"]["number"] == 3
        assert events[8]["study"]["rules"][0]["trial"] == 3
        assert events[8]["commands"] == COMMANDS
        document = (Path(make_view.__code__.co_filename).parent / "live" / "jsonl.py").read_text()
        assert all(f'"{event["event"]}"' in document for event in events)

    def test_infinity_is_null_and_said_in_words(self):
        rows = (trial(0, "pruned", math.inf), trial(1, "waiting", None, learning_rate=math.nan))

        def diverged(view):
            view.reported(0, report(2, math.nan), rows[0])
            view.started(study(*rows))

        reported, started = self.events(diverged)
        assert reported["report"]["perplexity"] is None
        assert reported["report"]["diverged"] is True
        assert reported["trial"]["diverged"] is True
        assert started["study"]["trials"][1]["learning_rate"] is None
        assert started["study"]["trials"][1]["diverged"] is False


class TestMakeView:
    def test_the_views_load_neither_torch_nor_optuna(self):
        code = (
            "import sys, sweep.view.live.screen, sweep.view.live.plain, sweep.view.live.jsonl; "
            "print([name for name in ('torch', 'optuna') if name in sys.modules])"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def test_it_follows_the_stream(self, monkeypatch):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("FORCE_COLOR", "1")
        assert isinstance(make_view(json_lines=False, stream=self.Terminal()), RichView)
        assert isinstance(make_view(json_lines=False, stream=io.StringIO()), PlainView)
        assert isinstance(make_view(json_lines=True, stream=self.Terminal()), JsonView)

    def test_a_dumb_terminal_gets_plain_lines(self, monkeypatch):
        monkeypatch.setenv("TERM", "dumb")
        assert isinstance(make_view(json_lines=False, stream=self.Terminal()), PlainView)


class TestTheFinalTable:
    WHY = "pruned: perplexity 133.83 after step 2 should end near 105.74, by 4 finished trials"

    @pytest.mark.parametrize("width", [80, 100, 160])
    def test_no_reason_is_cut(self, width):
        console = terminal(width, 40)
        print_summary(study(trial(0), trial(1, "pruned", 133.8, reason=self.WHY)), console)
        text = console.export_text()
        assert "…" not in text
        # A reason may take several lines of a column: its words are there in order.
        words = re.findall(r"[\w.]+", text)
        for word in re.findall(r"[\w.]+", self.WHY.removeprefix("pruned: ")):
            assert word in words

    def test_a_narrow_one_says_them_below(self):
        console = terminal(80, 40)
        print_summary(study(trial(0), trial(1, "pruned", 133.8, reason=self.WHY)), console)
        text = " ".join(console.export_text().split())
        assert f"trial 1, pruned: {self.WHY.removeprefix('pruned: ')}" in text
        assert "reason" not in text.split("Best learning rate")[0].split()

    def test_a_narrow_one_has_each_rule_on_one_line(self):
        console = terminal(80, 40)
        print_summary(study(trial(0, learning_rate=4e-4)), console)
        lines = console.export_text().splitlines()
        rules = lines[next(i for i, line in enumerate(lines) if line.startswith("rule ")) + 2 :]
        names = [rule.name for rule in study().rules]
        assert [line.split()[:1] for line in rules if line.strip()] == [[name] for name in names]
        assert len([line for line in rules if line.strip()]) == len(names)

    def test_a_rule_whose_near_rate_was_tried_says_at_which(self):
        near = trial(3, learning_rate=9e-4)
        rules = (RuleRow("sqrt", 8e-4, "lr0", "", near), RuleRow("linear", 9e-4, "lr0", "", near))
        console = terminal(100, 40)
        print_summary(study(near, rules=rules), console)
        sqrt, linear = (
            line for line in console.export_text().splitlines() if re.match("sqrt|linear", line)
        )
        assert "3 at 9.00e-4" in sqrt
        assert " at " not in linear


def test_a_trials_blocks_stand_apart():
    detail = {
        **{"number": 3, "study": "study", "state": "complete", "learning_rate": 1e-3},
        **{"rule": "sqrt", "multiple": 1.0, "value": 60.0, "step": 1, "reason": "done"},
        **{
            "rules": {"sqrt": 1e-3},
            "values": {"1": 60.0},
            "metric": "perplexity",
            "direction": "minimize",
            "directory": "runs/0003",
            "unit": "step",
        },
    }
    console = terminal(100, 40)
    print_trial(detail, console)
    lines = [line.strip() for line in console.export_text().splitlines()]
    heads = [i for i, line in enumerate(lines) if line.startswith(("rule ", "step "))]
    assert [lines[i - 1] for i in heads] == ["", ""]
