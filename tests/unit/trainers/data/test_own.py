"""A source of text of the user's own: a function, named by its import path."""

from pathlib import Path

import pytest

from trainers.config import DataConfig
from trainers.data import build_corpus, is_function, source_fingerprint
from trainers.errors import TrainerError

SOURCES = """\
from trainers.data import Paragraphs
def good(config):
    texts = [f"a text of {number} words and more" for number in range(20)]
    return Paragraphs(texts, texts[:2], source="numbers", notes=(config.name,))
def nothing(config): return ["a text"]
def fails(config): raise OSError("two\\nlines")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_sources.py").write_text(SOURCES)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_sources"


def test_its_paragraphs_become_the_corpus(module: str) -> None:
    config = DataConfig(name=f"{module}:good")
    corpus = build_corpus(config)
    assert (corpus.source, corpus.notes[0]) == ("numbers", config.name)
    assert source_fingerprint(config) == ""  # which would have to run it


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "must return trainers.data.Paragraphs, it returned a list"),
        ("fails", "failed with OSError: two lines"),
        ("absent", 'has no attribute "absent"'),
    ],
)
def test_what_is_wrong_with_it_is_one_line(module: str, name: str, words: str) -> None:
    with pytest.raises(TrainerError, match=words) as caught:
        build_corpus(DataConfig(name=f"{module}:{name}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("mytexts:read", True),
        ("my.texts:Source.read", True),
        ("docstrings", False),
        ("Salesforce/wikitext", False),
        ("notes/a:b", False),
        ("./a:b", False),
        ("C:\\texts", False),
        ("a:b.txt/c", False),
        ("https://x.org:80", False),
    ],
)
def test_only_an_import_path_names_a_function(name: str, function: bool) -> None:
    assert is_function(name) is function
