"""Docstrings as a corpus: real packages, each paragraph once, the cache and its loss."""

import gzip
import json
from pathlib import Path

import pytest

import trainers.data.docstrings as docstrings
from trainers.config import DataConfig
from trainers.data import build_corpus
from trainers.data.extract import paragraphs

SOURCE = '''"""The module's own text.

    >>> doctest_is_left_out()

Its second paragraph,
over two lines.
"""
import os

text = """not a docstring, whatever it looks like"""
if os.name:
    try:
        class Inner:
            """A class in a branch."""

            async def method(self):
                r"""A method with \\d and a \\ud800 in it."""
                def nested():
                    "A function in a function."
    except OSError:
        def handler(): "A function in a handler."
'''


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(docstrings, "PACKAGES", ("click", "tomlkit", "no_such_package_here"))
    return tmp_path / "cache" / "sweep"


def test_docstrings_are_found_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "source.py").write_text(SOURCE, encoding="utf-8")
    assert paragraphs(tmp_path / "source.py") == [
        "The module's own text.",
        "Its second paragraph, over two lines.",
        "A class in a branch.",
        r"A method with \d and a \ud800 in it.",
        "A function in a function.",
        "A function in a handler.",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'"""Text of a module."""\nprint "Python 2"', []),
        (b"\xff\xfe no text at all", []),
        (b'"""An escape \\d that warns."""', [r"An escape \d that warns."]),
        (b'"""A lone \\ud800 surrogate."""', ["A lone ? surrogate."]),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_files_of_others_do_no_harm(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    (tmp_path / "other.py").write_bytes(content)
    assert paragraphs(tmp_path / "other.py") == expected


def test_real_packages_give_two_splits_without_repeats(cache: Path) -> None:
    found = docstrings.read()
    everything = [text.lower() for text in found.train + found.validation]
    assert len(everything) == len(set(everything)) > 500
    assert 0.02 < len(found.validation) / len(everything) < 0.4
    assert any("command" in text for text in found.train)
    assert not any(text.startswith(">>>") for text in everything)


def test_files_are_in_the_order_of_their_names() -> None:
    names = [name for name, _ in docstrings._files(docstrings.STANDARD_LIBRARY)]
    assert names == sorted(names)
    assert {"python/json/__init__.py", "python/argparse.py"} < set(names)
    assert not any("site-packages" in name or "/test/" in name for name in names)


def test_the_cache_is_read_and_a_broken_one_made_again(cache: Path) -> None:
    first = docstrings.read()
    (file,) = cache.iterdir()
    content = file.read_bytes()
    stored = {"train": ["Read from the cache."], "validation": ["And this."]}
    file.write_bytes(gzip.compress(json.dumps(stored).encode()))
    assert docstrings.read().train == ["Read from the cache."]
    for broken in (content[: len(content) // 2], b"", b"no gzip", gzip.compress(b"[]")):
        file.write_bytes(broken)
        assert docstrings.read() == first
        assert file.read_bytes() == content  # the same bytes: nothing depends on time or order


def test_another_version_or_rule_has_another_cache(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {docstrings.cache_path()}
    monkeypatch.setattr(docstrings, "EXTRACTION", docstrings.EXTRACTION + 1)
    paths.add(docstrings.cache_path())
    monkeypatch.setattr(docstrings, "version", lambda name: "9.9.9")
    paths.add(docstrings.cache_path())
    assert len(paths) == 3


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert docstrings.read().train


def test_a_corpus_of_docstrings(cache: Path) -> None:
    corpus = build_corpus(DataConfig(name="docstrings", window=16, stride=8, train_sequences=500))
    assert corpus.source == "docstrings"
    assert corpus.train.tokens.shape == (500, 16)
    assert {"option", "command", "the"} < set(corpus.vocabulary)
    assert 0.05 < corpus.unknown_share < 0.4
    assert 20 < corpus.unigram_perplexity < 1000
