"""A member's step: scale, backward, unscale, clip, step, update; its history and checkpoints."""

import dataclasses
import statistics

import pytest
import torch
from support import waiting_is_an_error

import trainers.precision
from trainers import checkpoint
from trainers.batches import Batches
from trainers.config import DataConfig, LRSchedule, ModelConfig, TrainConfig
from trainers.data import Sequences
from trainers.errors import TrainerError
from trainers.length import length_of
from trainers.member import Member
from trainers.report import Report
from trainers.steps.cohort import step_alone

CPU = torch.device("cpu")
VOCABULARY, WINDOW, ROWS, STEPS = 30, 8, 40, 4
MODEL = ModelConfig(options={"embed": 8, "hidden": 16, "layers": 2, "context": 8, "dropout": 0.2})
CONFIG = TrainConfig(learning_rate=1e-2, batch_size=10, epochs=6, model=MODEL)
NO_LIMIT = ()
SCALE = 2.0**10


@pytest.fixture(autouse=True)
def _scale_that_this_model_bears(monkeypatch):
    """The real one is 2^16: the scaler skips this model's first steps until it has halved it."""
    monkeypatch.setattr(trainers.precision, "INITIAL_SCALE", SCALE)


def member(half=True, steps=STEPS, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    return Member(config, VOCABULARY, length_of(config, steps), CPU, half=half)


def sequences():
    chance = torch.Generator().manual_seed(5)
    lengths = torch.randint(2, WINDOW + 1, (ROWS,), generator=chance)
    tokens = torch.randint(1, VOCABULARY, (ROWS, WINDOW), generator=chance)
    tokens = tokens.where(torch.arange(WINDOW) < lengths[:, None], 0)
    return Sequences(tokens, lengths, torch.ones_like(lengths))


@pytest.fixture
def batches():
    return list(Batches(sequences(), CPU).shuffled(CONFIG.batch_size, 0, 1))


def weights(one):
    return [parameter.detach().clone() for parameter in one.model.parameters()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def seeded_step(one, batch, seed=7):
    """A step whose dropout depends on nothing before it."""
    one.step = (seed - 1) * STEPS
    return step_alone(one, batch)


def gradients_of_a_step(one, batch, seed=7):
    """What the optimizer is given."""
    taken = []
    hook = one.optimizer.register_step_pre_hook(
        lambda *_: taken.extend(p.grad.clone() for p in one.model.parameters())
    )
    _, stepped = seeded_step(one, batch, seed)
    hook.remove()
    assert stepped
    return taken


def norm(gradients):
    return float(torch.cat([gradient.flatten() for gradient in gradients]).double().norm())


def report(epoch, perplexity):
    loss = float(torch.tensor(perplexity, dtype=torch.float64).log())
    return Report(
        step=epoch * STEPS,
        epoch=epoch,
        train_loss=loss,
        validation_loss=loss,
        accuracy=0.1,
        learning_rate=1e-2,
        tokens_per_second=1e4,
        peak_memory_bytes=2**20,
    )


# --- one loop for every precision


@pytest.mark.parametrize(
    ("name", "optimizer"), [("fp16", "adam"), ("fp16", "adamw"), ("bf16", "adam")]
)
def test_with_autocast_and_scaler_off_it_is_fp32_bit_for_bit(name, optimizer, batches):
    plain = member(optimizer=optimizer, precision="fp32")
    off = member(optimizer=optimizer, precision=name, half=False)
    on = member(optimizer=optimizer, precision=name)
    for seed in (1, 2):
        for batch in batches:
            losses = [seeded_step(one, batch, seed)[0] for one in (plain, off, on)]
            assert torch.equal(losses[0], losses[1])
    assert same(weights(plain), weights(off))
    assert plain.precision.state_dict() == off.precision.state_dict() == {}
    assert not same(weights(plain), weights(on)), "the low precision does something"


# --- unscale before clip


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_gradients_over_the_limit_are_clipped_by_their_true_norm(precision, batches):
    free = gradients_of_a_step(member(precision=precision, clip_schedule=NO_LIMIT), batches[0])
    limit = norm(free) / 3
    clipped = member(precision=precision, clip_schedule=((0, limit),))
    found = gradients_of_a_step(clipped, batches[0])
    # FP32's own clipping of the same gradients. Clipping before unscaling would give these
    # divided by another SCALE.
    expected = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in free]
    for parameter, gradient in zip(expected, free, strict=True):
        parameter.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(expected, limit)
    assert same(found, [parameter.grad for parameter in expected])
    assert norm(found) == pytest.approx(limit, rel=1e-4)


def test_gradients_below_the_limit_are_left_as_they_are(batches):
    """Scaled they are far above it: clipping before unscaling would shrink them."""
    free = gradients_of_a_step(member(precision="fp16", clip_schedule=NO_LIMIT), batches[0])
    limit = 2 * norm(free)
    assert norm(free) * SCALE > 100 * limit
    found = gradients_of_a_step(member(precision="fp16", clip_schedule=((0, limit),)), batches[0])
    assert same(found, free)


def test_fp16_s_gradients_are_about_fp32_s(batches):
    ratios = []
    for seed in range(
        15
    ):  # of dropout; some leave little but FP16's subnormals in so small a model
        single, half = (
            gradients_of_a_step(member(precision=name, clip_schedule=NO_LIMIT), batches[0], seed)
            for name in ("fp32", "fp16")
        )
        ratios.append(norm([a - b for a, b in zip(single, half, strict=True)]) / norm(single))
    # Unscaled wrongly it were a factor of 1,024.
    assert 0 < statistics.median(ratios) <= 0.1


def test_the_limit_goes_by_the_epochs_done(batches):
    one = member(clip_schedule=((0, 1e-3), (2, 2e-3)))
    found = []
    for epoch in (1, 2, 3, 4):
        found.append(norm(gradients_of_a_step(one, batches[0], epoch)))
    assert found == pytest.approx([1e-3, 1e-3, 2e-3, 2e-3], rel=1e-3)


# --- a step that the scaler skips


def poison(one, value):
    """Every gradient of one parameter becomes `value` in backward."""
    parameter = next(iter(one.model.head.parameters()))
    return parameter.register_hook(lambda gradient: torch.full_like(gradient, value))


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_an_infinite_gradient_skips_the_step_and_lowers_the_scale(value, batches):
    one = member(precision="fp16", lr_schedule=LRSchedule(name="cosine", warmup_steps=3), epochs=9)
    seeded_step(one, batches[0])
    before, state = weights(one), one.optimizer.state_dict()["state"]
    moments = {key: value["exp_avg"].clone() for key, value in state.items()}
    rate, count, scale = one.learning_rate, one.scheduler.last_epoch, one.precision.scale
    hook = poison(one, value)
    loss, stepped = seeded_step(one, batches[1])
    hook.remove()
    assert not stepped
    assert loss.isfinite()
    assert one.precision.scale == scale / 2
    assert not one.precision.overflowed
    assert same(weights(one), before)
    assert all(
        torch.equal(value["exp_avg"], moments[key])
        for key, value in one.optimizer.state_dict()["state"].items()
    )
    assert (one.learning_rate, one.scheduler.last_epoch) == (rate, count)
    _, stepped = seeded_step(one, batches[1])
    assert stepped
    assert not same(weights(one), before)
    assert one.scheduler.last_epoch == count + 1
    assert one.learning_rate > rate


def test_the_first_step_may_be_skipped_without_a_warning(batches):
    """Torch warns of a schedule that steps before its optimizer."""
    one = member(precision="fp16")
    hook = poison(one, torch.inf)
    assert not step_alone(one, batches[0])[1]
    hook.remove()
    assert step_alone(one, batches[0])[1]


def test_the_scale_at_its_floor_is_an_overflow(batches):
    one = member(precision="fp16")
    poison(one, torch.inf)
    skipped = 0
    while not one.precision.overflowed:
        assert not step_alone(one, batches[0])[1]
        skipped += 1
        assert skipped <= 10
    assert one.precision.scale == 1.0
    assert skipped == 10


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_a_scaler_it_is_no_skipped_step_but_a_divergence(precision, batches):
    one = member(precision=precision)
    assert one.finite()
    poison(one, torch.inf)
    assert step_alone(one, batches[0])[1]
    assert not one.finite()
    assert not one.precision.overflowed


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_one_broken_weight_is_found(value):
    one = member()
    with torch.no_grad():
        one.model.embedding.weight[0, 3] = value
    assert not one.finite()


def test_large_weights_are_finite():
    """Their squares' sum is not."""
    one = member()
    with torch.no_grad():
        one.model.embedding.weight.fill_(1e30)
    assert one.finite()


# --- the schedule and the optimizer


def test_the_rate_follows_the_steps_that_were_taken(batches):
    one = member(lr_schedule=LRSchedule(warmup_steps=4))
    rates = []
    for batch in [*batches, batches[0]]:
        rates.append(one.learning_rate)
        step_alone(one, batch)
    assert rates == pytest.approx([2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2])


def test_the_optimizer_is_the_config_s():
    one = member(optimizer="adamw", betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3)
    assert type(one.optimizer) is torch.optim.AdamW
    assert type(member().optimizer) is torch.optim.Adam
    group = one.optimizer.param_groups[0]
    assert group["betas"] == (0.8, 0.95)
    assert (group["lr"], group["eps"], group["weight_decay"]) == (1e-2, 1e-6, 0.3)


@pytest.mark.parametrize("horizon", [0, 6])
def test_wsd_is_not_stopped_early_before_its_decay_is_over(horizon, tmp_path):
    plateau = [report(epoch, 9.0) for epoch in range(1, 7)]
    schedule = LRSchedule(name="wsd", horizon_epochs=horizon)
    waiting, stopped = member(patience=2, lr_schedule=schedule), member(patience=2)
    for each in plateau[:5]:
        waiting.add_report(each, tmp_path / "waiting")
        stopped.add_report(each, tmp_path / "stopped")
    assert (waiting.patience_spent(), stopped.patience_spent()) == (False, True)
    waiting.add_report(plateau[5], tmp_path / "waiting")
    assert waiting.patience_spent()


def test_first_weights_are_the_seed_s_alone():
    first = weights(member())
    torch.rand(3)
    assert same(weights(member(learning_rate=0.5, precision="fp16", batch_size=2)), first)
    assert not same(weights(member(seed=1)), first)


# --- history


@pytest.mark.parametrize(
    ("perplexities", "spent"),
    [
        ([], False),
        ([9.0], False),
        ([9.0, 9.0, 9.0], False),
        ([9.0, 9.0, 9.0, 9.0], True),
        ([9.0, 8.95, 8.92, 8.91], True),  # each less than min_delta below the best
        ([9.0, 8.95, 8.92, 8.89], False),
        ([9.0, 9.5, 9.5, 8.0, 8.5, 8.5], False),
        ([9.0, 9.5, 9.5, 8.0, 8.5, 8.5, 8.5], True),
        ([9.0, 8.0, 7.0, 6.0], False),
    ],
)
def test_patience(perplexities, spent):
    one = member(patience=3, min_delta=0.1)
    one.history = [report(epoch, value) for epoch, value in enumerate(perplexities, 1)]
    assert one.patience_spent() is spent


def test_without_min_delta_an_equal_perplexity_is_no_improvement():
    one = member(patience=2, min_delta=0.0)
    one.history = [report(epoch, 9.0) for epoch in (1, 2, 3)]
    assert one.patience_spent()


def test_best_keeps_the_first_of_the_lowest(tmp_path, batches):
    one = member()
    kept = {}
    for epoch, value in enumerate([9.0, 8.0, 8.5, 8.0], 1):
        step_alone(one, batches[epoch - 1])
        kept[epoch] = {name: value.clone() for name, value in one.model.state_dict().items()}
        one.add_report(report(epoch, value), tmp_path)
    best = checkpoint.read(tmp_path / checkpoint.BEST)
    assert best["report"] == dataclasses.asdict(report(2, 8.0))
    assert all(torch.equal(best["model"][name], kept[2][name]) for name in kept[2])
    last = checkpoint.read(tmp_path / checkpoint.LAST)
    assert [Report(**fields).perplexity for fields in last["history"]] == pytest.approx(
        [9.0, 8.0, 8.5, 8.0]
    )
    assert all(torch.equal(last["model"][name], kept[4][name]) for name in kept[4])


# --- checkpoints


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_restored_member_is_the_same_in_all_that_matters(tmp_path, precision, batches):
    changes = {"precision": precision, "lr_schedule": LRSchedule(name="cosine", warmup_steps=3)}
    one = member(**changes)
    hook = poison(one, torch.inf) if precision == "fp16" else None
    if hook:  # a scale that is not the initial one
        step_alone(one, batches[0])
        hook.remove()
    step_alone(one, batches[0])
    one.add_report(report(1, 9.0), tmp_path)
    other = member(**changes)
    other.restore(tmp_path)
    assert [said.perplexity for said in other.history] == [said.perplexity for said in one.history]
    assert other.precision.state_dict() == one.precision.state_dict()
    for batch in batches:
        assert one.learning_rate == other.learning_rate
        assert torch.equal(seeded_step(one, batch)[0], seeded_step(other, batch)[0])
    assert same(weights(one), weights(other))


def test_without_a_checkpoint_nothing_is_restored(tmp_path):
    one = member()
    before = weights(one)
    one.restore(tmp_path)
    assert same(weights(one), before)
    assert one.history == []


COSINE, LINEAR = LRSchedule(name="cosine"), LRSchedule(name="linear")
SHARE = LRSchedule(warmup_share=0.5)
FIXED = LRSchedule(name="cosine", horizon_epochs=6)
FIXED_WSD = LRSchedule(name="wsd", horizon_epochs=6)
FIXED_SHARE = LRSchedule(warmup_share=0.5, horizon_epochs=6)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"learning_rate": 2e-2}, "learning_rate = 0.01, not 0.02"),
        ({"batch_size": 5}, "batch_size = 10, not 5"),
        ({"seed": 3}, "seed = 0, not 3"),
        ({"precision": "fp16"}, "precision = fp32, not fp16"),
        ({"clip_schedule": ((0, 1.0),)}, "clip_schedule = "),
        ({"betas": (0.5, 0.9)}, r"betas = \(0.9, 0.999\), not \(0.5, 0.9\)"),
        ({"data": DataConfig(window=32, stride=16)}, "data.window = 64, not 32"),
        ({"lr_schedule": COSINE}, "lr_schedule.name = constant, not cosine"),
        (
            {"model": ModelConfig(options={**MODEL.options, "hidden": 17})},
            "model.options.hidden = 16, not 17",
        ),
        (
            {"model": ModelConfig(options={"embed": 8, "hidden": 16, "layers": 2, "context": 8})},
            "model.options.dropout = 0.2, not unset",
        ),
    ],
)
def test_another_run_s_checkpoint_is_refused_naming_the_field(tmp_path, changes, difference):
    member().add_report(report(1, 9.0), tmp_path)
    other = member(**{"model": MODEL, **changes})
    with pytest.raises(TrainerError, match=f"was trained with {difference}") as caught:
        other.restore(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "schedule", [LRSchedule(), LRSchedule(warmup_steps=3), FIXED, FIXED_WSD, FIXED_SHARE]
)
def test_more_epochs_extend_a_run_whose_rate_they_do_not_change(tmp_path, schedule):
    member(lr_schedule=schedule).add_report(report(1, 9.0), tmp_path)
    other = member(lr_schedule=schedule, epochs=20)
    other.restore(tmp_path)
    assert len(other.history) == 1


