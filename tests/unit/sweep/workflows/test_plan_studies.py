"""`sweep plan` and `sweep run --plan` by their command lines."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from made_studies import IDENTITY, finished_study
from support import Workspace, refusal

from sweep.errors import SweepError
from sweep.results.family import find_family
from sweep.results.study_plan import PlannedStudy, StudyPlan, Target, read_plan
from sweep.storage.connect import open_storage
from sweep.workflows.plan_ground import LEAST_STEPS, OVER
from sweep.workflows.plan_studies import parse_budget, standing_after

# Its best rate grows with the batch and falls with the width.
SCRIPT = """\
    import json, math, sys
    from sweep.client import report
    rate, batch, steps, width = (float(each) for each in sys.argv[1:5])
    with open("told.jsonl", "a") as file:
        file.write(json.dumps([int(batch), int(steps), int(width)]) + "\\n")
    best = 1e-2 * math.sqrt(batch / 32) * 64 / width
    for step in (steps / 2, steps):
        report(step, steps=int(steps), validation_loss=3 + math.log(rate / best) ** 2 / 20)
"""
SCRIPT_COMMAND = "{learning_rate} {batch_size} {steps} {width}"
TARGET = ("plan", "--batch", 256, "--params", "2e5", "--tokens", "2e6")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "sweep.db"


def plan_of(*studies: PlannedStudy) -> StudyPlan:
    """A plan for a small target of three trials a study."""
    return StudyPlan(
        model="context_vector",
        target=Target(batch_size=64, parameters=11276, tokens=3e4),
        budget=1e10,
        unit="flops",
        trials=3,
        studies=studies,
    )


def planned(workspace: Workspace, *more: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(workspace.invoke(*TARGET, *more, "--json").out)
    return found


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("2e18", 2e18, "flops"),
        ("1000", 1000, "flops"),
        ("90m", 5400, "seconds"),
        ("1.5h", 5400, "seconds"),
        ("2d", 172800, "seconds"),
    ],
)
def test_a_budget_is_operations_or_time(text: str, amount: float, unit: str) -> None:
    assert parse_budget(text) == (amount, unit)


@pytest.mark.parametrize("text", ["", "h", "0", "-1", "1.2.3", "1e999", "12 q", "nan"])
def test_another_budget_is_refused(text: str) -> None:
    with pytest.raises(SweepError, match="--budget takes"):
        parse_budget(text)


def test_every_study_can_be_trained_and_is_paid_for(workspace: Workspace) -> None:
    plan = planned(workspace, "--budget", "1e13", "--trials", 5)
    assert plan["studies"]
    assert math.fsum(study["cost"] for study in plan["studies"]) <= 1e13
    for study in plan["studies"]:
        assert study["parameters"] <= OVER * 2e5
        assert study["tokens"] <= OVER * 2e6
        assert study["cost"] == 6 * study["parameters"] * study["tokens"] * 5
    factors = [study["factor"] for study in plan["studies"]]
    assert factors == sorted(factors, reverse=True)
    assert not (workspace.path / "sweep.db").exists()


def test_its_file_holds_what_its_table_shows(workspace: Workspace) -> None:
    done = workspace.invoke(*TARGET, "--budget", "1e13", "-o", "plan.toml")
    plan = read_plan(workspace.path / "plan.toml")
    assert "sweep run --plan plan.toml" in done.out
    assert "No finished study says anything of it yet." in done.out
    for study in plan.studies:
        assert f"{study.parameters:,}" in done.out
        assert f"x{study.factor:.2f}" in done.out


def test_time_needs_a_speed(workspace: Workspace) -> None:
    line = refusal(workspace.invoke(*TARGET, "--budget", "1h", code=2))
    assert "needs a speed" in line


def test_too_little_is_one_line_that_says_what_it_takes(workspace: Workspace) -> None:
    line = refusal(workspace.invoke(*TARGET, "--budget", "10", code=2))
    assert "the cheapest study takes" in line
    line = refusal(workspace.invoke("plan", "--batch", 8, "--tokens", 9, "--budget", 1e9, code=2))
    assert f"has under {LEAST_STEPS} steps" in line


def of_program(*more: object, command: str = SCRIPT_COMMAND) -> tuple[object, ...]:
    """`sweep plan` for a small target of a program's."""
    target = ("plan", "--batch", 64, "--tokens", "2e6", "--budget", "1e12", "--trials", 3)
    program = ("--", sys.executable, "train.py", *command.split())
    return (*target, "--profile", "program", *more, *program)


