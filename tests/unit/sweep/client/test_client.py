"""The client that programs import: alone, in a sweep, and on several ranks."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from sweep import client

ANSWER = '{"step": 5, "stop": %s}\n'


def in_a_sweep(folder: Path, text: str, **environment: str) -> subprocess.Popen[str]:
    told = {
        "SWEEP_REPORTS": str(folder / "reports.jsonl"),
        "SWEEP_ANSWERS": str(folder / "answers.jsonl"),
        "SWEEP_LEARNING_RATE": "0.002",
    }
    return subprocess.Popen(
        [sys.executable, "-c", text],
        env={**os.environ, **told, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_outside_a_sweep_it_does_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert not client.report(step=1, validation_loss=2.0).stop
    assert client.learning_rate(3e-4) == 3e-4
    assert list(tmp_path.iterdir()) == []


def test_it_needs_nothing_but_python() -> None:
    """Neither torch nor anything else that is installed: `-S` hides the site packages."""
    text = "import sys; import sweep.client; print(sorted(m for m in sys.modules if '.' not in m))"
    root = Path(client.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-S", "-c", text],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "optuna" not in done.stdout


@pytest.mark.parametrize("stop", [False, True])
def test_a_report_waits_for_its_answer(tmp_path: Path, *, stop: bool) -> None:
    text = """
import sys
from sweep.client import learning_rate, report
print(report(step=5, validation_loss=2.5, tokens=10, train_loss=3.0).stop, learning_rate(1.0))
"""
    program = in_a_sweep(tmp_path, text)
    reports = tmp_path / "reports.jsonl"
    while not (reports.exists() and reports.read_text().endswith("\n")):
        time.sleep(0.01)
    said = json.loads(reports.read_text())
    assert said == {"step": 5, "tokens": 10, "validation_loss": 2.5, "train_loss": 3.0}
    assert program.poll() is None, "it waits"
    (tmp_path / "answers.jsonl").write_text(ANSWER % str(stop).lower())
    out, _ = program.communicate()
    assert out.split() == [str(stop), "0.002"]


def test_of_several_ranks_the_first_reports_and_all_hear_the_answer(tmp_path: Path) -> None:
    text = "from sweep.client import report; print(report(5, validation_loss=2.0).stop)"
    ranks = [in_a_sweep(tmp_path, text, RANK=str(rank)) for rank in range(3)]
    reports = tmp_path / "reports.jsonl"
    while not (reports.exists() and reports.read_text().endswith("\n")):
        time.sleep(0.01)
    threading.Timer(0.2, (tmp_path / "answers.jsonl").write_text, [ANSWER % "true"]).start()
    assert [rank.communicate()[0].strip() for rank in ranks] == ["True"] * 3
    assert len(reports.read_text().splitlines()) == 1


def test_a_tensor_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text(ANSWER % "false")
    text = (
        "import numpy; from sweep.client import report; report(5, validation_loss=numpy.float32(2))"
    )
    in_a_sweep(tmp_path, text).communicate()
    assert json.loads((tmp_path / "reports.jsonl").read_text())["validation_loss"] == 2.0


def test_a_number_may_be_a_tensor_of_a_graph_and_none_warns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "answers.jsonl").write_text('{"step": 7, "stop": false}\n')
    monkeypatch.setenv("SWEEP_REPORTS", str(tmp_path / "reports.jsonl"))
    monkeypatch.setenv("SWEEP_ANSWERS", str(tmp_path / "answers.jsonl"))
    client.report(7, validation_loss=torch.ones((), requires_grad=True) * 2)  # type: ignore[arg-type]
    assert json.loads((tmp_path / "reports.jsonl").read_text())["validation_loss"] == 2.0
