"""A sweep from Python, as in a script or a notebook: a function of a learning rate."""

import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep import Sweep, SweepResult
from sweep.errors import SweepError

BEST = 3e-3


def losses(learning_rate: float) -> Iterator[float]:
    """A basin around `BEST`, learned over ten steps."""
    away = math.log(learning_rate / BEST)
    for step in range(1, 11):
        yield 2.0 + 0.3 * away**2 + 4.0 * math.exp(-step / 2)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_finds_the_rate_and_shows_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = Sweep(batch_size=64, objective=losses, trials=10).run(view="plain")
    assert isinstance(found, SweepResult)
    assert found.best is not None
    assert found.optimum is not None
    assert found.best.learning_rate == pytest.approx(BEST, rel=0.5)
    assert found.optimum.low < BEST < found.optimum.high
    frame = found.to_frame()
    assert frame.loc[found.best.number, "value"] == frame["value"].min()
    picture = found._repr_html_()
    assert "<svg" in picture
    assert "The best learning rate for batch 64" in picture
    assert "The best learning rate for batch 64" in str(found)
    assert "Best learning rate" in capsys.readouterr().out
    again = Sweep(batch_size=64, objective=losses, trials=10).run(view="none")
    assert len(again.to_frame()) == len(frame), "it goes on with the same study"
    assert capsys.readouterr().out == ""


def test_a_function_is_given_what_it_asks_for(here: Path) -> None:
    seen: list[dict[str, object]] = []

    def objective(rate: float, *, batch_size: int, seed: int, directory: Path) -> float:
        seen.append({"batch_size": batch_size, "seed": seed, "there": directory.is_dir()})
        return (math.log(rate / BEST)) ** 2

    found = Sweep(
        32, objective=objective, trials=2, metric="distance", settings={"trainer.seed": 5}
    ).run(view="none")
    assert seen == [{"batch_size": 32, "seed": 5, "there": True}] * 2
    assert found.best is not None
    assert found.best.objective.name == "distance"


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ([(100, 3.0), (200, 2.0)], [100, 200]),
        ([{"step": 5, "validation_loss": 3.0, "tokens": 7}], [5]),
        ([{"perplexity": 8.0}], [1]),
    ],
)
def test_what_it_yields_may_be_a_pair_or_fields(
    here: Path, said: list[object], steps: list[int]
) -> None:
    found = Sweep(objective=lambda rate: iter(said), trials=1).run(view="none")
    (trial,) = found.study.trials
    assert sorted(trial.intermediate_values) == steps


def test_what_it_raises_is_the_trials_failure_and_a_line(here: Path) -> None:
    def broken(rate: float) -> float:
        raise ValueError("no data")

    with pytest.raises(SweepError, match="ValueError: no data"):
        Sweep(objective=broken, trials=3).run(view="none")


def test_a_wrong_setting_is_a_line(here: Path) -> None:
    with pytest.raises(SweepError, match="batch_size"):
        Sweep(batch_size=-1, objective=losses)
    with pytest.raises(SweepError, match="must be a function"):
        Sweep(objective=3.0)  # type: ignore[arg-type]


def test_a_script_is_all_it_takes(here: Path) -> None:
    """With a sweep.toml beside it, which only overrides; and no torch model anywhere."""
    (here / "sweep.toml").write_text("[study]\ntrials = 2\n")
    script = """
        from sweep import Sweep

        def objective(learning_rate):
            yield 2.0 + learning_rate

        found = Sweep(batch_size=8, objective=objective).run()
        print(sum(found.to_frame()["state"] == "complete"), repr(found))
    """
    (here / "script.py").write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.splitlines()[-1].startswith("2 <SweepResult of objective-b8-fp32-")
