import dataclasses
import functools
import re
from pathlib import Path

import pytest
import yaml
from optuna.trial import FrozenTrial
from support import Workspace, open_ledger, report

from sweep.errors import SweepError
from sweep.orchestration.ledger import Ledger
from sweep.results.export import Exported, export, git_commit, read, write
from sweep.workflows.train import beside_the_sweep
from trainers.config import LRSchedule, TrainConfig
from trainers.report import Outcome

# Numbers that YAML's and Python's notations could differ about.
TRAIN = TrainConfig(learning_rate=1.0, epochs=3, eps=1e-08, weight_decay=0.1 + 0.2, seed=2**62)


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    with open_ledger(tmp_path, train=TRAIN) as ledger:
        return export(ledger.study, finished(ledger), "sqlite:///sweep.db")


def finished(ledger: Ledger) -> FrozenTrial:
    spec = ledger.ask()
    assert spec is not None
    for epoch, perplexity in enumerate((50, 40, 45), 1):
        ledger.report({spec.number: report(epoch, perplexity)})
    ledger.tell(spec.number, Outcome.COMPLETED, "")
    return ledger.study.get_trials()[spec.number]


def test_what_is_written_is_read_again_to_the_last_bit(exported: Exported, tmp_path: Path) -> None:
    file = tmp_path / "best.yaml"
    write(exported, file)
    assert read(file) == exported
    assert exported.train.learning_rate == 1e-2
    assert (exported.train.eps, exported.train.seed) == (1e-08, 2**62)


def test_a_trials_perplexity_comes_with_its_step(exported: Exported) -> None:
    assert exported.origin.value == pytest.approx(40)
    assert (exported.origin.step, exported.origin.epoch) == (2, None)


def test_the_file_says_how_to_use_it_and_is_plain_yaml(exported: Exported, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    write(exported, file)
    text = file.read_text()
    assert "#   sweep train mine.yaml\n" in text
    assert "!!" not in text
    assert list(yaml.safe_load(text)) == ["format", "trainer", "train", "origin"]


def test_a_run_by_hand_is_marked_and_has_no_epoch_of_its_own(
    workspace: Workspace, tmp_path: Path
) -> None:
    open_ledger(tmp_path).__exit__()
    workspace.invoke("add", "--rate", "8e-4", "--perplexity", "26.03")
    workspace.invoke("export")
    origin = read(workspace.path / "best.yaml").origin
    assert (origin.by_hand, origin.value, origin.epoch) == (True, 26.03, 3)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"format": 2}, "format"),
        ({"surprise": 1}, "surprise"),
        ({"train": {}}, "learning_rate"),
        ({"origin": {"study": "x"}}, "origin"),
        ({"trainer": 3}, "trainer"),
    ],
)
def test_a_file_that_is_not_of_export_names_the_key(
    exported: Exported, tmp_path: Path, change: dict[str, object], key: str
) -> None:
    file = tmp_path / "best.yaml"
    write(exported, file)
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **change}))
    with pytest.raises(SweepError, match=f"best.yaml: .*{key}"):
        read(file)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("learning_rate: 1e-4", 1e-4),
        ("learning_rate: .5", 0.5),
        ("batch_size: 010", 10),
        ("seed: 0x10", 16),
    ],
)
def test_a_number_is_the_number_that_it_looks_like(
    exported: Exported, tmp_path: Path, line: str, value: float
) -> None:
    file, name = tmp_path / "best.yaml", line.partition(":")[0]
    write(exported, file)
    file.write_text(re.sub(rf"(?m)^  {name}: .*", f"  {line}", file.read_text()))
    assert getattr(read(file).train, name) == value


