"""Rates and clipping limits against torch's own schedulers and the design's table."""

import math
import warnings

import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, SequentialLR

from trainers.config import LRSchedule, TrainConfig
from trainers.errors import TrainerError
from trainers.length import length_of
from trainers.schedule import check_warmup, clip_norm, lr_scheduler, warmup_steps

RATE, STEPS, EPOCHS, HORIZON = 3e-3, 7, 6, 4
TOTAL = STEPS * EPOCHS
DEFAULT = TrainConfig(learning_rate=RATE).clip_schedule


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], RATE)


def rates(make_scheduler, steps=TOTAL):
    """The rate of every step."""
    tried = optimizer()
    scheduler = make_scheduler(tried)
    found = []
    for _ in range(steps):
        found.append(tried.param_groups[0]["lr"])
        tried.step()
        scheduler.step()
    return found


def ours(schedule, **other):
    config = TrainConfig(learning_rate=RATE, epochs=EPOCHS, lr_schedule=schedule, **other)
    return rates(lambda tried: lr_scheduler(config, tried, length_of(config, STEPS)))


def torch_s(main, warmup):
    """Torch's LinearLR, from the first step's share of the rate to all of it, then `main`."""

    def make(tried):
        if not warmup:
            return main(tried)
        linear = LinearLR(tried, start_factor=1 / warmup, total_iters=warmup - 1)
        # SequentialLR passes an epoch to its schedulers, which torch deprecates elsewhere.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return SequentialLR(tried, [linear, main(tried)], milestones=[warmup])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rates(make)


@pytest.mark.parametrize("warmup", [0, 2, 5, 20])
def test_cosine_is_torch_s_own(warmup):
    expected = torch_s(lambda tried: CosineAnnealingLR(tried, TOTAL - warmup), warmup)
    found = ours(LRSchedule(name="cosine", warmup_steps=warmup))
    assert found == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("warmup", [0, 2, 5, 20])
def test_linear_is_torch_s_own(warmup):
    expected = torch_s(
        lambda tried: LinearLR(
            tried, start_factor=1, end_factor=0, total_iters=HORIZON * STEPS - warmup
        ),
        warmup,
    )
    found = ours(LRSchedule(name="linear", warmup_steps=warmup, horizon_epochs=HORIZON))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("warmup", [0, 2, 5, 20])
def test_constant_is_torch_s_own(warmup):
    expected = torch_s(lambda tried: ConstantLR(tried, factor=1.0), warmup)
    assert ours(LRSchedule(warmup_steps=warmup)) == pytest.approx(expected, rel=1e-12, abs=0)


def test_constant_is_the_rate_itself():
    assert set(ours(LRSchedule())) == {RATE}


def test_warm_up_begins_above_zero_and_reaches_the_rate():
    found = ours(LRSchedule(warmup_steps=4))
    assert found[:5] == pytest.approx([RATE / 4, RATE / 2, 3 * RATE / 4, RATE, RATE], rel=1e-12)
    assert ours(LRSchedule(warmup_steps=1))[0] == RATE


def test_cosine_begins_at_the_rate_and_its_last_step_is_above_zero():
    found = ours(LRSchedule(name="cosine"))
    assert found[0] == RATE
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < 0.01 * RATE


def test_a_fixed_horizon_counts_not_the_run_s_epochs():
    fixed = LRSchedule(name="cosine", horizon_epochs=2 * EPOCHS)
    expected = [0.5 * RATE * (1 + math.cos(math.pi * step / (2 * TOTAL))) for step in range(TOTAL)]
    assert ours(fixed) == pytest.approx(expected, rel=1e-12)


def test_beyond_the_horizon_the_rate_stays_zero():
    found = ours(LRSchedule(name="cosine", horizon_epochs=EPOCHS - 2))
    assert found[-2 * STEPS :] == [0.0] * (2 * STEPS)
    assert all(rate > 0 for rate in found[: -2 * STEPS])


@pytest.mark.parametrize("name", ["constant", "cosine", "linear"])
@pytest.mark.parametrize(("share", "steps"), [(0.1, 5), (0.5, 21), (0.01, 1), (0.999, 42)])
def test_a_share_is_of_the_run_s_steps_rounded_up(name, share, steps):
    # 4.2, 21, 0.42 and 41.958 steps
    found = ours(LRSchedule(name=name, warmup_share=share))
    assert found == ours(LRSchedule(name=name, warmup_steps=steps))


def test_a_share_that_is_whole_but_for_rounding_is_whole():
    config = TrainConfig(learning_rate=RATE, epochs=10, lr_schedule=LRSchedule(warmup_share=0.07))
    assert 0.07 * 100 > 7
    assert warmup_steps(config, length_of(config, 10)) == 7


def test_a_share_counts_the_horizon_where_it_is_fixed():
    found = ours(LRSchedule(warmup_share=0.25, horizon_epochs=HORIZON))
    assert found == ours(LRSchedule(warmup_steps=STEPS))


