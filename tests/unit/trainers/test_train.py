"""The loop, driven as its consumers drive it, on real text with a tiny model."""

import dataclasses
import functools
import itertools
import math
import types
import warnings

import pytest
import torch
from torch.nn import functional as F
from training import write_docstrings

import trainers.precision
import trainers.train
from trainers import checkpoint
from trainers.batches import Batches
from trainers.config import DataConfig, LRSchedule, ModelConfig, TrainConfig
from trainers.data import build_corpus
from trainers.data.corpus import write as write_corpus
from trainers.errors import TrainerError
from trainers.evaluate import Evaluation, evaluate
from trainers.member import Member
from trainers.models import build_model
from trainers.precision.half import HalfProducts
from trainers.report import Outcome, Progress, Report, Verdict
from trainers.steps.cohort import step_alone
from trainers.train import train

CPU = torch.device("cpu")
STEPS = 3


def epoch_of(said):
    """The epoch that something was said in, counted from 1."""
    return math.ceil(said.step / STEPS)


MODEL = {"embed": 8, "hidden": 16, "layers": 2, "context": 8, "dropout": 0.2}
COSINE = LRSchedule(name="cosine", warmup_steps=3, horizon_epochs=50)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study's folder with its corpus: docstrings of the standard library."""
    folder = tmp_path_factory.mktemp("study")
    text = write_docstrings(folder)
    data = DataConfig(
        name=str(text),
        window=8,
        stride=4,
        vocabulary_size=120,
        train_sequences=44,
        validation_sequences=30,
    )
    write_corpus(build_corpus(data), folder / "corpus.safetensors")
    return types.SimpleNamespace(folder=folder, data=data, numbers=itertools.count())


@pytest.fixture
def folder(study):
    """Makes a trial's folder beside the study's corpus."""
    return lambda: study.folder / f"{next(study.numbers):04d}"


@pytest.fixture
def make(study):
    """Makes a config, by default one that trains two epochs of three steps, the last partial."""

    def config(**changes):
        plain = {
            "learning_rate": 1e-2,
            "batch_size": 16,
            "epochs": 2,
            "patience": 100,
            "model": ModelConfig(options=MODEL),
            "data": study.data,
        }
        return TrainConfig(**{**plain, **changes})

    return config


@pytest.fixture(autouse=True)
def no_progress_by_the_clock(request, monkeypatch):
    """On a busy machine a step takes half a second, and a Progress would come between."""
    if "twice_a_second" not in request.node.name:
        monkeypatch.setattr(trainers.train, "PROGRESS_INTERVAL_S", math.inf)


@pytest.fixture
def every_step_speaks(no_progress_by_the_clock, monkeypatch):
    monkeypatch.setattr(trainers.train, "PROGRESS_INTERVAL_S", 0.0)


@dataclasses.dataclass
class Run:
    """All that a run said."""

    said: list
    ending: object
    directory: object

    @property
    def reports(self):
        return [said for said in self.said if isinstance(said, Report)]

    @property
    def progress(self):
        return [said for said in self.said if isinstance(said, Progress)]

    @property
    def outcome(self):
        return self.ending.outcome

    @property
    def state(self):
        return checkpoint.read(self.directory / checkpoint.LAST)


def drive(config, directory, answer=lambda said: Verdict.CONTINUE):
    """A consumer."""
    training, said, verdict = train(config, device="cpu", directory=directory), [], None
    while True:
        try:
            said.append(training.send(verdict))
        except StopIteration as stop:
            return Run(said, stop.value, directory)
        verdict = answer(said[-1])


def leave(config, directory, last):
    """A consumer that dies as it hears what `last` is true of."""
    training = train(config, device="cpu", directory=directory)
    heard = next(said for said in training if last(said))
    training.close()
    return heard


def bits(reports):
    """What must repeat: all but the clock's and the process's figures."""
    return [dataclasses.replace(r, tokens_per_second=0.0, peak_memory_bytes=0) for r in reports]


