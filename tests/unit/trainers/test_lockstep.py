"""Runs side by side: each is the run that it would be alone."""

import dataclasses

import pytest
import torch
from torch import nn

import trainers.models
from trainers.config import DataConfig, ModelConfig, TrainConfig
from trainers.errors import TrainerError
from trainers.lockstep import Lockstep
from trainers.models import model_names
from trainers.report import Ending, Outcome, Progress, Report, Verdict
from trainers.train import train, train_stepwise

CPU = torch.device("cpu")
SMALL = {
    "context_vector": {"embed": 16, "hidden": 24, "layers": 2, "context": 16, "dropout": 0.2},
    "gpt": {"width": 16, "layers": 2, "heads": 2, "dropout": 0.2},
}
RATES = (3e-3, 1e-2, 3e-2)


@pytest.fixture(scope="session")
def data(english):
    return DataConfig(name=str(english), window=16, stride=8, vocabulary_size=300)


def config(data, **changes):
    model = ModelConfig(options=SMALL["context_vector"])
    plain = {"learning_rate": 1e-2, "batch_size": 64, "epochs": 3, "patience": 100}
    return TrainConfig(**{**plain, "model": model, "data": data, **changes})


def alone(one, directory):
    reports, run, verdict = [], train(one, device=CPU, directory=directory), None
    while True:
        try:
            said = run.send(verdict)
        except StopIteration as stop:
            return reports, stop.value
        verdict = None
        if isinstance(said, Report):
            reports.append(said)
            verdict = Verdict.CONTINUE


class Together:
    """A lockstep and what it said; `prune` names (run, epoch) pairs."""

    def __init__(self, prune=()):
        self.lockstep = Lockstep()
        self.prune = prune
        self.reports, self.endings, self.rounds = {}, {}, []

    def add(self, number, one, directory):
        self.reports[number] = []
        self.lockstep.add(number, lambda: train_stepwise(one, device=CPU, directory=directory))

    def go(self):
        """One round."""
        said = self.lockstep.advance()
        for number, word in said.items():
            if isinstance(word, Report):
                self.reports[number].append(word)
                hopeless = (number, word.epoch) in self.prune
                self.lockstep.answer(number, Verdict.PRUNE if hopeless else Verdict.CONTINUE)
            if isinstance(word, Ending):
                self.endings[number] = word.outcome
        self.rounds.append({n: type(w) for n, w in said.items() if not isinstance(w, Progress)})
        return bool(said)

    def end(self):
        while self.go():
            pass
        return self


