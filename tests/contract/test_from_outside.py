"""Each thing that can be added, added from outside: by the package that CONTRIBUTING.md shows.

It is written to a folder of its own as pip would install it: modules, and their entry points.
"""

import importlib
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import click
import pytest
from support import Workspace, refusal

from studies.rules import Reference, Setting
from sweep.cli import cli, command_kind
from sweep.execution.executors import EXECUTORS
from sweep.orchestration.samplers import SAMPLERS
from sweep.view import VIEWS
from trainers.errors import TrainerError
from trainers.finding import Kind
from trainers.models import MODELS

pytestmark = pytest.mark.more

GUIDE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", GUIDE, re.DOTALL))
KINDS = [MODELS, EXECUTORS, SAMPLERS, VIEWS, command_kind()]
TRIALS = 6
ADDED = {
    "by_name": ("bigram", "calm", "wide-tpe", "bell"),
    "by_path": ("mymodels:build", "myexecutors:create", "mysamplers:wide_tpe", "myviews:Bell"),
}


def install(folder: Path, name: str, points: dict[str, dict[str, str]], **files: str) -> None:
    """Writes a package into a folder, as if it were installed there."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        line
        for group, named in points.items()
        for line in (f"[{group}]", *(f"{name} = {path}" for name, path in named.items()))
    ]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module, text in files.items():
        (folder / f"{module}.py").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The guide's package on the path of every process that is started."""
    folder = tmp_path_factory.mktemp("installed")
    points = tomllib.loads(BLOCKS["pyproject.toml"])["project"]["entry-points"]
    modules = {Path(name).stem: text for name, text in BLOCKS.items() if name.endswith(".py")}
    install(folder, "outside", points, **modules)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    with mock.patch.dict(os.environ, PYTHONPATH=path):
        yield folder


@pytest.fixture(scope="module", params=ADDED)
def swept(
    request: pytest.FixtureRequest,
    installed: Path,
    tmp_path_factory: pytest.TempPathFactory,
    english: Path,
) -> Workspace:
    """A sweep with everything added at once, named by entry points or by import paths."""
    workspace = Workspace(tmp_path_factory.mktemp(request.param), english)
    texts = "\n\n".join(file.read_text(encoding="utf-8") for file in sorted(english.iterdir()))
    letters = (json.dumps({"text": " ".join(text.split())}) for text in texts.split("\n\n"))
    workspace.write("letters.jsonl", "\n".join(letters))
    toml = workspace.path / "sweep.toml"
    toml.write_text(f"{toml.read_text()}\n{BLOCKS['sweep.toml']}", encoding="utf-8")
    model, executor, sampler, view = ADDED[request.param]
    workspace.said = workspace.sweep(
        "run", "--model", model, "--executor", executor, "--set", f"study.sampler={sampler}",
        "--set", f"study.view={view}", "--data", "mytexts:read", "--trainer", "mytrainer:measured",
        "--trials", TRIALS, "--epochs", 1,
    )  # fmt: skip
    return workspace


