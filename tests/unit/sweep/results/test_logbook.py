"""A family as a logbook: what was asked, found, forecast, and met."""

import json
import time

import pytest
from made_studies import finished_study
from support import Workspace, refusal

SIDES = ("inside", "outside")


@pytest.fixture
def swept(workspace: Workspace) -> Workspace:
    for place, batch in enumerate((32, 128)):
        about = {
            "ran": 1.7e9 + place * 86400.0,
            "command": f"sweep run --batch {batch}",
            "commit": "0123456789abcdef",
        }
        finished_study(workspace.path / "sweep.db", batch, 1e-3 * (batch / 32) ** 0.6, about=about)
    return workspace


def logbook(workspace: Workspace) -> str:
    text: str = workspace.invoke("report", "--family", "--study", "b32-fp32-0-3-11276").out
    return text


def test_it_has_each_study_with_its_command_commit_and_result(swept: Workspace) -> None:
    text = logbook(swept)
    assert text.startswith("# Learning-rate logbook of context")
    for batch in (32, 128):
        assert f"command: sweep run --batch {batch}" in text
    assert text.count("commit: 0123456789abcdef") == 2
    days = [time.strftime("%Y-%m-%d", time.localtime(1.7e9 + d * 86400)) for d in (0, 1)]
    rows = [line for line in text.splitlines() if line.startswith("| 2023-")]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == days
    assert "| 32 | 11,276 | 30,000 tokens | " in rows[0]
    assert float(rows[0].split(" | ")[4]) == pytest.approx(1e-3, rel=0.05)
    assert "## The law" in text
    assert "Power law lr = c B^p: p = 0." in text
    assert "## Forecasts" not in text


def test_a_forecast_is_met_by_what_was_swept_after_it(swept: Workspace) -> None:
    said = json.loads(swept.invoke("predict", "--batch", 512, "--json").out)
    far = swept.invoke("predict", "--batch", 64, "--tokens", "6e4", "--json")
    assert json.loads(far.out)["tokens"] == 6e4
    rows = [line for line in logbook(swept).splitlines() if "not swept yet" in line]
    assert len(rows) == 2
    finished_study(swept.path / "sweep.db", 512, said["learning_rate"])
    finished_study(swept.path / "sweep.db", 64, said["high"] * 3, epochs=6)
    met = [
        line for line in logbook(swept).splitlines() if line.endswith((" inside |", "outside |"))
    ]
    assert [(" inside" in line, "| 512 |" in line) for line in met] == [
        (True, True),
        (False, False),
    ]


def test_what_is_known_already_proves_no_forecast(swept: Workspace) -> None:
    swept.invoke("predict", "--batch", 128)
    assert "not swept yet" in logbook(swept)


def test_it_is_a_file_as_well_and_markdown_alone(swept: Workspace) -> None:
    done = swept.invoke("report", "--family", "-o", "log.md")
    assert "log.md: logbook of" in done.out
    assert (swept.path / "log.md").read_text().startswith("# Learning-rate logbook of ")
    swept.invoke("report", "--family", "-o", "log.md")  # its own is replaced
    for wrong in (("--json",), ("--png", "pictures"), ("-o", "log.html")):
        line = refusal(swept.invoke("report", "--family", *wrong, code=2))
        assert "--family writes Markdown" in line


def test_without_a_finished_study_it_is_one_line(workspace: Workspace) -> None:
    finished_study(workspace.path / "sweep.db", 32, 1e-3, about={"finished": {}})
    assert "none is finished" in refusal(workspace.invoke("report", "--family", code=2))


def test_a_study_says_which_command_made_it(workspace: Workspace) -> None:
    workspace.sweep("run", "--batch", 64, "--trials", 1, "--epochs", 1)
    made = workspace.study().user_attrs
    assert made["command"].startswith("sweep ")
    assert "commit" in made
