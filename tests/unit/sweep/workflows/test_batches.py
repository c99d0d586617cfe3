"""What studies of several lengths share, before any of them is run."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.config.load import load
from sweep.config.schema import SweepConfig
from sweep.orchestration.plan import make_plan, study_name
from sweep.view.live.plain import PlainView
from sweep.workflows.batches import share_trunks

WSD = "trainer.lr_schedule={name='wsd', warmup_steps=10, warmup_share=0.0}"
Make = Callable[..., list[SweepConfig]]


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.chdir(tmp_path)

    def made(*sets: str, **lengths: list[int]) -> list[SweepConfig]:
        ((unit, values),) = lengths.items()
        return [
            load(
                None,
                profile="cpu",
                cuda=False,
                assignments=sets,
                flags={f"trainer.{unit}": value, "trainer.batch_size": 32},
            )
            for value in values
        ]

    return made


def shared(configs: list[SweepConfig]) -> tuple[list[tuple[int, bool]], str]:
    """Steps between reports and whether a trunk is kept, by study; and what was said."""
    stream = io.StringIO()
    found = share_trunks(configs, PlainView(stream))
    assert [each.trainer.steps for each in found] == [each.trainer.steps for each in configs]
    trainers = [each.trainer for each in found]
    return [(train.evaluate_every, train.keep_trunk) for train in trainers], stream.getvalue()


def test_all_but_the_last_keep_theirs_and_report_as_often_as_the_shortest(configs: Make) -> None:
    assert shared(configs(WSD, steps=[100, 200, 450])) == ([(5, True), (5, True), (5, False)], "")


def test_tokens_are_counted_in_whole_windows(configs: Make) -> None:
    a_step = 32 * 7  # of the CPU profile's windows of 8 the first token is not predicted
    assert shared(configs(WSD, tokens=[100 * a_step, 300 * a_step]))[0] == [(5, True), (5, False)]


def test_epochs_are_reported_by_each_anyway(configs: Make) -> None:
    assert shared(configs(WSD, epochs=[1, 2]))[0] == [(0, True), (0, False)]


def test_what_the_user_has_said_of_reports_stays(configs: Make) -> None:
    every = "trainer.evaluate_every=7"
    assert shared(configs(WSD, every, steps=[100, 200]))[0] == [(7, True), (7, False)]


def test_only_studies_that_differ_in_nothing_else_share(configs: Make) -> None:
    mixed = configs(WSD, steps=[100, 200]) + configs(WSD, "trainer.seed=1", steps=[400, 600, 800])
    found, _ = shared(mixed)
    assert found == [(5, True), (5, False), (20, True), (20, True), (20, False)]


@pytest.mark.parametrize(
    "sets",
    [
        ("trainer.lr_schedule={name='cosine', warmup_steps=10, warmup_share=0.0}",),
        ("trainer.lr_schedule={name='constant', warmup_steps=10, warmup_share=0.0}",),
        (WSD, "study.trainer=trainers.program:train"),
    ],
    ids=["cosine", "constant", "another trainer"],
)
def test_of_other_schedules_and_trainers_nothing_is_shared(
    configs: Make, sets: tuple[str, ...]
) -> None:
    assert shared(configs(*sets, steps=[100, 200])) == ([(0, False), (0, False)], "")


def test_a_warm_up_by_share_is_named_as_the_reason(configs: Make) -> None:
    found, said = shared(configs("trainer.lr_schedule.name=wsd", steps=[100, 200]))
    assert found == [(0, False), (0, False)]
    assert said.count("lr_schedule.warmup_steps they share what comes before the decay") == 1
    assert shared(configs("trainer.lr_schedule.name=wsd", steps=[100]))[1] == ""


def test_what_is_kept_is_no_part_of_what_a_study_is(configs: Make) -> None:
    first, *_ = share_trunks(configs(WSD, steps=[100, 200]), PlainView(io.StringIO()))
    alone = configs(WSD, "trainer.evaluate_every=5", steps=[100])[0]
    assert study_name(make_plan(first)) == study_name(make_plan(alone))