@pytest.mark.parametrize("name", ["1e5", "on", "010", "1:30", "true", "2026-01-01", "null", "1_0"])
def test_text_that_looks_like_something_else_stays_text(
    exported: Exported, tmp_path: Path, name: str
) -> None:
    file, data = tmp_path / "best.yaml", dataclasses.replace(exported.train.data, name=name)
    train = dataclasses.replace(exported.train, data=data)
    write(exported.model_copy(update={"train": train}), file)
    assert read(file).train.data.name == name
    assert yaml.safe_load(file.read_text())["train"]["data"]["name"] == name


@pytest.mark.parametrize(
    "key", ["batch_size", "clip_schedule", "data.window", "model.name", "model.options", "data"]
)
def test_no_default_stands_in_for_a_lost_line(exported: Exported, tmp_path: Path, key: str) -> None:
    file = tmp_path / "best.yaml"
    write(exported, file)
    fields = yaml.safe_load(file.read_text())
    *parents, name = key.split(".")
    del functools.reduce(dict.__getitem__, parents, fields["train"])[name]
    file.write_text(yaml.safe_dump(fields))
    with pytest.raises(SweepError, match=rf"train\.{key}.* is missing"):
        read(file)


def test_a_lost_option_of_the_model_is_missed(exported: Exported, tmp_path: Path) -> None:
    file = tmp_path / "best.yaml"
    origin = exported.origin.model_copy(update={"options": ["hidden"]})
    write(exported.model_copy(update={"origin": origin}), file)
    with pytest.raises(SweepError, match=r"train\.model\.options\.hidden is missing"):
        read(file)


def test_what_an_earlier_version_had_not_written_is_not_missed(
    exported: Exported, tmp_path: Path
) -> None:
    file = tmp_path / "best.yaml"
    write(exported, file)
    fields = yaml.safe_load(file.read_text())
    del fields["train"]["lr_schedule"]["warmup_share"], fields["origin"]["options"]
    file.write_text(yaml.safe_dump(fields))
    assert read(file).train == exported.train


def test_an_earlier_versions_perplexity_is_the_value(exported: Exported, tmp_path: Path) -> None:
    file = tmp_path / "best.yaml"
    write(exported, file)
    lines = file.read_text().replace("  value:", "  perplexity:").splitlines()
    file.write_text("\n".join(line for line in lines if "metric" not in line))
    assert read(file) == exported


def test_a_key_that_stands_twice_is_refused(exported: Exported, tmp_path: Path) -> None:
    file = tmp_path / "best.yaml"
    write(exported, file)
    file.write_text(f"{file.read_text()}format: 1\n")
    with pytest.raises(SweepError, match="key 'format' stands there twice"):
        read(file)


@pytest.mark.parametrize("text", ["", "[1, 2]", "just words", "a: [", "&a [*a, *a]", "\x00"])
def test_a_file_that_is_something_else_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "best.yaml"
    file.write_text(text)
    with pytest.raises(SweepError) as caught:
        read(file)
    assert "\n" not in str(caught.value)


def test_outside_a_repository_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None


@pytest.mark.parametrize(
    ("cohort", "perplexity", "said"),
    [
        (1, 40, "met again"),
        (1, 41, "NOT met"),
        (4, 40, "met again"),
        (4, 41, "NOT met, but it trained 4 side by side, which rounds otherwise"),
    ],
)
def test_training_again_is_compared_with_the_sweep(
    tmp_path: Path, cohort: int, perplexity: float, said: str
) -> None:
    with open_ledger(tmp_path, train=TRAIN) as ledger:
        ledger.cohort(cohort, lambda: 1)
        exported = export(ledger.study, finished(ledger), "sqlite:///sweep.db")
    words = beside_the_sweep(exported, {1: 60.0, 2: perplexity})
    assert words == f"step 2 gave perplexity {perplexity:.2f}, the sweep 40.00: {said}"
    decays = dataclasses.replace(exported.train, lr_schedule=LRSchedule(name="wsd"))
    longer = exported.model_copy(update={"train": decays})
    words = beside_the_sweep(longer, {2: 41.0, 3: 39.0})
    assert words.endswith("the sweep 40.00: another run, whose rate decays later")
