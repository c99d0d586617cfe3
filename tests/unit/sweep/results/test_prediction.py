"""`sweep predict` by its command line."""

import json

import pytest
from made_studies import finished_study
from support import Workspace, refusal

from studies.optimum import best_rate
from sweep.results.belief import study_posterior
from sweep.results.lookup import open_study


@pytest.fixture
def swept(workspace: Workspace) -> Workspace:
    for batch in (32, 128, 512):
        finished_study(workspace.path / "sweep.db", batch, 1e-3 * (batch / 32) ** 0.6)
    return workspace


def test_it_says_the_forecast_its_reach_and_the_exponents(swept: Workspace) -> None:
    said = swept.invoke("predict", "--batch", 2048).out
    assert "Batch 2,048, context_vector, 11,276 parameters" in said
    assert "It rests on 3 finished studies and extrapolates: 4 times the largest batch" in said
    assert "Held fixed: 3 epochs of 10,000 tokens, precision fp32, seed 0." in said
    assert "Power law lr = c B^p: p = 0." in said
    assert "p from batch 32 to 128" in said
    assert "sqrt " in said


def test_its_json_is_what_the_text_says(swept: Workspace) -> None:
    said = json.loads(swept.invoke("predict", "--batch", 2048, "--json").out)
    assert said["low"] < said["learning_rate"] < said["high"]
    assert said["level"] == 0.9
    assert said["batch_ratio"] == 4
    assert [study["batch_size"] for study in said["studies"]] == [32, 128, 512]
    assert said["exponents"]["batch"]["low"] < 0.6 < said["exponents"]["batch"]["high"]
    assert {rule["name"] for rule in said["rules"]} == {"unscaled", "sqrt"}


def test_another_model_size_is_forecast_with_a_wider_interval(swept: Workspace) -> None:
    same, larger = (
        json.loads(swept.invoke("predict", "--batch", 2048, "--json", *more).out)
        for more in ([], ["--params", 45_104])
    )
    assert larger["parameter_ratio"] == 4
    assert larger["learning_rate"] == pytest.approx(same["learning_rate"] / 2, rel=0.01)
    assert larger["width"] > same["width"]


def test_another_length_is_forecast_in_tokens_or_steps(swept: Workspace) -> None:
    finished_study(swept.path / "sweep.db", 32, 6e-4, epochs=12)
    # 20 tokens a sequence: as many tokens as so many steps at that batch.
    tokens, steps = (
        json.loads(swept.invoke("predict", "--batch", 64, "--json", *more).out)
        for more in (["--tokens", "4.8e5"], ["--steps", 375])
    )
    assert {key: tokens[key] for key in tokens} == {key: steps[key] for key in tokens}
    assert tokens["length_ratio"] == 4
    assert tokens["low"] < tokens["learning_rate"] < tokens["high"]
    assert tokens["learning_rate"] < tokens["safe"] < tokens["lost_from"]
    assert 0 < tokens["risk"] < 0.05
    said = swept.invoke("predict", "--batch", 64, "--tokens", "4.8e5").out
    assert "Batch 64, context_vector, 11,276 parameters, 480,000 tokens" in said
    assert "4 times the largest length swept" in said
    assert f"Safe up to {tokens['safe']:.1e}".replace("e-0", "e-") in said


def test_each_exponent_stands_beside_what_was_published(swept: Workspace) -> None:
    finished_study(swept.path / "sweep.db", 64, 1e-3, **{"lr_schedule.name": "wsd"})
    asked = ("predict", "--batch", 2048, "--study", "b32-fp32-0-3-11276")
    said = swept.invoke(*asked).out
    assert "Left out: 1 study differs in lr_schedule.name" in said
    laws = json.loads(swept.invoke(*asked, "--json").out)["law"]
    assert [law["axis"] for law in laws] == ["batch", "parameters", "length"]
    for law in laws:
        assert law["low"] < law["value"] < law["high"]
        assert law["published"]
        for published in law["published"]:
            assert published["source"].rpartition(" ")[2] in said


def test_a_length_that_the_studies_do_not_say_is_one_line(workspace: Workspace) -> None:
    unknown = {"training_tokens": None, "training_sequences": None}
    finished_study(workspace.path / "sweep.db", 32, 1e-3, about=unknown)
    line = refusal(workspace.invoke("predict", "--batch", 64, "--tokens", "1e6", code=2))
    assert "do not say how many" in line
    line = refusal(workspace.invoke("predict", "--batch", 64, "--tokens", 9, "--steps", 9, code=2))
    assert "give one of them" in line
    assert "whole number" in workspace.invoke("predict", "--batch", "1.5", code=2).err


def test_what_was_swept_is_what_its_report_says(swept: Workspace) -> None:
    said = json.loads(swept.invoke("predict", "--batch", 512, "--json").out)
    (name,) = [study["name"] for study in said["studies"] if study["batch_size"] == 512]
    study = open_study(f"sqlite:///{swept.path}/sweep.db", name)
    found = best_rate(study_posterior(study))
    assert (said["learning_rate"], said["low"], said["high"]) == found


def test_no_finished_study_is_one_line(workspace: Workspace) -> None:
    finished_study(workspace.path / "sweep.db", 32, 1e-3, about={"finished": {}})
    line = refusal(workspace.invoke("predict", "--batch", 64, code=2))
    assert "no study is finished" in line
    assert "`sweep run`" in line