SEQUENCE = ("--set", "program.sequence_tokens=16")
SIZES = ("--size", "1e4:width=64", "--size", "4e4:width=128")


def test_a_program_is_planned_at_the_sizes_that_it_is_said_to_have(workspace: Workspace) -> None:
    workspace.write("train.py", SCRIPT)
    done = workspace.invoke(*of_program(*SIZES, *SEQUENCE, "--json"))
    plan = json.loads(done.out)
    assert (plan["model"], plan["program"], plan["sequence_tokens"]) == ("train.py", True, 16)
    assert plan["target"] == {"batch_size": 64, "parameters": 40_000, "tokens": 2e6}
    widths = {study["parameters"]: study["options"]["width"] for study in plan["studies"]}
    assert widths == {10_000: 64, 40_000: 128}
    assert len({study["batch_size"] for study in plan["studies"]}) > 1
    for study in plan["studies"]:
        assert study["tokens"] >= LEAST_STEPS * study["batch_size"] * 16
        assert study["cost"] == 6 * study["parameters"] * study["tokens"] * 3
    # One size: what else differs is batch and length.
    fixed = ("--set", "program.parameters=20000")
    one = of_program(*fixed, *SEQUENCE, "--json", command=SCRIPT_COMMAND.replace("{width}", "64"))
    plan = json.loads(workspace.invoke(*one).out)
    assert plan["target"]["parameters"] == 20_000
    assert all(s["parameters"] == 20_000 and not s["options"] for s in plan["studies"])


@pytest.mark.parametrize(
    ("more", "command", "words"),
    [
        (SEQUENCE, "{learning_rate} {batch_size} {tokens}", "--set program.parameters=124000000"),
        (SIZES, SCRIPT_COMMAND, "--set program.sequence_tokens=1024"),
        (
            (*SIZES, *SEQUENCE),
            "{learning_rate} {tokens} {width}",
            "the command has no {batch_size}",
        ),
        ((*SIZES, *SEQUENCE), "{learning_rate} {batch_size} {steps}", "the command has no {width}"),
        ((*SIZES, *SEQUENCE), "{learning_rate} {batch_size} {width}", "no {tokens} or {steps}"),
        (("--size", "1e4:width=x"), SCRIPT_COMMAND, "124e6:layers=12,width=768, got '1e4:width=x'"),
        (("--size", "1e4:seed=2"), SCRIPT_COMMAND, "program.sizes.seed: {seed} is another thing"),
    ],
)
def test_a_program_that_cannot_be_planned_is_one_line(
    workspace: Workspace, more: tuple[object, ...], command: str, words: str
) -> None:
    workspace.write("train.py", SCRIPT)
    assert words in workspace.invoke(*of_program(*more, command=command), code=2).err