def equal(first, second):
    """The same numbers, down to the bit, in nested states."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


def assert_same_run(first, second, parts=("model", "optimizer", "scheduler", "precision")):
    assert bits(first.reports) == bits(second.reports)
    for part in parts:
        assert equal(first.state[part], second.state[part]), part


def replace_step(monkeypatch, step):
    def together(members, batches):
        return [step(member, batch) for member, batch in zip(members, batches, strict=True)]

    monkeypatch.setattr(trainers.train, "step_together", together)


def refuse_to_train(monkeypatch):
    def step(*_):
        raise AssertionError("it trained")

    replace_step(monkeypatch, step)


# --- one run, whole


def test_a_run_reports_every_epoch_and_completes(make, folder):
    run = drive(make(epochs=4), folder())
    assert [report.epoch for report in run.reports] == [1, 2, 3, 4]
    assert run.outcome is Outcome.COMPLETED
    losses = [report.validation_loss for report in run.reports]
    assert losses == sorted(losses, reverse=True), "it learns"
    for report in run.reports:
        assert 0 <= report.accuracy <= 1
        assert report.tokens_per_second > 0
        assert report.peak_memory_bytes > 2**20
        assert report.skipped_steps == 0
        assert report.learning_rate == 1e-2


def test_the_corpus_is_the_study_s(make, folder):
    directory = folder()
    drive(make(epochs=1), directory)
    assert sorted(path.name for path in directory.iterdir()) == ["best.pt", "last.pt"]


def test_a_batch_over_the_data_is_refused(make, folder, study):
    with pytest.raises(TrainerError, match="batch_size 45 is over the 44 training sequences"):
        drive(make(batch_size=45), folder())
    assert drive(make(batch_size=44), folder()).outcome is Outcome.COMPLETED


def test_the_training_loss_is_the_token_mean_over_the_epoch(make, folder, study):
    """At a rate that moves no weight it is a fixed model's loss; batches differ in targets."""
    options = {**MODEL, "dropout": 0.0}
    config = make(learning_rate=1e-30, epochs=1, model=ModelConfig(options=options))
    directory = folder()
    found = drive(config, directory).reports[0].train_loss
    corpus = build_corpus(study.data)
    model = build_model(config.model, len(corpus.vocabulary))
    model.load_state_dict(checkpoint.read(directory / checkpoint.BEST)["model"])
    nats, targets = 0.0, 0
    for tokens, length in zip(corpus.train.tokens, corpus.train.lengths, strict=True):
        with torch.no_grad():
            logits = model(tokens[None, : length - 1])[0].double()
        nats += float(F.cross_entropy(logits, tokens[1:length], reduction="sum"))
        targets += int(length - 1)
    assert found == pytest.approx(nats / targets, rel=1e-6)


def test_the_same_seed_is_the_same_run_and_another_seed_another(make, folder):
    first = drive(make(), folder())
    torch.manual_seed(99)
    assert_same_run(first, drive(make(), folder()))
    other = drive(make(seed=1), folder())
    assert not equal(first.state["model"], other.state["model"])
    assert bits(first.reports) != bits(other.reports)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_with_autocast_and_scaler_off_it_is_fp32_bit_for_bit(make, folder, precision, monkeypatch):
    plain = drive(make(epochs=3), folder())
    low = drive(make(epochs=3, precision=precision), folder())
    monkeypatch.setattr(trainers.train, "Member", functools.partial(Member, half=False))
    off = drive(make(epochs=3, precision=precision), folder())
    assert_same_run(plain, off)
    assert not equal(plain.state["model"], low.state["model"]), "the precision does something"
    # It is the same training all the same.
    assert low.reports[-1].validation_loss == pytest.approx(
        plain.reports[-1].validation_loss, rel=0.05
    )


