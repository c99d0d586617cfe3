"""Checkpoints: a crash cannot spoil them, and no code is run from them."""

import contextlib
import logging
import os
import pickle
import random
import resource
import shutil
import zipfile
from collections import OrderedDict

import pytest
import torch

from trainers import checkpoint
from trainers.checkpoint import BEST, LAST, PREVIOUS, SpoiltError, latest, read, save, write
from trainers.errors import TrainerError


def payload(epoch, size=200):
    """Like a member's state: tensors in dictionaries, numbers, tuples and text."""
    return {
        "config": {"learning_rate": 1e-3, "clip": ((0, 0.5), (10, 1.0)), "name": "x", "on": True},
        "model": OrderedDict(weight=torch.full((size,), float(epoch))),
        "history": [{"epoch": number, "loss": 1 / number} for number in range(1, epoch + 1)],
    }


def epoch_of(state):
    """The epoch a payload was made for, after a look at all of it."""
    epoch = len(state["history"])
    expected = payload(epoch, len(state["model"]["weight"]))
    assert state["config"] == expected["config"]
    assert torch.equal(state["model"]["weight"], expected["model"]["weight"])
    return epoch


def files(directory):
    return sorted(path.name for path in directory.iterdir())


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / BEST, payload(3))
    state = read(tmp_path / BEST)
    assert state.pop("format") == checkpoint.FORMAT
    assert epoch_of(state) == 3
    assert set(state) == set(payload(3))


def test_torch_and_a_user_can_read_it_too(tmp_path):
    write(tmp_path / BEST, payload(3))
    assert epoch_of(torch.load(tmp_path / BEST, weights_only=True)) == 3


def test_the_one_before_is_kept_and_nothing_else(tmp_path):
    assert latest(tmp_path) is None
    for epoch in (1, 2, 3):
        save(tmp_path, payload(epoch))
        assert epoch_of(latest(tmp_path)) == epoch
    assert epoch_of(read(tmp_path / PREVIOUS)) == 2
    assert files(tmp_path) == [LAST, PREVIOUS]


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    for epoch in (1, 2, 3):
        save(tmp_path, payload(epoch))
    assert epoch_of(read(tmp_path / LAST)) == 3
    assert epoch_of(read(tmp_path / PREVIOUS)) == 2


@contextlib.contextmanager
def small_disk():
    """A limit on a file's size: writing beyond it fails as a full disk does, half way through.

    Around the writing alone: pytest's own output may be a file that is longer already.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_leaves_the_last_one_as_it_was(tmp_path):
    save(tmp_path, payload(1))
    save(tmp_path, payload(2))
    full = pytest.raises(TrainerError, match=r"last\.pt cannot be written: File too large")
    with full as caught, small_disk():
        save(tmp_path, payload(3, size=10**5))
    assert "\n" not in str(caught.value)
    assert epoch_of(latest(tmp_path)) == 2
    assert files(tmp_path) == [LAST, PREVIOUS]


@pytest.mark.parametrize("failing", ["fsync", "replace", "link"])
def test_an_error_at_any_moment_leaves_a_good_one(tmp_path, monkeypatch, failing):
    save(tmp_path, payload(1))
    save(tmp_path, payload(2))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, failing, full)
        if failing == "link":
            broken.setattr(shutil, "copyfile", full)
        with pytest.raises((TrainerError, OSError), match="No space left"):
            save(tmp_path, payload(3))
    assert epoch_of(latest(tmp_path)) == 2
    assert LAST in files(tmp_path)
    assert set(files(tmp_path)) <= {LAST, PREVIOUS}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["link", "fsync", "replace"])
def test_a_kill_at_any_moment_leaves_a_good_one(tmp_path, monkeypatch, moment):
    save(tmp_path, payload(1))
    save(tmp_path, payload(2))

    def killed(*_):
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(os, moment, killed)
        with pytest.raises(Killed):
            save(tmp_path, payload(3))
    assert epoch_of(latest(tmp_path)) == 2
    save(tmp_path, payload(3))
    assert epoch_of(latest(tmp_path)) == 3


def truncated(content):
    return content[: len(content) // 2]


def one_bit_of_a_weight(content):
    place = content.index(torch.full((50,), 2.0).numpy().tobytes()) + 40
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def zeros_in_the_middle(content):
    middle = len(content) // 2
    return content[:middle] + bytes(100) + content[middle + 100 :]


DAMAGE = [truncated, one_bit_of_a_weight, zeros_in_the_middle, lambda _: b"", lambda _: b"\x80\x02"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_spoilt_one_gives_way_to_the_one_before(tmp_path, damage, caplog):
    save(tmp_path, payload(1))
    save(tmp_path, payload(2))
    last = tmp_path / LAST
    last.write_bytes(damage(last.read_bytes()))
    with pytest.raises(SpoiltError, match=r"last\.pt is spoilt"):
        read(last)
    with caplog.at_level(logging.WARNING):
        assert epoch_of(latest(tmp_path)) == 1
    assert "last.pt is spoilt" in caplog.text
    # The spoilt one never takes the good one's place.
    assert files(tmp_path) == ["last.spoilt", PREVIOUS]
    save(tmp_path, payload(2))
    assert epoch_of(latest(tmp_path)) == 2
    assert epoch_of(read(tmp_path / PREVIOUS)) == 1


def test_with_both_spoilt_the_run_starts_anew(tmp_path, caplog):
    """Its config fixes the whole run, so nothing but time is lost; the files are kept aside."""
    save(tmp_path, payload(1))
    save(tmp_path, payload(2))
    for name in (LAST, PREVIOUS):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(truncated(content))
    with caplog.at_level(logging.WARNING):
        assert latest(tmp_path) is None
    assert len(caplog.records) == 2
    assert files(tmp_path) == ["last.spoilt", "previous.spoilt"]


def test_no_damage_is_taken_for_a_checkpoint(tmp_path):
    """Hundreds of random damages: each is noticed, or has not changed what is read."""
    path = tmp_path / LAST
    write(path, payload(4))
    whole = path.read_bytes()
    chance = random.Random(0)
    noticed = 0
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(chance.choice([1, 1, 5])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content[: chance.choice([len(content), chance.randrange(len(content))])])
        try:
            state = read(path)
        except TrainerError:
            noticed += 1
        else:
            assert epoch_of(state) == 4
    assert noticed > 200


class Hostile:
    """Unpickled naively, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def hostile_archive(path, trap):
    torch.save({"format": checkpoint.FORMAT, "model": Hostile(trap)}, path)


