import os
import stat
from pathlib import Path

import pytest

from sweep.errors import SweepError
from sweep.outputs import HEADERS, STDOUT, write_output


@pytest.mark.parametrize(
    "start",
    [
        *HEADERS,
        "",
        "<!doctype html>\n<head><title>Learning-rate report: mine</title>",
        '{"study": "mine", "within_one_percent": null',
    ],
)
def test_an_earlier_output_is_replaced(tmp_path: Path, start: str) -> None:
    file = tmp_path / "out"
    file.write_text(start)
    write_output(file, "new")
    assert file.read_text() == "new"


@pytest.mark.parametrize(
    "content",
    [b"SQLite format 3\0", b"notes", b"<!doctype html><p>mine", b"\x89PNG\r\n\x1a\nmine", b"{}"],
)
def test_anything_else_is_replaced_by_force_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "sweep.db"
    file.write_bytes(content)
    with pytest.raises(SweepError, match=r"sweep\.db was not written by.*--force"):
        write_output(file, "new")
    assert [each.name for each in tmp_path.iterdir()] == ["sweep.db"]
    assert file.read_bytes() == content
    write_output(file, "new", force=True)
    assert file.read_text() == "new"


def test_a_link_stays_a_link_and_a_file_as_private_as_it_was(tmp_path: Path) -> None:
    file, link = tmp_path / "sweep.toml", tmp_path / "link"
    file.touch(0o600)
    link.symlink_to(file)
    write_output(link, "new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_device_or_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    write_output(Path("/dev/null"), "new")
    assert Path("/dev/null").is_char_device()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_output(pipe, "new")
    assert os.read(reader, 9) == b"new"
    os.close(reader)


def test_a_dash_is_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_output(STDOUT, "new")
    assert capsys.readouterr().out == "new"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "words"), [("no/file", "no folder"), (".", "is a folder")])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(SweepError, match=f"cannot be written: .*{words}"):
        write_output(tmp_path / name, "new")