def test_a_plan_is_of_its_program_or_of_none(workspace: Workspace) -> None:
    workspace.write("train.py", SCRIPT)
    workspace.write("other.py", SCRIPT)
    study = PlannedStudy(batch_size=32, parameters=10_000, tokens=51_200, cost=1e9, factor=3)
    workspace.write("own.toml", plan_of(study).to_toml())
    of_it = {"model": "train.py", "program": True, "sequence_tokens": 16}
    sized = plan_of(study.model_copy(update={"options": {"width": 64}}))
    workspace.write("plan.toml", sized.model_copy(update=of_it).to_toml())
    line = refusal(workspace.invoke("run", "--plan", "plan.toml", code=2))
    assert "the plan is of the program train.py: give its command" in line
    other = (sys.executable, "other.py", *SCRIPT_COMMAND.split())
    line = refusal(workspace.invoke("run", "--plan", "plan.toml", "--", *other, code=2))
    assert "the plan is of the program train.py: give its command" in line
    command = (sys.executable, "train.py", "{learning_rate}")
    line = refusal(workspace.invoke("run", "--plan", "own.toml", "--", *command, code=2))
    assert "leave the program's command out" in line
    line = refusal(workspace.invoke(*TARGET, "--budget", "1e13", "--size", "1e4", code=2))
    assert "--size is for a program's models" in line


@pytest.mark.more
def test_a_program_s_plan_is_trained_and_then_counts(workspace: Workspace) -> None:
    workspace.write("train.py", SCRIPT)
    program = ("--", sys.executable, "train.py", *SCRIPT_COMMAND.split())
    study = PlannedStudy(
        batch_size=32, parameters=10_000, tokens=51_200, options={"width": 64}, cost=1e9, factor=3
    )
    larger = {"batch_size": 64, "parameters": 40_000, "options": {"width": 128}}
    target = Target(batch_size=64, parameters=40_000, tokens=2e6)
    plan = plan_of(study, study.model_copy(update=larger)).model_copy(
        update={"model": "train.py", "program": True, "sequence_tokens": 16, "target": target}
    )
    workspace.write("plan.toml", plan.to_toml())
    settings = ("--profile", "program", "--set", "study.publish=false", "--set", "study.until=''")
    whole = ("--set", "study.pruner=none")
    done = workspace.invoke("run", "--plan", "plan.toml", *settings, *whole, "--json", *program)
    notes = [event["text"] for event in done.events if event["event"] == "note"]
    after = [note.partition(":")[0] for note in notes if note.startswith("after ")]
    assert after == ["after 1 of 2 studies", "after 2 of 2 studies"]
    started = [event["study"] for event in done.events if event["event"] == "study_started"]
    assert [(s["batch_size"], s["parameters"]) for s in started] == [(32, 10_000), (64, 40_000)]
    # Each was told its steps, batch and width.
    told = [json.loads(line) for line in (workspace.path / "told.jsonl").read_text().splitlines()]
    assert {tuple(each) for each in told} == {(32, 100, 64), (64, 50, 128)}
    timed = of_program(*SIZES, *SEQUENCE, "--budget", "1h", "--json")
    found = json.loads(workspace.invoke(*timed).out)
    assert (found["seen"], found["unit"]) == (2, "seconds")


def test_a_plan_goes_alone_and_with_its_model(workspace: Workspace) -> None:
    workspace.invoke(*TARGET, "--budget", "1e13", "-o", "plan.toml")
    line = refusal(workspace.invoke("run", "--plan", "plan.toml", "--batch", 4, code=2))
    assert "--plan does not go with --batch" in line
    line = refusal(workspace.invoke("run", "--plan", "plan.toml", "--steps", 40, code=2))
    assert line == "sweep: --plan does not go with --steps: leave it out"
    line = refusal(workspace.invoke("run", "--plan", "plan.toml", "--model", "gpt", code=2))
    assert "add --model context_vector" in line


@pytest.mark.more
def test_finished_studies_count_and_tell_the_speed(workspace: Workspace) -> None:
    # A study of this very text: its identity is what the plan's would be.
    workspace.invoke("run", "--batch", 64, "--trials", 3, "--epochs", 4)
    plan = planned(workspace, "--budget", "1e13")
    assert plan["seen"] == 1
    assert plan["factor"] > plan["studies"][0]["factor"]
    timed = planned(workspace, "--budget", "2h")
    assert timed["unit"] == "seconds"
    assert 0 < math.fsum(study["cost"] for study in timed["studies"]) <= 7200
    real = workspace.study().user_attrs
    for batch in (32, 64, 128):
        made = finished_study(workspace.path / "sweep.db", batch, 1e-2)
        for name in ("training_tokens", "training_sequences"):
            made.set_user_attr(name, real[name])
        made.set_user_attr("identity", {**real["identity"], "batch_size": batch})
    there = ("plan", "--batch", 64, "--epochs", 4, "--budget", "1e13")
    line = refusal(workspace.invoke(*there, code=2))
    assert "is known within a factor of 1." in line


