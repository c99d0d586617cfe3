"""What programs print, and what is understood of it: lines as they print them themselves."""

import math

import pytest

from trainers.errors import TrainerError
from trainers.program.patterns import NAMED, Patterns


def understood(pattern: str, *lines: str) -> list[dict[str, float]]:
    patterns = Patterns(pattern)
    found = [fields for line in lines for fields in patterns.read(line)]
    return [*found, *patterns.end()]


def test_nanogpt() -> None:
    lines = (
        "number of parameters: 10.65M",
        "step 250: train loss 2.3924, val loss 2.4133",
        "iter 250: loss 2.4111, time 98.1ms, mfu 17.92%",
        "step 500: train loss nan, val loss nan",
    )
    first, lost = understood("nanogpt", *lines)
    assert first == {"step": 250, "train_loss": 2.3924, "validation_loss": 2.4133}
    assert math.isnan(lost["validation_loss"])


def test_huggingface_takes_the_step_from_the_bar() -> None:
    lines = (
        "  5%|5         | 20/400 [00:01<00:20, 19.1it/s]",
        "{'loss': '2.9', 'grad_norm': '1.2', 'learning_rate': '4.75e-05', 'epoch': '0.05'}",
        "{'eval_loss': '2.913', 'eval_runtime': '0.1', 'epoch': '0.05'}",
        "{'eval_loss': 2.5, 'eval_runtime': 0.1, 'epoch': 0.1}",
    )
    bar, train, new, old = understood("huggingface", *lines)
    assert bar == {"step": 20, "steps": 400}
    assert train["train_loss"] == 2.9
    assert new == {"step": 20, "steps": 400, "validation_loss": 2.913}
    assert old["validation_loss"] == 2.5, "as versions before 5 print it"


def test_lightning_waits_for_the_validation_at_an_epochs_end() -> None:
    bar = "Epoch {}: {}| {}/4 [00:01<00:00, 9.1it/s, v_num=0, val_loss={}]"
    lines = (
        "Epoch 0:  50%| 2/4 [00:01<00:01, 9.1it/s, v_num=0]",
        "Epoch 0: 100%| 4/4 [00:01<00:00, 9.1it/s, v_num=0]",
        bar.format(0, "100%", 4, "2.340"),
        bar.format(1, "25%", 1, "2.340"),
        bar.format(1, "100%", 4, "2.340"),
        bar.format(1, "100%", 4, "2.110"),
    )
    reports = [each for each in understood("lightning", *lines) if "validation_loss" in each]
    assert reports == [
        {"step": 4, "validation_loss": 2.34},
        {"step": 8, "validation_loss": 2.11},
    ]


def test_torchtitan_in_colour() -> None:
    lines = (
        "[titan] 2025-06-01 - root - INFO - \x1b[31mstep: 10  \x1b[32mloss:  6.5012  \x1b[0m",
        "[titan] 2025-06-01 - root - INFO - \x1b[33mvalidate step: 10  \x1b[32mloss:  5.5012  "
        "\x1b[36mmemory:  1.00GiB(1.30%)\x1b[0m",
    )
    train, validation = understood("torchtitan", *lines)
    assert train == {"step": 10, "train_loss": 6.5012}
    assert validation == {"step": 10, "validation_loss": 5.5012}


def test_a_pattern_of_ones_own() -> None:
    own = r"it=(?P<step>[\d,]+) .*ppl (?P<perplexity>\S+)"
    assert understood(own, "it=1,500 now ppl 1e2", "it=1,600 now ppl n/a") == [
        {"step": 1500, "perplexity": 100.0},
        {"step": 1600},
    ]


def test_a_bar_that_redraws_itself_counts_with_its_last_state() -> None:
    line = "step 1: train loss 3, val loss 4 step 2: train loss 2, val loss 3"
    assert understood("nanogpt", line)[0]["step"] == 2


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("nanogp", "has no named groups"),
        (r"val (?P<x", "is no regular expression"),
        (r"(\d+)", "has no named groups"),
    ],
)
def test_what_is_no_pattern_is_refused_in_a_line(pattern: str, words: str) -> None:
    with pytest.raises(TrainerError) as refusal:
        Patterns(pattern)
    assert words in str(refusal.value)
    assert ", ".join(NAMED) in str(refusal.value)
