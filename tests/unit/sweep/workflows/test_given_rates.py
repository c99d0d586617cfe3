"""Given rates as a study: each is trained once, failures twice, and no other rate is ever drawn."""

import io
import sys
from pathlib import Path

import optuna
import pytest
from support import Workspace

from sweep.config.load import load
from sweep.config.schema import SweepConfig
from sweep.errors import NothingTrainedError
from sweep.view.live.plain import PlainView
from sweep.workflows.given_rates import run_settings, with_study, with_trainer

FAULTY = """
    from trainers.train import train as shared

    def train(config, *, device, directory):
        if config.learning_rate > 0.05:
            raise RuntimeError("the rate is too high for me")
        return (yield from shared(config, device=device, directory=directory))
"""


@pytest.fixture
def config(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> SweepConfig:
    monkeypatch.chdir(workspace.path)
    monkeypatch.syspath_prepend(str(workspace.path))
    workspace.write("faulty.py", FAULTY)
    settings = ["trainer.epochs=1", "study.trainer=faulty:train"]
    return load(Path("sweep.toml"), profile="cpu", cuda=False, assignments=settings)


def run(config: SweepConfig, *rates: float) -> tuple[list[tuple[float, str]], str]:
    stream = io.StringIO()
    runs = run_settings([(config, rates)], PlainView(stream), resume_command="sweep compare")
    assert runs is not None
    (only,) = runs
    return [(run.learning_rate, run.state) for run in only], stream.getvalue()


def test_a_failed_rate_is_tried_once_more_and_no_other_rate_is_drawn(config: SweepConfig) -> None:
    expected = [(0.03, "complete"), (0.1, "failed")]
    assert run(config, 0.03, 0.1)[0] == expected
    found, said = run(config, 0.03, 0.1)
    assert found == expected
    assert "lr 1.00e-1" in said
    assert "lr 3.00e-2" not in said
    found, said = run(config, 0.03, 0.1)
    assert found == expected
    assert "trial" not in said
    (name,) = optuna.get_all_study_names("sqlite:///sweep.db")
    study = optuna.load_study(study_name=name, storage="sqlite:///sweep.db")
    assert [trial.params["learning_rate"] for trial in study.trials] == [0.03, 0.1, 0.1]


def test_a_rate_lost_for_a_reason_outside_is_tried_until_that_is_repaired(
    config: SweepConfig, workspace: Workspace
) -> None:
    config = with_study(config, executor="inline", retries=0, trainer="gone:train")
    workspace.write("gone.py", FAULTY.replace("the rate is too high", "No CUDA GPUs are available"))
    for _ in range(3):
        found, said = run(config, 0.03, 0.1)
        assert found == [(0.03, "complete"), (0.1, "failed")]
    assert "nothing was trained: trial 3 lost: its device is gone" in said
    with pytest.raises(NothingTrainedError, match="lost: its device is gone"):
        run(config, 0.1)
    sys.modules["gone"].train = sys.modules["gone"].shared  # type: ignore[attr-defined]
    assert run(config, 0.03, 0.1)[0] == [(0.03, "complete"), (0.1, "complete")]


def test_other_rates_join_the_same_study(config: SweepConfig) -> None:
    assert run(config, 0.03)[0] == [(0.03, "complete")]
    found, said = run(config, 0.01, 0.03)
    assert found == [(0.01, "complete"), (0.03, "complete")]
    assert "lr 3.00e-2" not in said


def test_settings_share_one_text_which_is_described_once(config: SweepConfig) -> None:
    settings = [(with_trainer(config, seed=seed), [0.03]) for seed in (1, 2)]
    runs = run_settings(
        settings, PlainView(stream := io.StringIO()), resume_command="sweep confirm"
    )
    assert runs is not None
    assert [[run.seed for run in each] for each in runs] == [[1], [2]]
    assert stream.getvalue().count("% of the words are unknown") == 1
    first, second = Path("runs").glob("*/corpus.safetensors")
    assert first.read_bytes() == second.read_bytes()


def test_what_was_not_run_is_left_out(config: SweepConfig) -> None:
    stopped = with_study(config, timeout=1e-6)
    view = PlainView(stream := io.StringIO())
    assert run_settings([(stopped, [0.03])], view, resume_command="sweep compare again") is None
    assert "sweep compare again" in stream.getvalue()
