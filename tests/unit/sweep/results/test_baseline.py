"""What is known of the shared trainer's trials, and of no others."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from support import Workspace

from studies.objective import Objective
from studies.observed import Terms
from studies.sampler import make_sampler
from sweep.execution.protocol import SHARED_TRAINER
from sweep.results.baseline import (
    at_constant_rate,
    baseline_of,
    optimizer_words,
    schedule_words,
    stored_baseline,
    warmup_share,
)
from sweep.results.record import StudyRecord, read_study
from trainers.config import LRSchedule, ProgramConfig, TrainConfig

ONE_EPOCH = """\
    from trainers.report import Ending, Report, Outcome

    def train(config, *, device, directory):
        yield Report(epoch=1, validation_loss=4.0)
        return Ending(Outcome.COMPLETED)
"""


def test_a_trainer_of_the_user_s_own_may_train_on_any_text() -> None:
    assert baseline_of(SHARED_TRAINER, 71.0, Objective()) == 71.0
    assert baseline_of("mine:train", 71.0, Objective()) is None


def test_a_study_says_it_of_itself() -> None:
    shared = StudyRecord(
        identity={"trainer": SHARED_TRAINER},
        config={},
        parameters=1,
        range=(1e-4, 1e-1),
        unigram_perplexity=71.0,
    )
    assert stored_baseline(shared) == 71.0
    own = shared.model_copy(update={"identity": {"trainer": "mine:train"}})
    assert stored_baseline(own) is None
    assert stored_baseline(shared.model_copy(update={"unigram_perplexity": None})) is None


def test_the_schedule_says_whether_the_rate_stays() -> None:
    cosine = TrainConfig(learning_rate=1e-3, lr_schedule=LRSchedule(name="cosine"))
    constant = TrainConfig(learning_rate=1e-3)
    assert at_constant_rate(SHARED_TRAINER, constant)
    share = TrainConfig(learning_rate=1e-3, lr_schedule=LRSchedule(warmup_share=0.1))
    linear = TrainConfig(learning_rate=1e-3, lr_schedule=LRSchedule(name="linear"))
    assert not at_constant_rate(SHARED_TRAINER, share)  # short of time, runs still fall fast
    assert not at_constant_rate(SHARED_TRAINER, cosine)
    assert not at_constant_rate(SHARED_TRAINER, linear)
    wsd = TrainConfig(learning_rate=1e-3, lr_schedule=LRSchedule(name="wsd"))
    assert not at_constant_rate(SHARED_TRAINER, wsd)  # whole runs end after a decay
    assert not at_constant_rate("mine:train", constant)


def test_what_is_not_the_default_is_named() -> None:
    plain = TrainConfig(learning_rate=1e-3)
    assert (optimizer_words(plain), schedule_words(plain)) == ("", "")
    muon = replace(plain, optimizer="muon", weight_decay=0.1, decayed="matrices", muon_ratio=0.5)
    assert optimizer_words(muon) == (
        "muon, AdamW's rate 0.5 times Muon's, weight decay 0.1 of matrices"
    )
    sgd = replace(plain, optimizer="sgd", optimizer_options={"nesterov": True})
    assert optimizer_words(sgd) == "sgd, nesterov True"
    decayed = replace(plain, weight_decay=0.2)
    assert optimizer_words(decayed) == "adam, weight decay 0.2 of all parameters"
    wsd = LRSchedule(name="wsd", floor=0.1, warmup_share=0.05, horizon_epochs=40)
    assert schedule_words(replace(plain, lr_schedule=wsd)) == (
        "wsd, a linear decay over the last 0.2 of the steps, down to 0.1 of the rate, counted over "
        "40 epochs, after 0.05 of the steps of linear warm-up"
    )
    warmed = replace(plain, lr_schedule=LRSchedule(warmup_steps=9))
    assert schedule_words(warmed) == "constant, after 9 steps of linear warm-up"
    program = ProgramConfig(command=("python", "mine.py"))
    assert optimizer_words(replace(muon, program=program)) == ""


@pytest.mark.parametrize("own", [False, True])
def test_a_run_searches_with_what_its_report_reads(
    own: bool, tmp_path: Path, english: Path
) -> None:
    workspace = Workspace(tmp_path, english)
    workspace.write("held.py", ONE_EPOCH)
    told: list[Any] = []

    def watched(name: str, terms: Terms, **options: Any) -> Any:
        told.append((terms.baseline, terms.constant_rate))
        return make_sampler(name, terms, **options)

    trainer = ("--trainer", "held:train") if own else ()
    with mock.patch("sweep.orchestration.strategy.make_sampler", watched):
        settled = ("--set", "trainer.lr_schedule.warmup_share=0.0")
        workspace.invoke("run", "--trials", 1, "--epochs", 1, *settled, *trainer)
    record = read_study(workspace.study())
    assert record.unigram_perplexity is not None
    assert record.unigram_perplexity > 1
    baseline = None if own else record.unigram_perplexity
    assert stored_baseline(record) == baseline
    assert set(told) == {(baseline, not own)}


def test_runs_are_compared_after_their_warm_up() -> None:
    plain = TrainConfig(learning_rate=1e-3, epochs=10)
    share = TrainConfig(learning_rate=1e-3, epochs=10, lr_schedule=LRSchedule(warmup_share=0.2))
    steps = TrainConfig(learning_rate=1e-3, epochs=10, lr_schedule=LRSchedule(warmup_steps=25))
    later = TrainConfig(
        learning_rate=1e-3,
        epochs=10,
        lr_schedule=LRSchedule(warmup_share=0.2, horizon_epochs=5),
    )
    assert warmup_share(plain, 20, 200) == 0
    assert warmup_share(share, 20, 200) == 0.2
    assert warmup_share(later, 20, 200) == 0.1
    assert warmup_share(steps, 20, 200) == pytest.approx(25 / 200)
    assert warmup_share(steps, None, None) == 0  # unknown, as in the first studies
