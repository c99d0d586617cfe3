import sys

import pytest

from trainers.errors import TrainerError
from trainers.importing import import_object, is_import_path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_finds_a_module_in_the_working_directory(folder):
    (folder / "mine_import.py").write_text(
        "class A:\n    @staticmethod\n    def make(): return 7\n"
    )
    assert import_object("mine_import:A.make", what="model")() == 7
    assert sys.path[-1] == str(folder)


def test_a_module_written_later_is_found(folder):
    (folder / "first_import.py").write_text("def make(): return 1\n")
    import_object("first_import:make", what="model")
    (folder / "second_import.py").write_text("def make(): return 2\n")
    assert import_object("second_import:make", what="model")() == 2


def test_installed_modules_are_found():
    assert import_object("os.path:join", what="model")("a", "b") == "a/b"


@pytest.mark.parametrize("path", ["a", "a.b", ":f", "a:", "a:b:c", "a b:c", "a..b:c", "a:.c", ""])
def test_a_malformed_path_is_named(path):
    with pytest.raises(TrainerError, match=r"model must read .*package\.module:factory") as caught:
        import_object(path, what="model")
    assert f'"{path}"' in str(caught.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:f", 'model "no_such_module:f": there is no module no_such_module'),
        ("os.no_such:f", 'model "os.no_such:f": there is no module os.no_such'),
        ("no_such.inner:f", 'model "no_such.inner:f": there is no module no_such'),
        ("os:no_such", 'model "os:no_such": module os has no attribute "no_such"'),
        ("os:sep", 'model "os:sep" must be callable, it is of type str'),
    ],
)
def test_what_is_missing_is_named(path, message):
    with pytest.raises(TrainerError) as caught:
        import_object(path, what="model")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'"),
        ("def broken(:", "SyntaxError: "),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
    ],
)
def test_an_import_that_fails_is_one_line(folder, source, reason):
    (folder / "failing_import.py").write_text(source)
    with pytest.raises(TrainerError) as caught:
        import_object("failing_import:f", what="trainer")
    assert f"importing failing_import failed with {reason}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_is_import_path():
    assert is_import_path("a.b:c")
    assert not is_import_path("gpt")
