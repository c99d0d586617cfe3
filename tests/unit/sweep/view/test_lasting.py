"""Streams that end while something is shown on them."""

import contextlib
import os
import pty
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest

from sweep.orchestration.log import logged_to
from sweep.view import make_view


def pipe() -> TextIO:
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


def terminal() -> TextIO:
    main, own = pty.openpty()
    os.close(main)
    return os.fdopen(own, "w")


def full() -> TextIO:
    return Path("/dev/full").open("w")


@pytest.mark.parametrize("view", ["live", "plain", "json"])
@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (pipe, "Broken pipe"),
        (terminal, "Input/output error"),
        pytest.param(
            full,
            "No space left on device",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it"),
        ),
    ],
)
def test_the_view_goes_on_and_the_log_says_so_once(
    stream: Callable[[], TextIO], why: str, view: str, tmp_path: Path
) -> None:
    with stream() as opened, make_view(json_lines=False, stream=opened, name=view) as shown:
        shown.note("before there is a study")
        with logged_to(tmp_path):
            for _ in range(2000):  # more than a buffer holds
                shown.warn("the work goes on")
    (line,) = (tmp_path / "sweep.log").read_text().splitlines()
    assert line.endswith(
        f"WARNING {os.getpid()} nothing is shown any more ({why}), and the work goes on"
    )


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "sweep.log").mkdir()
    with logged_to(tmp_path), contextlib.closing(pipe()) as opened:
        make_view(json_lines=True, stream=opened).note("nobody reads this")
