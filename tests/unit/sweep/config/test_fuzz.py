"""Thousands of files and settings that nobody meant: each is read, or refused in one line."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tomlkit
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sweep.config.load import FILE_NAME, default_text, load, parse_assignment
from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.results.export import Exported, read
from trainers.errors import TrainerError

DEFAULTS = tomllib.loads(default_text())
quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")


KEYS = sorted(leaves(DEFAULTS))
numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, -1, 10**30, 1e-320, 1e308, True, False])
)
scalars = st.one_of(numbers, st.text(max_size=20), st.dates(), st.sampled_from(["auto", "", "all"]))
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def read_or_refused(call: Any) -> Any:
    """What it gives, or None where it was refused as a user's error is: in one line."""
    try:
        return call()
    except (SweepError, TrainerError) as error:
        line = " ".join(str(error).split())  # as the command line shows it
    assert line
    assert len(line.splitlines()) == 1
    return None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@quick
@given(text=st.text(max_size=200))
@example(text="\x00")
@example(text="[" * 5000)
@example(text="a = " + "[" * 5000)
@example(text="a." * 3000 + "b = 1")
@example(text="a = " + "9" * 5000)
def test_any_text_for_a_sweep_toml(file: Path, text: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    read_or_refused(lambda: load(file, profile=None, cuda=False))


@quick
@given(content=st.binary(max_size=100))
def test_any_bytes_for_a_sweep_toml_and_for_a_best_yaml(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    read_or_refused(lambda: load(file, profile=None, cuda=False))
    assert read_or_refused(lambda: read(file)) is None


@quick
@given(key=st.sampled_from(KEYS), value=values)
def test_any_value_for_a_known_key(file: Path, key: str, value: Any) -> None:
    document = {"profiles": {"cpu": {}}}
    place: dict[str, Any] = document
    *parents, last = key.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    try:
        file.write_text(tomlkit.dumps(document), encoding="utf-8")
    except (ValueError, UnicodeError):
        return  # what TOML itself cannot say
    found = read_or_refused(lambda: load(file, profile=None, cuda=False))
    assert found is None or isinstance(found, SweepConfig)


@quick
@given(assignment=st.text(max_size=40) | st.builds("{}={}".format, st.sampled_from(KEYS), scalars))
@example(assignment="trainer.epochs=" + "[" * 5000)
def test_any_assignment(tmp_path: Path, assignment: str) -> None:
    read_or_refused(lambda: parse_assignment(assignment))
    read_or_refused(lambda: load(None, profile=None, cuda=False, assignments=[assignment]))


yamls = st.recursive(
    scalars | st.none() | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | numbers | st.none(), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = (*Exported.model_fields, "format", "train", "origin", "trainer")


@quick
@given(fields=st.dictionaries(st.sampled_from(sorted(set(FIELDS))), yamls) | yamls)
@example(fields={"format": 1, "train": {"learning_rate": "1e-3"}})
def test_any_yaml_for_a_best_yaml(file: Path, fields: Any) -> None:
    try:
        text = yaml.safe_dump(fields)
    except yaml.YAMLError:
        return
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert read_or_refused(lambda: read(file)) is None


@quick
@given(text=st.text(max_size=200))
@example(text="[" * 3000)
@example(text="a: &a [*a]")
@example(text="&a [" + ", ".join(["*a"] * 5) + "]")
@example(text="? [1, 2]\n: 3")
@example(text="2001-99-99")
@example(text="x: " + "9" * 5000)
@example(text="x: 0o99999999999999999999999")
@example(text="!!python/object/apply:os.system ['true']")
def test_any_text_for_a_best_yaml(file: Path, text: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert read_or_refused(lambda: read(file)) is None