class TestASweepWithAllOfThem:
    def test_the_rule_is_a_function_of_two_settings(self, swept: Workspace) -> None:
        (rule,) = [r for r in swept.study().user_attrs["rules"] if r["name"] == "saturating"]
        assert rule["learning_rate"] == pytest.approx(3e-2 * (1 + 512 / 32) / (1 + 512 / 64))
        assert rule["formula"] == "lr0 x (1 + 512/B0) / (1 + 512/B)"
        assert rule["source"].startswith("McCandlish")
        assert "saturating" in swept.invoke("report").out  # which does not run its function

    def test_the_model_is_trained(self, swept: Workspace) -> None:
        assert swept.study().user_attrs["parameters"] == 300 * 16 + (16 + 1) * 300

    def test_the_executor_runs_the_trials(self, swept: Workspace) -> None:
        assert swept.said.out.count("calmly: trial ") == TRIALS

    def test_the_view_shows_them(self, swept: Workspace) -> None:
        assert swept.said.out.count("ding: trial ") == TRIALS

    def test_the_sampler_chooses_what_no_rule_says(self, swept: Workspace) -> None:
        study = swept.study()
        assert study.user_attrs["sampler"] in ("wide-tpe", "mysamplers:wide_tpe")
        low, high = study.user_attrs["range"]
        rates = [trial.params["learning_rate"] for trial in study.trials]
        assert len(set(rates)) == TRIALS
        assert all(low <= rate <= high for rate in rates)

    def test_the_text_is_read(self, swept: Workspace) -> None:
        assert swept.study().user_attrs["identity"]["data_source"] == "letters"

    def test_the_metric_is_stored_and_shown(self, swept: Workspace) -> None:
        (perplexity,) = swept.study().trials[0].intermediate_values.values()
        bits = swept.study().trials[0].user_attrs["metrics"]["bits a token"]
        assert 2**bits == pytest.approx(perplexity)
        assert f"{bits:.4g}" in swept.invoke("show", 0).out

    def test_the_command_with_a_dash_runs_and_is_listed(self, swept: Workspace) -> None:
        best = swept.study().best_trial.params["learning_rate"]
        assert swept.sweep("best-rate").out.strip() == f"{best:.3g}"
        listed = swept.sweep("--help").out.partition("Others:")[2]
        assert "\n  best-rate  Prints the best rate of the study that ran last." in listed

    def test_what_a_file_names_is_not_run_unless_the_user_names_it_too(
        self, swept: Workspace
    ) -> None:
        swept.invoke("export")
        allowed = [] if swept.said.out.count("bigram") else ["--model", "mymodels:build"]
        allowed += ["--trainer", "mytrainer:measured"]
        for command in (("train", "best.yaml"), ("confirm",)):
            line = refusal(swept.invoke(*command, *allowed, code=2))
            assert "add --data mytexts:read if you trust it" in line


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
class TestEveryKind:
    def test_each_of_its_names_is_found(self, kind: Kind) -> None:
        assert set(kind.built_in) <= set(kind.names())
        for name in sorted(kind.built_in):
            if (kind.what, name) == ("executor", "ray"):
                pytest.importorskip("ray")
            assert callable(kind.find(name))

    def test_another_name_is_answered_with_those_there_are(self, kind: Kind) -> None:
        known = sorted(kind.built_in)[0]
        with pytest.raises(
            TrainerError, match=f'no {kind.what} "{known}x" .did you mean "{known}"'
        ):
            kind.check(f"{known}x")

    def test_one_of_a_package_does_not_take_a_built_in_name(
        self, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = sorted(kind.built_in)[0]
        install(tmp_path, "taken", {kind.group: {known: "no_such_module:thing"}})
        monkeypatch.syspath_prepend(tmp_path)
        assert kind.names().count(known) == 1
        assert callable(kind.find(known))

    def test_a_broken_one_is_one_line(
        self, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = f"broken_{kind.what}"
        points = {"broken": f"{module}:thing", "absent": "no_such_module:thing"}
        install(tmp_path, "careless", {kind.group: points}, **{module: "1 / 0"})
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        assert {"broken", "absent"} <= set(kind.names())
        with pytest.raises(TrainerError) as caught:
            kind.find("broken")
        assert str(caught.value) == (
            f'{kind.what} "broken" of careless: importing {module} failed with '
            "ZeroDivisionError: division by zero"
        )
        with pytest.raises(TrainerError, match="there is no module no_such_module"):
            kind.find("absent")

    def test_what_it_makes_must_keep_the_contract(
        self, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if kind.contract is None:
            pytest.skip("whoever calls it checks that")
        module = f"careless_{kind.what}"
        (tmp_path / f"{module}.py").write_text("def make(*_): pass\ndef fail(*_): raise OSError(7)")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(TrainerError, match="the NoneType that it made has no"):
            kind.find(f"{module}:make")(1, 2)
        with pytest.raises(TrainerError, match="failed with OSError: 7"):
            kind.find(f"{module}:fail")(1, 2)


def test_a_broken_command_spoils_no_other(
    workspace: Workspace, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("careless")
    points = {"broken": "broken_one:thing", "no-command": "no_command:thing"}
    modules = {"broken_one": "raise OSError('no\\nroom')", "no_command": "thing = print"}
    install(folder, "careless", {"sweep.commands": points}, **modules)
    monkeypatch.syspath_prepend(folder)
    listed = workspace.invoke("--help").out
    assert "\n  run " in listed
    assert "(cannot be loaded)" in listed
    assert "failed with OSError: no room" in refusal(workspace.invoke("broken", "--x", code=2))
    assert "must be a click.Command" in refusal(workspace.invoke("no-command", code=2))
    offered = cli.shell_complete(click.Context(cli), "")
    assert {"run", "broken"} <= {item.value for item in offered}


RULES = """\
    import math
    class Fixed:
        formula, source = "a tenth", "us"
        def learning_rate(self, reference, setting): return 0.1
    fixed, number = Fixed(), 3
    def negative(reference, setting): return -1.0
    def nan(reference, setting): return math.nan
    def text(reference, setting): return "fast"
    def fails(reference, setting): raise KeyError("B")
"""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("negative", "'mine': the rate of its function must be positive and finite, got -1"),
        ("nan", "must be positive and finite, got nan"),
        ("text", "'mine': its function failed with ValueError: could not convert"),
        ("fails", "'mine': its function failed with KeyError: 'B'"),
        ("number", "must be callable, it is of type int"),
        ("absent", 'has no attribute "absent"'),
    ],
)
def test_a_rule_s_own_fault_is_one_line(workspace: Workspace, function: str, words: str) -> None:
    workspace.write("bad_rules.py", RULES)
    toml = workspace.path / "sweep.toml"
    rule = f'[[rules]]\nname = "mine"\nfunction = "bad_rules:{function}"\n'
    toml.write_text(f"{toml.read_text()}\n{rule}", encoding="utf-8")
    assert words in refusal(workspace.sweep("priors", code=2))


def test_a_rule_may_be_an_object_and_have_no_exponents_beside_it(workspace: Workspace) -> None:
    workspace.write("good_rules.py", RULES)
    toml = workspace.path / "sweep.toml"
    rule = '[[rules]]\nname = "mine"\nfunction = "good_rules:fixed"\n'
    toml.write_text(f"{toml.read_text()}\n{rule}", encoding="utf-8")
    (mine,) = [
        rule
        for rule in json.loads(workspace.sweep("priors", "--json").out)["rules"]
        if rule["name"] == "mine"
    ]
    assert mine == {"name": "mine", "learning_rate": 0.1, "formula": "a tenth", "source": "us"}
    toml.write_text(f"{toml.read_text()}batch_exponent = 1.0\n", encoding="utf-8")
    line = refusal(workspace.invoke("priors", code=2))
    assert "'mine': batch_exponent is set beside a function" in line


def test_the_guide_s_rule_is_linear_below_the_critical_batch_and_level_above_it() -> None:
    made: dict[str, object] = {}
    exec(BLOCKS["myrules.py"], made)
    rule = made["saturating"]
    assert callable(rule)
    reference = Reference(Setting(1, 100), 1e-3, None, swept=True)
    assert rule(reference, Setting(2, 100)) == pytest.approx(2e-3, rel=0.01)
    assert rule(reference, Setting(2**20, 100)) == pytest.approx(0.513, rel=0.01)