@pytest.mark.parametrize("schedule", [COSINE, LINEAR, SHARE], ids=["cosine", "linear", "share"])
def test_a_schedule_over_the_run_s_own_epochs_cannot_be_extended(tmp_path, schedule):
    member(lr_schedule=schedule).add_report(report(1, 9.0), tmp_path)
    with pytest.raises(TrainerError, match=r"epochs = 6, not 20; .*lr_schedule\.horizon_epochs"):
        member(lr_schedule=schedule, epochs=20).restore(tmp_path)


@pytest.mark.parametrize("schedule", [COSINE, LINEAR, SHARE], ids=["cosine", "linear", "share"])
def test_it_can_where_the_horizon_stays_the_run_s_own(tmp_path, schedule):
    first = member(lr_schedule=schedule)
    first.add_report(report(1, 9.0), tmp_path)
    fixed = dataclasses.replace(schedule, horizon_epochs=CONFIG.epochs)
    longer = member(lr_schedule=fixed, epochs=20)
    longer.restore(tmp_path)
    assert len(longer.history) == 1
    assert longer.learning_rate == first.learning_rate


def test_a_checkpoint_from_before_warmup_share_had_none(tmp_path):
    member().add_report(report(1, 9.0), tmp_path)
    stored = checkpoint.read(tmp_path / checkpoint.LAST)
    del stored["config"]["lr_schedule"]["warmup_share"]
    checkpoint.write(tmp_path / checkpoint.LAST, stored)
    now = member()
    now.restore(tmp_path)
    assert len(now.history) == 1
    with pytest.raises(TrainerError, match=r"with lr_schedule\.warmup_share = 0\.0, not 0\.5"):
        member(lr_schedule=SHARE).restore(tmp_path)