def hostile_pickle(path, trap):
    path.write_bytes(pickle.dumps({"format": checkpoint.FORMAT, "model": Hostile(trap)}))


def hostile_old_format(path, trap):
    content = {"format": checkpoint.FORMAT, "model": Hostile(trap)}
    torch.save(content, path, _use_new_zipfile_serialization=False)


def hostile_script(path, trap):
    """An archive that passes for a TorchScript program."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Hostile(trap)))
        archive.writestr("archive/constants.pkl", pickle.dumps(Hostile(trap)))
        archive.writestr("archive/version", "3")


@pytest.mark.parametrize(
    "craft", [hostile_archive, hostile_pickle, hostile_old_format, hostile_script]
)
def test_no_code_is_run_from_a_hostile_file(tmp_path, craft):
    trap = tmp_path / "trap"
    craft(tmp_path / LAST, trap)
    with pytest.raises(SpoiltError):
        read(tmp_path / LAST)
    assert latest(tmp_path) is None
    assert not trap.exists()
    # The test's own trap works: an unsafe load does run it.
    if craft is hostile_archive:
        torch.load(tmp_path / "last.spoilt", weights_only=False)["model"].close()
        assert trap.exists()


@pytest.mark.parametrize("content", [[1, 2], {"format": 99}, {"model": {}}, torch.zeros(3)])
def test_another_format_is_an_error_and_stays_where_it_is(tmp_path, content):
    torch.save(content, tmp_path / LAST)
    with pytest.raises(TrainerError, match="unknown format: move it away to start anew"):
        latest(tmp_path)
    assert files(tmp_path) == [LAST]


def test_a_checkpoint_that_cannot_be_opened_is_an_error_not_a_new_start(tmp_path):
    (tmp_path / LAST).mkdir()
    with pytest.raises(TrainerError, match=r"last\.pt cannot be read: Is a directory"):
        latest(tmp_path)


def test_a_missing_one_is_named(tmp_path):
    with pytest.raises(TrainerError, match=r"there is no checkpoint .*best\.pt"):
        read(tmp_path / BEST)


def test_a_folder_that_is_gone_is_one_line(tmp_path):
    write(tmp_path / "made" / BEST, payload(1))  # a missing folder is made
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainerError, match=r"best\.pt cannot be written: "):
        write(tmp_path / "file" / BEST, payload(1))
