"""A plan's file: written, read again, and refused where it is none."""

from pathlib import Path

import pytest

from sweep.errors import SweepError
from sweep.results.study_plan import PlannedStudy, StudyPlan, Target, read_plan

PLAN = StudyPlan(
    model="gpt",
    target=Target(batch_size=512, parameters=10**9, tokens=2e10),
    budget=2e18,
    unit="flops",
    trials=10,
    studies=(
        PlannedStudy(
            batch_size=32,
            options={"width": 64},
            parameters=10**6,
            tokens=10**8,
            cost=6e15,
            factor=3.0,
        ),
    ),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.to_toml(), encoding="utf-8")
    return path


def test_it_is_read_as_it_was_written(file: Path) -> None:
    assert read_plan(file) == PLAN


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("batch_size = 32", "batch_size = 0"),
        ("tokens = 100000000", 'tokens = "2"'),
        ("width = 64", "width = 64.5"),
        ("width = 64", '"a.b" = 64'),
        ("width = 64", '"width=1 --trainer" = 64'),
        ('model = "gpt"', 'model = "gpt"\ntrainer = "mine:train"'),
        ('unit = "flops"', 'unit = "euros"'),
        ("cost = 6", "cost = -6"),
        ("[target]", "[goal]"),
        ("budget", "budget budget"),
    ],
)
def test_anything_else_is_one_line(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SweepError, match="is no plan of studies") as refused:
        read_plan(file)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="cannot be read"):
        read_plan(tmp_path / "none.toml")
