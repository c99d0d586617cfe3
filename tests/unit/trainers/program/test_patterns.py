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


BAR = "{}|#         | {}/{} [00:01<00:20, 19.1it/s]"


def test_huggingface_takes_the_step_from_the_bar_that_is_drawn_next() -> None:
    """The bar above is an old one, and an evaluation draws its own below it."""
    lines = (
        BAR.format("  0%", 0, 20),
        "{'loss': '2.9', 'grad_norm': '1.2', 'learning_rate': '4.75e-05', 'epoch': '0.25'}",
        BAR.format("  0%", 0, 10) + "\x1b[A",
        "\x1b[A{'eval_loss': '2.913', 'eval_runtime': '0.1', 'epoch': '0.25'}",
        BAR.format(" 25%", 5, 20),
        BAR.format("100%", 10, 10) + "\x1b[A",
        "{'eval_loss': 2.5, 'eval_runtime': 0.1, 'epoch': 0.5}",
        BAR.format("100%", 10, 10),
        BAR.format(" 50%", 10, 20),
        "Map: 100%|#| 20/20 [00:01<00:20, 19.1it/s]",
    )
    begin, first, old = understood("huggingface", *lines)
    assert begin == {"step": 0, "steps": 20}
    assert first == {"step": 5, "steps": 20, "train_loss": 2.9, "validation_loss": 2.913}
    assert old == {"step": 10, "steps": 20, "validation_loss": 2.5}, "as versions before 5 print it"


def test_huggingface_without_a_bar_counts_thousandths_of_an_epoch() -> None:
    lines = (
        "{'loss': '2.9', 'grad_norm': '1.2', 'learning_rate': '4.75e-05', 'epoch': '0.25'}",
        "{'eval_loss': '2.913', 'eval_runtime': '0.1', 'epoch': '0.25'}",
    )
    assert understood("huggingface", *lines) == [
        {"step": 250, "train_loss": 2.9},
        {"step": 250, "validation_loss": 2.913},
    ]


def test_modded_nanogpt() -> None:
    lines = (
        "step:125/1000 val_loss:3.2833 train_time:5000ms step_avg:40.00ms",
        "step:126/1000 train_time:5040ms step_avg:40.00ms",
        "step:127/1000 train_loss:3.3000 train_time:5080ms",
        "step:250/1000 val_loss:3.1000 val_bpb:0.9812 train_time:9000ms",
    )
    assert understood("modded-nanogpt", *lines) == [
        {"step": 125, "steps": 1000, "validation_loss": 3.2833},
        {"step": 126, "steps": 1000},
        {"step": 127, "steps": 1000, "train_loss": 3.3},
        {"step": 250, "steps": 1000, "validation_loss": 3.1, "bits_per_byte": 0.9812},
    ]


def test_nanochat() -> None:
    lines = (
        "Step 00250 | Validation bpb: 0.981200",
        "step 00250/21400 (1.17%) | loss: 3.212345 | lrm: 1.00 | dt: 98.10ms | tok/sec: 1,000",
        "Minimum validation bpb: 0.981200",
    )
    assert understood("nanochat", *lines) == [
        {"step": 250, "bits_per_byte": 0.9812},
        {"step": 250, "steps": 21400, "train_loss": 3.212345},
    ]


@pytest.mark.parametrize(
    "line",
    [
        "step   20/60 | loss 4.100000 (+0.10z)| norm 1.0000 (+0.10z)| lr 3.00e-04 | 12.50 ms",
        "step   20/60 | train loss 4.100000 | norm 1.0000 | lr 3.00e-04 | (12.50 ms | 12345 tok/s)",
        "step 20: train loss 4.100000 (took 12.500000 ms)",
    ],
)
def test_llm_c_in_cuda_python_and_c(line: str) -> None:
    found = understood("llm.c", "val loss 10.9", line, "val loss 4.512034")
    assert [(each["step"], each.get("validation_loss")) for each in found] == [
        (0, 10.9),
        (20, None),
        (20, 4.512034),
    ]
    assert found[1]["train_loss"] == 4.1


def test_mingpt_has_the_loss_of_training_alone() -> None:
    line = "iter_dt 12.34ms; iter 100: train loss 3.21042"
    assert understood("mingpt", line) == [{"step": 100, "train_loss": 3.21042}]


def test_keras_counts_epochs() -> None:
    lines = (
        "Epoch 2/4",
        "\x1b[1m 9/10\x1b[0m 5ms/step - accuracy: 0.5 - loss: 3.0",
        "\b\b\b\x1b[1m10/10\x1b[0m 5ms/step - accuracy: 0.5 - loss: 3.0 - val_loss: 3.1",
    )
    assert understood("keras", *lines)[-1] == {"step": 2, "steps": 4, "validation_loss": 3.1}


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


def test_lightning_with_the_bar_of_rich() -> None:
    bar = "\x1b[2KEpoch {}/1  \x1b[35m━━━━━━\x1b[0m {}/4 \x1b[2m0:00:01 • 0:00:00\x1b[0m 9it/s {}"
    lines = (
        bar.format(0, 2, ""),
        bar.format(0, 4, ""),
        bar.format(1, 0, "\x1b[3mval_loss: 2.340\x1b[0m"),
        bar.format(1, 4, "\x1b[3mv_num: 0 val_loss: 2.110\x1b[0m"),
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


def test_the_longest_line_is_read_at_its_end() -> None:
    assert understood("nanogpt", "7" * 2**20 + "step 1: train loss 3, val loss 4")[0]["step"] == 1


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