@pytest.mark.more
def test_a_plan_is_trained_in_turn_and_then_forecast(workspace: Workspace) -> None:
    first = PlannedStudy(batch_size=64, parameters=11276, tokens=17316, cost=1e9, factor=3)
    larger = {"batch_size": 32, "tokens": 8658, "options": {"hidden": 24}, "parameters": 12000}
    plan = plan_of(first, first.model_copy(update=larger))
    workspace.write("plan.toml", plan.to_toml())
    done = workspace.invoke("run", "--plan", "plan.toml", "--json")
    notes = [event["text"] for event in done.events if event["event"] == "note"]
    after = [note for note in notes if note.startswith("after ")]
    assert [note.partition(":")[0] for note in after] == [
        "after 1 of 2 studies",
        "after 2 of 2 studies",
    ]
    assert notes[-1].startswith("the plan is spent: `sweep plan`")
    started = [event["study"] for event in done.events if event["event"] == "study_started"]
    assert [each["batch_size"] for each in started] == [64, 32]
    # Told again, nothing is trained anew.
    again = workspace.invoke("run", "--plan", "plan.toml", "--json")
    assert not [event for event in again.events if event["event"] == "trial_started"]
    known = json.loads(
        workspace.invoke(
            "predict", "--batch", 64, "--params", 11276, "--tokens", "3e4", "--json"
        ).out
    )
    assert len(known["studies"]) == 2
    assert f"{known['learning_rate']:.1e}".replace("e-0", "e-").replace("e+0", "e") in after[-1]


@pytest.mark.more
def test_a_plan_may_be_trained_at_once(workspace: Workspace) -> None:
    target = ("plan", "--batch", 16, "--params", 12_000, "--tokens", "1e4", "--budget", "2e9")
    done = workspace.invoke(*target, "--trials", 3, "--run", "--json")
    plan, *events = done.events
    started = [event["study"] for event in events if event["event"] == "study_started"]
    assert started
    for study, run in zip(plan["studies"], started, strict=False):
        assert run["batch_size"] == study["batch_size"]
        assert run["parameters"] == study["parameters"]
    assert [event["text"] for event in events if event["event"] == "note"][-1].startswith(
        "the plan"
    )


def test_it_ends_once_the_target_is_known_or_the_budget_is_spent(database: Path) -> None:
    study = PlannedStudy(batch_size=64, parameters=11276, tokens=30_000, cost=6e9, factor=3)
    plan = plan_of(study, study)
    for batch in (32, 64, 128):
        finished_study(database, batch, 1e-2, about={"spent_s": 700.0})
    family = find_family(open_storage(str(database), create=False), {**IDENTITY, "batch_size": 1})
    near = standing_after(plan, family, 1)
    assert near.sure
    assert not near.spent
    rate, rest = near.words.split(" ", 1)
    assert float(rate) == pytest.approx(1e-2, rel=0.05)
    assert rest.startswith("for the target")
    assert standing_after(plan, family, 2).spent
    far = {"target": Target(batch_size=8192, parameters=10**8, tokens=1e9)}
    assert not standing_after(plan.model_copy(update=far), family, 1).sure
    # Of time, what the studies took counts, and of those the plan's own.
    for budget, spent in ((800, False), (600, True)):
        timed = plan.model_copy(update={"unit": "seconds", "budget": budget})
        assert standing_after(timed, family, 2).spent is spent