def test_a_checkpoint_of_another_vocabulary_is_one_line(tmp_path):
    member().add_report(report(1, 9.0), tmp_path)
    other = Member(CONFIG, VOCABULARY + 1, length_of(CONFIG, STEPS), CPU)
    with pytest.raises(TrainerError, match="does not fit this model and text: ") as caught:
        other.restore(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["model", "optimizer", "scheduler", "precision", "history"])
def test_a_checkpoint_without_all_its_parts_is_one_line(tmp_path, missing):
    member().add_report(report(1, 9.0), tmp_path)
    state = checkpoint.read(tmp_path / checkpoint.LAST)
    del state[missing]
    checkpoint.save(tmp_path, state)
    with pytest.raises(TrainerError, match=missing):
        member().restore(tmp_path)


# --- CUDA


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_a_user_s_recurrence_is_fp32_and_not_tf32():
    member()
    torch.manual_seed(0)
    model, x = torch.nn.GRU(256, 256), torch.randn(20, 8, 256)
    expected = model.double()(x.double())[0]
    found = model.float().cuda()(x.cuda())[0].cpu()
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_cuda_a_step_never_makes_the_host_wait(precision):
    """FP16's scaler waits once a step, the others not at all."""
    device = torch.device("cuda")
    config = dataclasses.replace(CONFIG, precision=precision)
    one = Member(config, VOCABULARY, length_of(config, STEPS), device)
    batches = list(Batches(sequences(), device).shuffled(CONFIG.batch_size, 0, 1))
    for batch in 2 * batches:  # what is only done once
        step_alone(one, batch)
    with waiting_is_an_error():
        for batch in batches:
            step_alone(one, batch)
