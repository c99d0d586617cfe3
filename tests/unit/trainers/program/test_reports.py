"""Reports of a program: what counts, what is lost, and what is none."""

import json
import math
from pathlib import Path

import pytest

from trainers.errors import TrainerError
from trainers.program.patterns import Patterns
from trainers.program.reports import Reports, Tail, has_metric, make_report, mend


def test_a_perplexity_is_taken_for_its_loss_and_the_rest_for_metrics() -> None:
    report = make_report(
        {"step": 3, "perplexity": math.e**2, "tokens": 7, "bleu": 0.5}, "perplexity"
    )
    assert (report.step, report.tokens, report.metrics) == (3, 7, {"bleu": 0.5})
    assert report.validation_loss == pytest.approx(2.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"validation_loss": math.nan},
        {"validation_loss": None},
        {"validation_loss": math.inf},
        {"perplexity": -1.0},
        {"train_loss": math.nan},
    ],
)
def test_a_loss_that_is_no_number_says_that_training_was_lost(fields: dict[str, float]) -> None:
    assert make_report({"step": 1, **fields}, "validation_loss").validation_loss == math.inf


def test_another_metric_is_lost_likewise() -> None:
    report = make_report({"step": 1, "bleu": math.nan}, "bleu")
    assert report.metrics["bleu"] == math.inf


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"validation_loss": 2.0}, "no step of 0 or more"),
        ({"step": -1}, "no step of 0 or more"),
        ({"step": math.nan}, "no step of 0 or more"),
        ({"step": 1e300}, "or one beyond 2,147,483,647"),
        ({"step": 1, "validation_loss": "low"}, "validation_loss = 'low', which is no number"),
        ({"step": True}, "which is no number"),
    ],
)
def test_what_is_none_is_refused_in_a_line(fields: dict[str, object], words: str) -> None:
    with pytest.raises(TrainerError, match=words):
        make_report(fields, "validation_loss")


def test_a_count_that_is_unknown_is_left_out() -> None:
    report = make_report({"step": 1, "validation_loss": 10**400, "tokens": None}, "perplexity")
    assert (report.validation_loss, report.tokens) == (math.inf, 0)


@pytest.mark.parametrize("metric", ["accuracy", "train_loss"])
def test_a_field_of_its_own_counts_as_the_metric(metric: str) -> None:
    assert has_metric(make_report({"step": 1, metric: 0.5}, metric), metric)
    assert not has_metric(make_report({"step": 1, "bleu": 0.5}, metric), metric)


def test_each_step_counts_once_and_only_with_the_metric(tmp_path: Path) -> None:
    said = tmp_path / "reports.jsonl"
    lines = [
        {"step": 1, "train_loss": 3.0},
        {"step": 1, "validation_loss": 2.0},
        {"step": 1, "validation_loss": 2.5},
        {"step": 2, "validation_loss": 1.0, "steps": 9},
    ]
    said.write_text("".join(json.dumps(line) + "\n" for line in lines))
    reports = Reports(Tail(said), said, "validation_loss")
    assert [(each.step, counts) for each, counts in reports.read()] == [
        (1, False),
        (1, True),
        (1, False),
        (2, True),
    ]
    assert (reports.step, reports.steps) == (2, 9)


def test_a_line_counts_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    tail = Tail(path)
    assert list(tail.lines()) == []
    path.write_bytes(b'{"step": 1}\n{"st')
    assert list(tail.lines()) == ['{"step": 1}']
    with path.open("ab") as file:
        file.write(b'ep": 2}')
    assert list(tail.lines()) == []
    assert list(tail.lines(whole=True)) == ['{"step": 2}']


def test_what_a_pattern_read_is_kept_for_a_resumed_trial(tmp_path: Path) -> None:
    kept, output = tmp_path / "reports.jsonl", tmp_path / "output.log"
    kept.touch()
    output.write_text("step 5: train loss 2.0, val loss 2.5\nstep 6: train loss 2.0, val loss 2.4")
    reports = Reports(Tail(kept), kept, "validation_loss", Tail(output), Patterns("nanogpt"))
    assert [report.step for report, counts in reports.read() if counts] == [5]
    assert [report.step for report, counts in reports.read(whole=True) if counts] == [6]
    again = Reports(Tail(kept), kept, "validation_loss")
    assert [report.step for report, _ in again.read()] == [5, 6]


def test_what_is_no_json_is_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    path.write_text("step=5\n")
    with pytest.raises(TrainerError, match="no JSON object: 'step=5'"):
        list(Reports(Tail(path), path, "perplexity").read())


def test_half_a_line_of_one_that_died_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    path.write_text('{"step": 1, "validation_loss": 2}\n{"step": 2, "valid')
    reports = Reports(Tail(path), path, "validation_loss")
    assert [report.step for report, _ in reports.read(whole=True)] == [1]
    mend(path)
    assert path.read_text() == '{"step": 1, "validation_loss": 2}\n'


@pytest.mark.parametrize("before", ["", '{"step": 1}\n'])
def test_a_last_line_without_an_end_is_whole_where_it_is_json(tmp_path: Path, before: str) -> None:
    path = tmp_path / "reports.jsonl"
    path.write_text(before + '{"step": 2}')
    mend(path)
    assert [*Tail(path).lines()][-1] == '{"step": 2}'


def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    path.write_bytes(b"".join(b"line %06d\n" % number for number in range(300_000)))
    tail, read, calls = Tail(path), 0, 0
    while some := [*tail.lines()]:
        assert some[0] == f"line {read:06d}"
        read, calls = read + len(some), calls + 1
    assert (read, calls) == (300_000, 4)
