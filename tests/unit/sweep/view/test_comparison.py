"""What `sweep compare` says, by runs whose perplexities are known."""

import math

import pytest

from studies.objective import Objective
from sweep.results.comparison import Comparison, contrast
from sweep.results.runs import TrainedRun
from sweep.view.comparison import answer, comparison_object, verdict

RATES = (1e-3, 1e-2, 1e-1)


def run(precision: str, rate: float, perplexity: float | None, seed: int = 0) -> TrainedRun:
    states = {None: "failed", math.inf: "diverged"}
    return TrainedRun(
        study="study",
        trial=0,
        learning_rate=rate,
        seed=seed,
        precision=precision,
        state=states.get(perplexity, "complete"),
        value=perplexity,
        curve={1: 200.0, 2: perplexity or 200.0},
        reason="because",
        steps=60,
        skipped_steps=3 if precision == "fp16" else 0,
        tokens_per_second=2e4 if precision == "fp16" else 1e4,
        peak_memory_bytes=2**30,
    )


def comparison(fp32: list[float | None], fp16: list[float | None]) -> Comparison:
    runs = [run("fp32", *pair) for pair in zip(RATES, fp32, strict=True)]
    runs += [run("fp16", *pair) for pair in zip(RATES, fp16, strict=True)]
    contrasts = (contrast(runs, "fp32", "fp16", Objective()),)
    return Comparison(("fp32", "fp16"), RATES, (0,), "cuda", tuple(runs), contrasts, Objective())


@pytest.mark.parametrize(
    ("fp32", "fp16", "expected", "headline"),
    [
        ([46.7, 26.0, 40.0], [46.8, 26.1, 40.1], "learning rate", "The learning rate is to blame"),
        ([26.5, 26.0, 26.2], [46.5, 46.0, 46.2], "precision", "fp16 is to blame"),
        ([26.0, 26.1, 26.0], [26.0, 26.1, 26.0], "neither", "Neither"),
        ([26.0, 30.0, 28.0], [30.0, 34.5, 32.4], "both", "Both cost something"),
        ([26.0, 30.0, 28.0], [26.0, 45.0, 20.0], "undecided", "Undecided"),
        ([math.inf, 30.0, None], [26.0, math.inf, 20.0], "undecided", "Undecided"),
    ],
)
def test_the_larger_effect_is_to_blame(
    fp32: list[float | None], fp16: list[float | None], expected: str, headline: str
) -> None:
    made = comparison(fp32, fp16)
    assert verdict(made, made.contrasts[0]) == expected
    assert answer(made)[0].startswith(headline)


def test_a_better_fp16_is_not_to_blame() -> None:
    made = comparison([46.0, 26.0, 40.0], [45.0, 25.0, 39.0])
    assert verdict(made, made.contrasts[0]) == "learning rate"


def test_the_gap_is_the_mean_of_the_pairs_in_percent() -> None:
    made = comparison([100.0, 50.0, 80.0], [102.0, 50.0, 82.0])
    (found,) = comparison_object(made)["contrasts"]
    gaps = [math.log(1.02), 0.0, math.log(82 / 80)]
    mean = sum(gaps) / 3
    error = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / 2 / 3)
    assert found["gap_percent"] == pytest.approx(100 * math.expm1(mean))
    assert found["low_percent"] == pytest.approx(100 * math.expm1(mean - 2.919986 * error))
    assert found["high_percent"] == pytest.approx(100 * math.expm1(mean + 2.919986 * error))
    assert found["pairs"] == 3


def test_the_rates_own_effect_is_said_for_each_precision() -> None:
    said = answer(comparison([46.7, 26.0, 40.0], [46.8, 26.1, 40.1]))
    assert (
        "In fp32 the rate alone takes it from 26.00 at 1.00e-2 to 46.70 at 1.00e-3: +80 %." in said
    )


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(1.0034, "+0.3 %"), (0.98, "-2.0 %"), (1.8, "+80 %"), (12.6, "x13"), (2.5e4, "x25,000")],
)
def test_gaps_read_as_percent_or_as_a_factor(ratio: float, text: str) -> None:
    assert Objective().gap(math.log(ratio)) == text


def test_divergence_counts_for_whom_it_struck() -> None:
    said = " ".join(answer(comparison([46.7, 26.0, 40.0], [46.8, 26.1, math.inf])))
    assert "At 1.00e-1 fp16 diverged where fp32 did not." in said
    said = " ".join(answer(comparison([46.7, 26.0, math.inf], [46.8, 26.1, math.inf])))
    assert "At 1.00e-1 both diverged: that is the rate's doing." in said
    assert "where" not in said


def test_costs_are_those_of_whole_runs() -> None:
    said = answer(comparison([46.7, 26.0, 40.0], [46.8, 26.1, 40.1]))
    assert "Skipped steps: fp16 9 of 180 (5.0 %)." in said
    assert "Speed: fp16 20,000 tokens/s, fp32 10,000: x2.00 (90 % interval x2.00 to x2.00)." in said


def test_one_pair_has_no_interval_and_failures_are_said() -> None:
    said = answer(comparison([46.7, None, None], [46.8, 26.1, 40.1]))
    assert any("one pair only: no interval" in line for line in said)
    assert "2 runs failed, the last one with: because." in said
