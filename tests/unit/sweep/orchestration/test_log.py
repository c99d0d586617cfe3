"""The log in a study's folder, of a real sweep."""

from pathlib import Path

from support import Workspace

from sweep.results.place import place_of


def test_it_says_what_happened_to_each_trial(finished: Workspace) -> None:
    lines = (place_of(finished.study()) / "sweep.log").read_text().splitlines()
    said = [line.split(maxsplit=4)[-1] for line in lines]
    for number in range(5):
        assert any(line.startswith(f"trial {number} begins at rate") for line in said)
        assert any(line.startswith(f"trial {number} complete at step ") for line in said)
    assert all(line.split()[2] in ("INFO", "WARNING") for line in lines)


def test_it_goes_on_in_the_same_file(finished: Workspace, tmp_path: Path) -> None:
    copied = finished.copy_to(tmp_path / "copy")
    log = place_of(copied.study()) / "sweep.log"
    before = log.read_text()
    copied.sweep("run", "--trials", 6)
    assert log.read_text().startswith(before)
    assert "trial 5 complete" in log.read_text()
