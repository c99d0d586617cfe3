"""What the benchmark of the search rests on (tests/benchmarks)."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import driver
import numpy as np
import pytest
import taskset
from clusters import clustered
from columns import PRODUCT, generator, task
from driver import Driver, Search
from recorded import Curve
from searching import ClaimsNothing, Job, Task
from seed_runs import NEIGHBOURS, Part, SeedRuns
from smoothing import Smooth

from studies import RULES, Reference, Setting

RATES = np.linspace(math.log(1e-5), 0.0, 24)
EPOCHS = 10
UNIGRAM = 70.0


def part(
    batch: int = 128, seed: int = 0, noise: float = 0.0, optimum: float = -5.0, kind: str = "small"
) -> Part:
    """A parabola of at most 2 nats; from 2.2 above the optimum on training is lost."""
    rng = np.random.default_rng([seed, batch])
    finals = 3.0 + np.minimum(0.1 * (RATES - optimum) ** 2, 2.0)
    losses = finals[:, None] + np.linspace(0.5, 0.0, EPOCHS)
    losses += noise * rng.standard_normal((len(RATES), 1))
    losses[optimum + 2.2 < RATES] = math.log(UNIGRAM) + 0.01
    return Part(kind, batch, seed, RATES, losses, 1000, math.log(500), UNIGRAM, True, 1000)


# --- smoothing


def test_a_smooth_curve_follows_a_parabola_and_leaves_out_the_noise():
    x = np.linspace(-2, 2, 17)
    at = np.array([-1.3, 0.1, 1.6])
    noise = 0.03 * np.random.default_rng(0).standard_normal(17)
    curve = Smooth(x, 2 + x / 10 + x**2 / 10 + noise)
    assert curve.values(at) == pytest.approx(2 + at / 10 + at**2 / 10, abs=0.03)
    assert curve.rows(at).sum(1) == pytest.approx(1)
    assert 0.01 < curve.doubt(0.1, 1.6) < 0.04


def test_the_lowest_run_in_front_of_a_wall_lies_where_it_was_seen():
    x = np.arange(8) / 2
    seen = 2 + np.array([0.48, 0.3, 0.17, 0.08, 0.02, 0.0, 0.4, 0.45])
    assert Smooth(x, seen).values(x)[5] == pytest.approx(2.0, abs=0.03)
    alike = Smooth(x, seen, seeds=np.full(8, 16))  # of more seeds less is noise
    assert alike.values(x)[5] == pytest.approx(2.0, abs=0.01)
    assert alike.doubt(x[3], x[5]) < Smooth(x, seen).doubt(x[3], x[5])


def test_a_curve_is_scored_by_the_seeds_of_the_best_rates_too():
    recorded, near = part(), np.full((4, len(RATES)), np.nan)
    place = int(np.abs(RATES + 5.0).argmin()) + 1
    near[:, place] = recorded.finals[place] - 0.1
    curve = Curve(recorded, [recorded], near)
    assert Curve(recorded, [recorded]).optimum == pytest.approx(-5.0, abs=0.1)
    assert curve.optimum == pytest.approx(RATES[place], abs=0.15)
    assert curve.best < 3.0 - 0.05


# --- the noise of runs


def test_runs_at_one_rate_have_noise_of_their_own_and_the_same_again_with_the_same_number():
    curve = Curve(part(noise=0.02), [part(noise=0.02)])
    runs = [curve.run(-5.0, generator(curve, 0, number)) for number in range(20)]
    assert len({run.tobytes() for run in runs}) == NEIGHBOURS
    assert (curve.run(-5.0, generator(curve, 0, 3)) == runs[3]).all()


def test_runs_vary_as_the_recorded_ones_do():
    parts = [part(noise=0.02, seed=seed) for seed in range(200)]
    drawn = [SeedRuns(each, [each]).draw(-5.0, np.random.default_rng(7))[-1] for each in parts]
    assert np.std(drawn) == pytest.approx(0.02, rel=0.2)
    assert np.mean(drawn) == pytest.approx(3.0, abs=0.01)


def test_between_a_rate_that_was_lost_and_one_that_held_chance_decides():
    recorded = part()
    first = int(recorded.lost.argmax())
    between = recorded.rates[first] - 0.25 * (recorded.rates[first] - recorded.rates[first - 1])
    runs, rng = SeedRuns(recorded, [recorded]), np.random.default_rng(0)
    finals = np.array([runs.draw(between, rng)[-1] for _ in range(400)])
    lost = finals > math.log(UNIGRAM)
    assert lost.mean() == pytest.approx(0.75, abs=0.07)
    assert finals[~lost] == pytest.approx(3.0 + 0.1 * (between + 5.0) ** 2, abs=0.05)


# --- what is believed


def test_the_product_believes_the_rules_rates_from_its_own_sets_batch_32():
    small, other = (Curve(each, [each]) for each in (part(32, optimum=-6.0), part(128)))
    told = task(other, PRODUCT, 0, [small, other])
    reference = Reference(Setting(32, 1000), math.exp(small.optimum), None, swept=True)
    rates = {rule.name: rule.learning_rate(reference, Setting(128, 1000)) for rule in RULES}
    assert told.centres == pytest.approx([rates["sqrt"], rates["unscaled"], rates["linear"]])
    assert {name: prior.rate for name, prior in told.priors.items()} == pytest.approx(rates)
    assert task(small, PRODUCT, 0, [small, other]) is None


# --- the driver


@dataclass
class InTwoParts(ClaimsNothing):
    """Trains each rate for three epochs, then the best of every two to its end."""

    told: Task
    paused: list[Job] = field(default_factory=list)
    asked: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def ask(self) -> Job:
        number = len({job.run for job in self.asked})
        if len(self.paused) < 2:
            job = Job(-5.0 - 0.3 * number, None, number, 0, 3)
        else:
            best = min(self.paused, key=lambda job: job.losses[-1])
            self.paused.clear()
            job = Job(best.x, None, best.run, 3, self.told.epochs, list(best.losses))
        self.asked.append(job)
        return job

    def report(self, job: Job) -> None:
        pass

    def stops(self, job: Job) -> bool:
        return False

    def end(self, job: Job, *, pruned: bool) -> None:
        self._trained(job)
        if len(job.losses) < self.told.epochs:
            self.paused.append(job)


def test_a_resumed_run_costs_only_its_new_epochs_and_is_the_run_that_it_was(monkeypatch):
    monkeypatch.setitem(driver.SEARCHERS, "in two parts", InTwoParts)
    curve = Curve(part(noise=0.001), [part(noise=0.001)])
    kept = Search("in two parts", "none", "small-b128", 0, 0, EPOCHS)
    running = Driver(curve, task(curve, "none", 0, [curve]), kept, [1.0])
    found = running.run()
    asked = running._searcher.asked
    assert found.found["0.5 %"].epochs == 3 + 3 + 7
    assert found.end.epochs == sum(len(job.losses) - job.done for job in asked)
    whole = [job for job in asked if len(job.losses) == EPOCHS]
    assert all(job.losses == list(running._runs[job.run]) for job in whole)
    assert (found.end.trainings, found.early) == (16, 8)  # of each two one was left
    assert found.excess[2] == pytest.approx(0.0, abs=0.005)
    assert found.stop is None


# --- the tables


def test_a_standard_error_counts_settings_and_not_searches():
    alike = clustered([1.0] * 50 + [3.0] * 50, [1] * 100, ["a"] * 50 + ["b"] * 50)
    assert alike == pytest.approx((2.0, 1.0))  # as of the two numbers 1 and 3
    assert clustered([1.0, 3.0], [1, 1], ["a", "b"]) == pytest.approx(alike)


# --- TaskSet


@pytest.fixture
def taskset_folder(tmp_path: Path) -> Path:
    """Two tasks in TaskSet's format, one of them no language model."""
    names = np.array([f"adam1p_wide_grid_seed{n}".encode() for n in range(40)])
    x = np.log([taskset.rate(name.decode()) for name in names])
    steps = np.arange(0, 10001, 200)
    final = 1.5 + np.minimum(0.05 * (x + 6.0) ** 2, 3.0)
    ys = np.full((40, 5, len(steps), 4), np.nan)
    ys[...] = (final[:, None] + (5.0 - final[:, None]) * np.exp(-steps / 1000))[:, None, :, None]
    ys[..., 1] += 0.01  # the inner validation
    ys[x.argmax(), 0, 26] = np.inf  # diverged at step 5,200, and stored 5 again after it
    for task_name in ("word_rnn_language_model_family_seed3", "mlp_family_seed12"):
        (tmp_path / task_name).mkdir()
        np.savez(tmp_path / task_name / taskset.NAME, optimizers=names, xs=steps, ys=ys)
    return tmp_path


def test_tasksets_rates_are_those_of_its_own_configurations():
    assert taskset.rate("adam1p_wide_grid_seed0") == pytest.approx(1.0366346546195564e-06)
    assert taskset.rate("adam1p_wide_grid_seed100") == pytest.approx(0.05650452793055913)


def test_tasksets_language_models_are_curves_like_the_recorded_ones(taskset_folder):
    (curve,) = taskset.read(taskset_folder)
    assert curve.part.name.startswith("word_rnn_language_model_family_seed3")
    assert (np.diff(curve.part.rates) > 0).all()
    assert curve.epochs == EPOCHS
    assert curve.optimum == pytest.approx(-6.0, abs=0.3)
    assert curve.best == pytest.approx(1.51, abs=0.01)
    assert curve.part.baseline is None
    assert curve.worst == pytest.approx(5.01 - curve.best)
    assert np.isfinite(curve.part.losses[:-1]).all()
    assert np.isfinite(curve.part.losses[-1]).sum() == 5  # epochs of 1,000 steps
    assert task(curve, PRODUCT, 0, [curve]) is None
    assert task(curve, "right", 0, [curve]).baseline is None