@pytest.mark.parametrize("warmup", [0, 5])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_a_cosine_ends_at_its_floor_as_torch_s_does(warmup, floor):
    expected = torch_s(
        lambda tried: CosineAnnealingLR(tried, TOTAL - warmup, eta_min=floor * RATE), warmup
    )
    found = ours(LRSchedule(name="cosine", warmup_steps=warmup, floor=floor))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_line_ends_at_its_floor_and_stays_there():
    schedule = LRSchedule(name="linear", floor=0.25, horizon_epochs=HORIZON)
    found = ours(schedule)
    half = HORIZON * STEPS // 2
    assert found[0] == RATE
    assert found[half] == pytest.approx((0.25 + 0.75 / 2) * RATE)
    assert found[HORIZON * STEPS :] == pytest.approx([0.25 * RATE] * (TOTAL - HORIZON * STEPS))


@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_wsd_warms_up_stays_and_falls_on_a_line(floor):
    # 42 steps: 4 of warm-up (0.08 of them is 3.36), a decay of 11 (0.25 of them is 10.5).
    schedule = LRSchedule(name="wsd", warmup_share=0.08, decay_share=0.25, floor=floor)
    found = [rate / RATE for rate in ours(schedule)]
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[4:32] == [1.0] * 28
    falling = [1 - (1 - floor) * step / 11 for step in range(11)]
    assert found[31:] == pytest.approx(falling)


def test_wsd_counts_its_decay_back_from_the_horizon():
    found = ours(LRSchedule(name="wsd", decay_share=0.5, horizon_epochs=2 * EPOCHS))
    assert found == [RATE] * TOTAL
    found = ours(LRSchedule(name="wsd", horizon_epochs=HORIZON))
    # 28 steps, of which the last 6 fall (0.2 of them is 5.6), and the rest of the run at zero.
    falling = [1.0] * 22 + [1 - step / 6 for step in range(6)] + [0.0] * 14
    assert found == pytest.approx([RATE * each for each in falling])


@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_wsd_is_transformers_own(floor):
    optimization = pytest.importorskip("transformers.optimization")
    theirs = optimization.get_wsd_schedule(
        optimizer(), 4, 11, num_training_steps=TOTAL, decay_type="linear", min_lr_ratio=floor
    ).lr_lambdas[0]
    found = ours(LRSchedule(name="wsd", warmup_steps=4, decay_share=0.25, floor=floor))
    after = range(4, TOTAL)
    assert [found[n] / RATE for n in after] == pytest.approx([theirs(n) for n in after])


def test_a_warm_up_into_the_decay_of_wsd_is_refused():
    schedule = LRSchedule(name="wsd", warmup_share=0.6, decay_share=0.5)
    config = TrainConfig(learning_rate=RATE, epochs=EPOCHS, lr_schedule=schedule)
    with pytest.raises(TrainerError, match="takes 26 steps and wsd's decay begins after 21"):
        check_warmup(config, length_of(config, STEPS))


LONG = LRSchedule(warmup_steps=TOTAL + 1)
OVER_THE_HORIZON = LRSchedule(
    name="linear", warmup_steps=HORIZON * STEPS + 1, horizon_epochs=HORIZON
)
OVER_THE_RUN = LRSchedule(warmup_share=0.51, horizon_epochs=2 * EPOCHS)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (LONG, "takes 43 steps and the run only 42"),
        (OVER_THE_HORIZON, "takes 29 steps and the run only 28"),
        (OVER_THE_RUN, "takes 43 steps and the run only 42"),
    ],
)
def test_a_warm_up_longer_than_the_run_or_the_horizon_is_refused(schedule, said):
    config = TrainConfig(learning_rate=RATE, epochs=EPOCHS, lr_schedule=schedule)
    with pytest.raises(TrainerError, match=said) as caught:
        check_warmup(config, length_of(config, STEPS))
    assert "\n" not in str(caught.value)


def test_a_warm_up_may_take_the_whole_run():
    schedule = LRSchedule(name="cosine", warmup_steps=TOTAL)
    config = TrainConfig(learning_rate=RATE, epochs=EPOCHS, lr_schedule=schedule)
    check_warmup(config, length_of(config, STEPS))
    found = ours(schedule)
    assert found == pytest.approx([RATE * (step + 1) / TOTAL for step in range(TOTAL)])


def test_the_warm_up_is_steps_or_a_share():
    with pytest.raises(ValueError, match=r"warmup_steps \(3\) and lr_schedule\.warmup_share"):
        LRSchedule(warmup_steps=3, warmup_share=0.1)


def test_clipping_as_the_design_says():
    limits = [clip_norm(DEFAULT, epochs_done) for epochs_done in range(50)]
    assert limits == [0.5] * 10 + [1.0] * 20 + [2.0] * 20


def test_clipping_may_come_in_any_order_and_begin_late():
    assert clip_norm([(5, 2.0), (1, 1.0)], 0) == math.inf
    assert [clip_norm([(5, 2.0), (1, 1.0)], done) for done in (1, 4, 5, 9)] == [1.0, 1.0, 2.0, 2.0]
    assert clip_norm([], 3) == math.inf