@pytest.mark.parametrize("name", ["context_vector", "gpt"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_torch_warns_of_nothing(make, folder, name, precision, optimizer):
    options = MODEL if name == "context_vector" else {"width": 8, "layers": 1, "heads": 2}
    config = make(
        epochs=1,
        precision=precision,
        optimizer=optimizer,
        weight_decay=0.1,
        lr_schedule=COSINE,
        model=ModelConfig(name=name, options=options),
    )
    directory = folder()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drive(config, directory)
        run = drive(dataclasses.replace(config, epochs=2), directory)
    assert len(run.reports) == 2


# --- rates


def test_the_rate_in_a_report_is_the_epoch_s_last(make, folder):
    constant = drive(make(lr_schedule=LRSchedule(warmup_steps=4)), folder())
    assert [r.learning_rate for r in constant.reports] == pytest.approx([7.5e-3, 1e-2])
    cosine = drive(make(lr_schedule=LRSchedule(name="cosine")), folder())
    steps = 2 * STEPS
    assert [r.learning_rate for r in cosine.reports] == pytest.approx(
        [0.5e-2 * (1 + math.cos(math.pi * step / steps)) for step in (2, 5)]
    )


def test_a_warm_up_longer_than_the_run_is_refused_before_the_first_step(make, folder):
    config = make(epochs=2, lr_schedule=LRSchedule(warmup_steps=2 * STEPS + 1))
    with pytest.raises(TrainerError, match=f"takes {2 * STEPS + 1} steps and the run only"):
        drive(config, folder())


def test_skipped_steps_are_counted_and_do_not_advance_the_rate(make, folder, monkeypatch):
    monkeypatch.setattr(trainers.precision, "INITIAL_SCALE", 2.0**60)
    run = drive(make(precision="fp16", epochs=30, lr_schedule=COSINE), folder())
    assert run.outcome is Outcome.COMPLETED
    skipped = [report.skipped_steps for report in run.reports]
    assert skipped[0] == STEPS, "no gradient survives such a scale"
    assert sum(skipped) > 30
    assert run.reports[0].learning_rate == pytest.approx(1e-2 / 3), "the rate waits with them"
    assert run.state["scheduler"]["last_epoch"] == 30 * STEPS - sum(skipped)
    steps = next(iter(run.state["optimizer"]["state"].values()))["step"]
    assert steps == 30 * STEPS - sum(skipped)
    # An epoch without a step has the first weights' loss, so its training loss was counted.
    assert run.reports[0].validation_loss == run.reports[1].validation_loss
    assert math.isfinite(run.reports[0].train_loss)


def test_an_infinite_loss_that_was_skipped_is_not_part_of_the_mean(make, folder, monkeypatch):
    finite = []

    def step(member, batch):
        nats, stepped = step_alone(member, batch)
        if len(finite) == 2:
            return nats + math.inf, False
        finite.append((float(nats), batch.targets))
        return nats, stepped

    replace_step(monkeypatch, step)
    report = drive(make(epochs=1), folder()).reports[0]
    nats, targets = map(sum, zip(*finite, strict=True))
    assert report.train_loss == pytest.approx(nats / targets, rel=1e-12)
    assert report.skipped_steps == 1


# --- going on


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("schedule", [LRSchedule(), COSINE], ids=["constant", "cosine"])
def test_50_epochs_are_20_and_30_bit_for_bit(make, folder, precision, schedule, monkeypatch):
    # So that the scale grows, overflows and falls on both sides of the seam.
    monkeypatch.setattr(trainers.precision, "GROWTH_INTERVAL", 5)
    config = make(precision=precision, lr_schedule=schedule, epochs=50)
    whole = drive(config, folder())
    directory = folder()
    first = drive(dataclasses.replace(config, epochs=20), directory)
    assert (len(first.reports), first.outcome) == (20, Outcome.COMPLETED)
    second = drive(config, directory)
    assert (len(second.reports), second.outcome) == (50, Outcome.COMPLETED)
    before = [dataclasses.replace(report, steps=50 * STEPS) for report in first.reports]
    assert second.reports[:20] == before, "as they were said, speed included"
    assert_same_run(whole, second)
    best = [checkpoint.read(run.directory / checkpoint.BEST) for run in (whole, second)]
    assert best[0]["report"]["epoch"] == best[1]["report"]["epoch"]
    assert equal(best[0]["model"], best[1]["model"])
    skipped = [report.skipped_steps for report in whole.reports]
    assert (sum(skipped[20:]) > 0) == (precision == "fp16")


def test_a_cosine_over_the_run_s_own_epochs_cannot_be_extended(make, folder):
    directory = folder()
    config = make(epochs=2, lr_schedule=LRSchedule(name="cosine"))
    drive(config, directory)
    with pytest.raises(TrainerError, match=r"lr_schedule\.horizon_epochs"):
        drive(dataclasses.replace(config, epochs=3), directory)
    assert len(drive(config, directory).reports) == 2


def test_another_run_s_checkpoint_is_refused_naming_the_field(make, folder):
    directory = folder()
    drive(make(), directory)
    with pytest.raises(TrainerError, match=r"learning_rate = 0\.01, not 0\.02"):
        drive(make(learning_rate=0.02), directory)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("at", [(1, 2), (3, 1), (3, STEPS)])
def test_a_pause_inside_an_epoch_repeats_it_bit_for_bit(
    make, folder, precision, at, every_step_speaks
):
    config = make(precision=precision, epochs=4, lr_schedule=COSINE)
    directory = folder()
    step = (at[0] - 1) * STEPS + at[1]

    def pause(said):
        here = isinstance(said, Progress) and said.step == step
        return Verdict.PAUSE if here else Verdict.CONTINUE

    first = drive(config, directory, pause)
    assert first.outcome is Outcome.PAUSED
    assert first.said[-1].step == step
    assert len(first.reports) == at[0] - 1
    torch.rand(5)
    assert_same_run(drive(config, folder()), drive(config, directory))


# --- a budget in steps or tokens: reports at steps, across the ends of epochs


def test_as_many_steps_or_tokens_are_the_same_run(make, folder):
    whole = drive(make(epochs=2), folder())
    tokens = whole.reports[-1].tokens
    for budget in ({"steps": 2 * STEPS}, {"tokens": tokens}):
        run = drive(make(**budget, evaluate_every=STEPS), folder())
        assert run.outcome is Outcome.COMPLETED
        assert_same_run(whole, run)


def test_reports_between_epochs_count_every_step_once(make, folder):
    whole, often = (
        drive(make(epochs=3), folder()),
        drive(make(epochs=3, evaluate_every=2), folder()),
    )
    assert [(r.step, r.epoch) for r in often.reports] == [(2, 0), (4, 1), (6, 2), (8, 2), (9, 3)]
    first, last = whole.reports[-1], often.reports[-1]
    assert (first.tokens, first.validation_loss) == (last.tokens, last.validation_loss)
    assert equal(whole.state["model"], often.state["model"])


@pytest.mark.parametrize("at", [1, 2, 4, 5, 7])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_pause_between_reports_repeats_no_step(
    make, folder, precision, at, every_step_speaks, monkeypatch
):
    config = make(precision=precision, steps=8, evaluate_every=5, lr_schedule=COSINE)
    directory, taken = folder(), []
    expected = drive(config, folder())

    def pause(said):
        here = isinstance(said, Progress) and said.step == at
        return Verdict.PAUSE if here else Verdict.CONTINUE

    def step(member, batch):
        taken.append(member.step)
        return step_alone(member, batch)

    replace_step(monkeypatch, step)
    assert drive(config, directory, pause).outcome is Outcome.PAUSED
    assert_same_run(expected, drive(config, directory))
    assert taken == [*range(8)]


def test_what_dies_goes_on_from_the_last_checkpoint_between_reports(
    make, folder, every_step_speaks, monkeypatch
):
    config, directory, taken = make(steps=8, checkpoint_every=3), folder(), []
    config = dataclasses.replace(config, evaluate_every=8)
    leave(config, directory, lambda said: isinstance(said, Progress) and said.step == 5)

    def step(member, batch):
        taken.append(member.step)
        return step_alone(member, batch)

    replace_step(monkeypatch, step)
    run = drive(config, directory)
    assert taken == [3, 4, 5, 6, 7]
    assert_same_run(drive(dataclasses.replace(config, checkpoint_every=0), folder()), run)


def test_a_run_in_steps_may_be_extended(make, folder):
    directory = folder()
    drive(make(steps=4, evaluate_every=2), directory)
    run = drive(make(steps=8, evaluate_every=2), directory)
    assert_same_run(drive(make(steps=8, evaluate_every=2), folder()), run)
    plain, decaying = LRSchedule(name="linear"), folder()
    drive(make(steps=4, lr_schedule=plain), decaying)
    with pytest.raises(TrainerError, match=r"horizon_epochs = 4 steps, not 8 steps; a decay"):
        drive(make(steps=8, lr_schedule=plain), decaying)


def test_a_consumer_that_dies_inside_an_epoch_loses_only_that(make, folder, every_step_speaks):
    config = make(precision="fp16", epochs=3)
    directory = folder()
    leave(config, directory, lambda said: isinstance(said, Progress) and epoch_of(said) == 2)
    assert HalfProducts._entered == 0
    assert_same_run(drive(config, folder()), drive(config, directory))


def test_a_pause_at_a_report_keeps_its_epoch(make, folder):
    config = make(epochs=3)
    directory = folder()
    first = drive(config, directory, lambda said: Verdict.PAUSE)
    assert (len(first.reports), first.outcome) == (1, Outcome.PAUSED)
    assert_same_run(drive(config, folder()), drive(config, directory))


def test_stored_reports_come_first_then_training_goes_on(
    make, folder, every_step_speaks, monkeypatch
):
    directory = folder()
    stored = drive(make(epochs=3), directory).reports
    run = drive(make(epochs=4), directory)
    assert run.said[:3] == [dataclasses.replace(said, steps=4 * STEPS) for said in stored]
    assert {epoch_of(said) for said in run.said[3:]} == {4}
    assert len(run.progress) == STEPS
    refuse_to_train(monkeypatch)
    again = drive(make(epochs=4), directory)
    assert again.said == run.reports, "a completed run only says again what it said"
    assert again.outcome is Outcome.COMPLETED


@pytest.mark.parametrize(
    ("verdict", "outcome"), [(Verdict.PRUNE, Outcome.PRUNED), (Verdict.PAUSE, Outcome.PAUSED)]
)
def test_a_verdict_on_a_stored_report_is_obeyed(make, folder, verdict, outcome, monkeypatch):
    directory = folder()
    drive(make(epochs=3), directory)
    refuse_to_train(monkeypatch)
    run = drive(
        make(epochs=4), directory, lambda said: verdict if epoch_of(said) == 2 else Verdict.CONTINUE
    )
    assert (len(run.said), run.outcome) == (2, outcome)


def test_prune_ends_a_run(make, folder, every_step_speaks):
    run = drive(
        make(epochs=3), folder(), lambda said: Verdict.PRUNE if epoch_of(said) == 2 else None
    )
    # What is said inside an epoch waits for no verdict on the trial: only PAUSE is taken there.
    assert (len(run.reports), run.outcome) == (2, Outcome.PRUNED)
    assert run.said[-1] == run.reports[-1]


# --- crashes around a checkpoint


def test_a_crash_between_checkpoint_and_report_loses_no_epoch(make, folder, monkeypatch):
    """The consumer is gone as the report would reach it: the next run says it first."""
    config = make(epochs=3)
    directory = folder()
    heard = leave(config, directory, lambda said: epoch_of(said) == 2)
    with monkeypatch.context() as still:
        refuse_to_train(still)
        replayed = drive(
            config, directory, lambda said: Verdict(["continue", "pause"][epoch_of(said) - 1])
        )
    assert replayed.reports[-1] == heard
    assert_same_run(drive(config, folder()), drive(config, directory))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["save", "write"])
def test_a_kill_before_or_between_the_checkpoints_repeats_the_epoch(
    make, folder, moment, monkeypatch
):
    """`best.pt` is written first, then `last.pt`: the process dies before either."""
    config = make(epochs=3)
    directory = folder()
    real = getattr(checkpoint, moment)
    calls = itertools.count(1)

    def killed(*arguments):
        if next(calls) == 3:
            raise Killed
        real(*arguments)

    with monkeypatch.context() as dying:
        dying.setattr(checkpoint, moment, killed)
        with pytest.raises(Killed):
            drive(config, directory)
    assert_same_run(drive(config, folder()), drive(config, directory))


def test_a_spoilt_last_checkpoint_costs_one_epoch(make, folder, every_step_speaks):
    config = make(epochs=3, precision="fp16")
    directory = folder()
    drive(config, directory)
    last = directory / checkpoint.LAST
    content = last.read_bytes()
    last.unlink()
    last.write_bytes(content[: len(content) // 2])
    run = drive(config, directory)
    assert {epoch_of(said) for said in run.progress} == {3}
    assert_same_run(drive(config, folder()), run)


def test_with_every_checkpoint_spoilt_the_run_starts_anew(make, folder, every_step_speaks):
    config = make()
    directory = folder()
    drive(config, directory)
    for name in (checkpoint.LAST, checkpoint.PREVIOUS):
        (directory / name).unlink()
        (directory / name).write_bytes(b"spoilt")
    run = drive(config, directory)
    assert {epoch_of(said) for said in run.progress} == {1, 2}
    assert_same_run(drive(config, folder()), run)


# --- early stopping and the best epoch


def test_early_stopping(make, folder, monkeypatch):
    """No improvement at such a rate: the first epoch is the best, then patience runs out."""
    config = make(learning_rate=1e-20, epochs=9, patience=3)
    directory = folder()
    run = drive(config, directory)
    assert (len(run.reports), run.outcome) == (4, Outcome.EARLY_STOPPED)
    refuse_to_train(monkeypatch)
    again = drive(config, directory)
    assert (again.reports, again.outcome) == (run.reports, Outcome.EARLY_STOPPED)


def test_patience_spent_in_the_last_epoch_is_said(make, folder):
    run = drive(make(learning_rate=1e-20, epochs=4, patience=3), folder())
    assert (len(run.reports), run.outcome) == (4, Outcome.EARLY_STOPPED)


def test_an_improvement_below_min_delta_is_none(make, folder):
    slow = {"learning_rate": 1e-4, "epochs": 5, "patience": 2}
    assert drive(make(**slow, min_delta=0.0), folder()).outcome is Outcome.COMPLETED
    run = drive(make(**slow, min_delta=10.0), folder())
    assert (len(run.reports), run.outcome) == (3, Outcome.EARLY_STOPPED)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_best_holds_the_best_epoch_s_weights_exactly(make, folder, study, precision):
    directory = folder()
    config = make(learning_rate=0.1, epochs=25, patience=10, precision=precision)
    run = drive(config, directory)
    lowest = min(run.reports, key=lambda report: report.validation_loss)
    assert lowest.epoch < len(run.reports), "the run must go past its best"
    best = checkpoint.read(directory / checkpoint.BEST)
    assert best["report"] == dataclasses.asdict(lowest)
    corpus = build_corpus(study.data)
    model = build_model(config.model, len(corpus.vocabulary))
    model.load_state_dict(best["model"])
    found = evaluate(model, Batches(corpus.validation, CPU))
    assert (found.loss, found.accuracy) == (lowest.validation_loss, lowest.accuracy)


# --- divergence and overflow are endings


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_huge_rate_diverges_with_its_reason_and_without_a_report(
    make, folder, precision, monkeypatch
):
    monkeypatch.setattr(trainers.precision, "INITIAL_SCALE", 2.0**10)  # no step is skipped
    directory = folder()
    run = drive(make(learning_rate=1e30, precision=precision), directory)
    assert run.outcome is Outcome.DIVERGED
    assert run.ending.message.startswith("diverged by step 3: ")
    assert run.said == []
    assert list(directory.iterdir()) == []
    assert drive(make(learning_rate=1e30, precision=precision), directory).ending == run.ending


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loss_that_is_not_finite_ends_the_epoch_there(make, folder, precision, monkeypatch):
    monkeypatch.setattr(trainers.train, "PROGRESS_INTERVAL_S", 0.0)
    taken = []

    def step(member, batch):
        taken.append(step_alone(member, batch))
        return taken[-1]

    replace_step(monkeypatch, step)
    one = make(learning_rate=1e30, precision=precision, batch_size=1, clip_schedule=())
    run = drive(one, folder())
    assert run.outcome is Outcome.DIVERGED
    assert run.ending.message == (f"diverged by step {len(taken)}: its loss is not finite")
    assert len(taken) < 10, "of 44 steps"


def test_deterministic_gives_the_same_bits_and_is_torch_s_own(make, folder):
    try:
        first, second = (drive(make(deterministic=True), folder()) for _ in range(2))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same_run(first, second)


def test_a_run_leaves_the_process_s_random_numbers_alone(make, folder):
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    drive(make(), folder())
    assert torch.equal(torch.rand(4), expected)


def test_a_run_that_diverges_late_keeps_its_reports(make, folder, monkeypatch):
    monkeypatch.setattr(trainers.train, "PROGRESS_INTERVAL_S", math.inf)

    def step(member, batch):
        taken = step_alone(member, batch)
        if len(member.history) == 2:
            with torch.no_grad():
                member.model.head.weight.fill_(torch.nan)
        return taken

    replace_step(monkeypatch, step)
    directory = folder()
    run = drive(make(epochs=4), directory)
    assert [report.epoch for report in run.reports] == [1, 2]
    assert run.ending.message == "diverged by step 9: the parameters are not finite"
    assert len(checkpoint.read(directory / checkpoint.LAST)["history"]) == 2
    assert_same_run(run, drive(make(epochs=4), directory))


def test_parameters_that_are_not_finite_diverge_though_the_loss_is_finite(
    make, folder, monkeypatch
):
    """The embedding of padding is never read."""

    def step(member, batch):
        taken = step_alone(member, batch)
        assert taken[0].isfinite()
        with torch.no_grad():
            member.model.embedding.weight[0] = torch.inf
        return taken

    replace_step(monkeypatch, step)
    run = drive(make(), folder())
    assert run.outcome is Outcome.DIVERGED
    assert run.ending.message == "diverged by step 3: the parameters are not finite"


@pytest.mark.parametrize("loss", [math.inf, math.nan, 800.0])
def test_a_perplexity_that_is_not_finite_diverges(make, folder, monkeypatch, loss):
    monkeypatch.setattr(trainers.train, "evaluate_all", lambda *_: [Evaluation(loss, 0.0)])
    run = drive(make(), folder())
    assert run.outcome is Outcome.DIVERGED
    assert run.ending.message == "diverged by step 3: the perplexity is not finite"


@pytest.fixture
def too_large_for_fp16(monkeypatch):
    """Weights that are finite in FP32 and infinite in FP16: so are all its losses."""

    class Large(Member):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            with torch.no_grad():
                self.model.head.weight.fill_(1e5)

    monkeypatch.setattr(trainers.train, "Member", Large)


def test_an_epoch_without_a_finite_training_loss_diverges(make, folder, too_large_for_fp16):
    run = drive(make(precision="fp16"), folder())
    assert run.outcome is Outcome.DIVERGED
    assert run.ending.message == "diverged by step 3: no step had a finite training loss"
    assert drive(make(), folder()).outcome is Outcome.COMPLETED, "in FP32 it trains"


def test_the_scale_at_its_floor_is_an_overflow(make, folder, too_large_for_fp16, monkeypatch):
    monkeypatch.setattr(trainers.precision, "INITIAL_SCALE", 4.0)
    run = drive(make(precision="fp16"), folder())
    assert run.outcome is Outcome.OVERFLOW
    assert run.ending.message == Outcome.OVERFLOW.sentence
    assert run.said == []


# --- progress


class Clock:
    """A clock that a look moves on."""

    def __init__(self, tick):
        self.now = 0.0
        self.tick = tick

    def monotonic(self):
        self.now += self.tick
        return self.now


@pytest.mark.parametrize("tick", [0.01, 0.11, 0.3, 2.0])
def test_progress_comes_at_most_twice_a_second(make, folder, monkeypatch, tick):
    clock = Clock(tick)
    monkeypatch.setattr(trainers.train, "time", clock)
    times = []

    def note(said):
        if isinstance(said, Progress):
            times.append(clock.now)

    run = drive(make(batch_size=2, epochs=2), folder(), note)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(gap >= 0.5 for gap in gaps)
    if tick == 0.01:
        assert run.progress == []
    else:
        assert len(run.progress) >= min(1.0, tick) * 2 * 22 / 4


def test_rows_that_are_fewer_than_the_batch_s_are_said_before_the_first_step(make, folder):
    run = drive(make(micro_batch=4), folder())
    assert run.progress[0] == Progress(0, run.reports[0].steps, rows=4)


def test_progress_tells_the_last_step_s_loss_and_gradient_norm(
    make, folder, every_step_speaks, monkeypatch
):
    taken, norms = [], []

    def step(member, batch):
        taken.append(float(step_alone(member, batch)[0]) / batch.targets)
        norms.append(float(member.gradient_norm))
        return torch.tensor(taken[-1] * batch.targets), True

    replace_step(monkeypatch, step)
    run = drive(make(), folder())
    assert [said.train_loss for said in run.progress] == pytest.approx(taken, rel=1e-6)
    assert [said.gradient_norm for said in run.progress] == norms
    assert all(0 < norm < 100 for norm in norms)


def test_progress_counts_the_steps(make, folder, every_step_speaks):
    run = drive(make(), folder())
    assert [(said.step, said.steps) for said in run.progress] == [
        (step, 2 * STEPS) for step in range(1, 2 * STEPS + 1)
    ]
    assert all(said.tokens_per_second > 0 for said in run.progress)


# --- CUDA


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_short_training_on_cuda(make, folder, precision):
    """As on the CPU but for rounding; interrupted and resumed it reports the same epochs."""
    # Dropout is drawn by another generator there.
    model = ModelConfig(options=MODEL | {"dropout": 0.0})
    config = make(precision=precision, epochs=4, model=model)
    here = drive(config, folder())
    directory = folder()
    said = []
    for epochs in (2, 4):
        training = train(
            dataclasses.replace(config, epochs=epochs), device="cuda", directory=directory
        )
        said = [report for report in training if isinstance(report, Report)]
    assert [report.epoch for report in said] == [1, 2, 3, 4]
    tolerance = 1e-3 if precision == "fp32" else 0.02
    for report, other in zip(said, here.reports, strict=True):
        assert report.validation_loss == pytest.approx(other.validation_loss, rel=tolerance)
        assert 0 < report.peak_memory_bytes < 2**30
    best = checkpoint.read(directory / checkpoint.BEST)["report"]
    assert best["validation_loss"] == min(report.validation_loss for report in said)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_the_peak_is_the_run_s_own(make, folder):
    torch.empty(2**30, dtype=torch.uint8, device="cuda")
    training = train(make(epochs=1), device="cuda", directory=folder())
    reports = [said for said in training if isinstance(said, Report)]
    assert reports[0].peak_memory_bytes < 2**29