def assert_same_curves(found, expected, tolerance):
    assert [report.epoch for report in found] == [report.epoch for report in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.validation_loss == pytest.approx(other.validation_loss, abs=tolerance)
        assert one.train_loss == pytest.approx(other.train_loss, abs=tolerance)
        assert one.accuracy == pytest.approx(other.accuracy, abs=2e-3)
        assert one.learning_rate == other.learning_rate


@pytest.mark.parametrize("name", model_names())
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_an_epoch_of_a_cohort_is_each_members_own(data, tmp_path, name, dropout):
    model = ModelConfig(name=name, options={**SMALL.get(name, {}), "dropout": dropout})
    runs = [config(data, learning_rate=rate, epochs=1, model=model) for rate in RATES]
    together = Together()
    for number, one in enumerate(runs):
        together.add(number, one, tmp_path / f"cohort{number}")
    together.end()
    assert together.endings == dict.fromkeys(range(3), Outcome.COMPLETED)
    for number, one in enumerate(runs):
        expected, _ = alone(one, tmp_path / f"alone{number}")
        assert_same_curves(together.reports[number], expected, tolerance=1e-5)
    losses = [together.reports[number][0].validation_loss for number in range(3)]
    assert len(set(losses)) == 3


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_each_member_has_its_own_scaler(data, tmp_path, precision):
    # The highest rate overflows FP16 at first: its scale alone comes down.
    runs = [config(data, learning_rate=rate, precision=precision) for rate in (1e-3, 1.0)]
    together = Together()
    for number, one in enumerate(runs):
        together.add(number, one, tmp_path / f"cohort{number}")
    together.end()
    for number, one in enumerate(runs):
        expected, _ = alone(one, tmp_path / f"alone{number}")
        found = together.reports[number]
        assert [r.skipped_steps for r in found] == [r.skipped_steps for r in expected]
        assert found[0].validation_loss == pytest.approx(expected[0].validation_loss, rel=2e-2)


def test_all_members_report_at_once_and_a_new_one_joins_between_epochs(data, tmp_path):
    together = Together(prune={(0, 1)})
    for number in (0, 1):
        together.add(number, config(data, learning_rate=RATES[number]), tmp_path / str(number))
    while 0 not in together.endings:
        together.go()
    late = config(data, learning_rate=RATES[2])
    together.add(2, late, tmp_path / "2")
    together.end()
    said = [words for words in together.rounds if words]
    report = Report
    both = {1: report, 2: report}
    assert said[:4] == [{0: report, 1: report}, {0: Ending}, both, both]
    assert together.endings == {0: Outcome.PRUNED, 1: Outcome.COMPLETED, 2: Outcome.COMPLETED}
    # In another epoch than its neighbour, with masks and batches of its own.
    expected, _ = alone(late, tmp_path / "alone")
    assert_same_curves(together.reports[2], expected, tolerance=1e-3)
    assert together.reports[2][0].validation_loss == pytest.approx(
        expected[0].validation_loss, abs=1e-5
    )


def test_one_added_within_an_epoch_waits_for_its_end(data, tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.train.PROGRESS_INTERVAL_S", 0.0)
    together = Together()
    together.add(0, config(data, epochs=2), tmp_path / "0")
    for _ in range(3):
        together.go()
    together.add(1, config(data, epochs=1), tmp_path / "1")
    together.end()
    said = [words for words in together.rounds if words]
    assert said[:2] == [{0: Report}, {0: Report, 1: Report}]


def test_a_cohort_of_one_is_the_run_alone_bit_for_bit(data, tmp_path):
    together = Together()
    together.add(0, config(data), tmp_path / "0")
    expected, _ = alone(config(data), tmp_path / "alone")
    for found, other in zip(together.end().reports[0], expected, strict=True):
        same = {"tokens_per_second": 0.0, "peak_memory_bytes": 0}
        assert dataclasses.replace(found, **same) == dataclasses.replace(other, **same)


class Plain(nn.Module):
    """A model that keeps the plain contract only, with a dropout of torch's."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, 8)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(8, vocabulary_size)

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.embedding(tokens_BT)))


def test_any_other_model_takes_turns_and_keeps_its_own_dropout(data, tmp_path, monkeypatch):
    monkeypatch.setattr(trainers.models, "_factory", lambda _: Plain)
    runs = [config(data, learning_rate=rate, model=ModelConfig(name="plain")) for rate in RATES]
    together = Together()
    for number, one in enumerate(runs):
        together.add(number, one, tmp_path / f"cohort{number}")
    together.end()
    for number, one in enumerate(runs):
        expected, _ = alone(one, tmp_path / f"alone{number}")
        assert_same_curves(together.reports[number], expected, tolerance=0.0)


def test_an_error_in_shared_work_ends_all_who_asked_for_it(data, tmp_path, monkeypatch):
    def broken(members, batches):
        raise MemoryError("no room")

    together = Together()
    for number in (0, 1):
        together.add(number, config(data), tmp_path / str(number))
    monkeypatch.setattr("trainers.train.step_together", broken)
    together.end()
    assert together.endings == dict.fromkeys((0, 1), Outcome.OUT_OF_MEMORY)


def test_one_that_cannot_begin_leaves_the_others_alone(data, tmp_path):
    def begin():
        raise TrainerError("there is no text")

    together = Together()
    together.lockstep.add(7, begin)
    together.add(0, config(data, epochs=1), tmp_path / "0")
    together.end()
    assert together.endings == {7: Outcome.FAILED, 0: Outcome.COMPLETED}


def test_one_that_was_stopped_between_reports_goes_on_beside_the_others(
    data, tmp_path, monkeypatch
):
    """In another place of its epoch than they are, and so with batches of other sizes at times."""
    monkeypatch.setattr("trainers.train.PROGRESS_INTERVAL_S", 0.0)
    first, second = (config(data, learning_rate=rate, epochs=2) for rate in RATES[:2])
    run, word = train(second, device=CPU, directory=tmp_path / "1"), None
    while not (isinstance(word, Progress) and word.step == 2):
        word = run.send(None)
    with pytest.raises(StopIteration):
        run.send(Verdict.PAUSE)
    together = Together()
    for number, one in enumerate((first, second)):
        together.add(number, one, tmp_path / str(number))
    together.end()
    assert together.endings == {0: Outcome.COMPLETED, 1: Outcome.COMPLETED}
    for number, one in enumerate((first, second)):
        expected, _ = alone(one, tmp_path / f"alone{number}")
        assert_same_curves(together.reports[number], expected, tolerance=1e-3)
        assert together.reports[number][0].validation_loss == pytest.approx(
            expected[0].validation_loss, abs=1e-5
        )
