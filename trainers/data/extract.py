"""The docstrings of Python files, by `ast`: nothing is imported or run.

A program of its own that needs the standard library alone, so that a few of them start in no
time, whatever the calling process is: a script, a notebook or a daemon.
In: paths, one a line. Out: JSON, a list of paragraphs a path.
"""

import ast
import gc
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

_Documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_Nesting = (ast.stmt, ast.ExceptHandler, ast.match_case)


def docstrings(node: ast.AST) -> Iterator[str]:
    """Yield the docstrings below `node`, in the order of the source."""
    if isinstance(node, _Documented):
        text = ast.get_docstring(node)
        if text:
            yield text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Nesting):  # expressions hold no docstrings: most of the time saved
            yield from docstrings(child)


def paragraphs(path: Path) -> list[str]:
    """Read a file's docstrings, cut at blank lines, white space collapsed, doctests left out."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return []  # templates and files for another Python: no text of ours
    blocks = [block.split() for text in docstrings(tree) for block in _blocks(text)]
    joined = [" ".join(words) for words in blocks if words and words[0] != ">>>"]
    return [text.encode("utf-8", "replace").decode() for text in joined]  # lone surrogates


def _blocks(text: str) -> list[str]:
    """Cut at blank lines, also those that hold spaces."""
    return "\n".join(line.rstrip() for line in text.splitlines()).split("\n\n")


def main() -> None:
    """Read paths from stdin and write their paragraphs to stdout."""
    gc.disable()  # syntax trees have no cycles: a third faster
    warnings.simplefilter("ignore")  # invalid escapes in other people's files
    found = [paragraphs(Path(line)) for line in sys.stdin.read().splitlines()]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
