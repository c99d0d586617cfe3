"""Hub data sets by the real `load_dataset`: local folders in its layout, the cache, no network."""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import huggingface_hub.constants
import pytest

import trainers
from trainers.config import DataConfig
from trainers.data import Paragraphs, build_corpus, hub, reach, source_fingerprint
from trainers.errors import TrainerError


def rows(first: int, count: int) -> list[str]:
    return [
        text
        for number in range(first, first + count)
        for text in (f"In year {number} the town of {number % 7} mills built a bridge .", "")
    ]


def table(first: int, count: int) -> datasets.Dataset:
    texts = rows(first, count)
    return datasets.Dataset.from_dict({"text": texts, "place": list(range(len(texts)))})


def full(texts: list[str]) -> list[str]:
    return [text for text in texts if text]


def texts(found: Paragraphs) -> tuple[list[str], list[str]]:
    return list(found.train), list(found.validation)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    return tmp_path / "hf"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a data set as it lies on the hub."""
    data = tmp_path / "towns" / "data"
    data.mkdir(parents=True)
    for split, first, count in (("train", 0, 60), ("validation", 100, 8), ("test", 200, 5)):
        table(first, count).to_parquet(data / f"{split}-00000-of-00001.parquet")
    return tmp_path / "towns"


def point_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Set what HF_ENDPOINT sets: it is read at import, long before."""
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Point to a port where nobody listens."""
    point_to(monkeypatch, "http://127.0.0.1:9")


class Hub(BaseHTTPRequestHandler):
    """A hub that is there, and has no data set."""

    status = 200

    def do_HEAD(self) -> None:
        root = self.path in ("", "/")
        self.send_response(self.status if root else 404)
        if not root:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def empty_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("OneHub", (Hub,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_to(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    server.server_close()


def test_a_folder_in_the_hub_layout(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = hub.read(DataConfig(name=str(folder)))
    assert texts(found) == (full(rows(0, 60)), full(rows(100, 8)))
    assert capfd.readouterr() == ("", "")  # no progress bars, no log lines
    corpus = build_corpus(DataConfig(name=str(folder), window=16, stride=8))
    assert corpus.source == str(folder)
    assert len(corpus.train.lengths) == 60
    assert len(source_fingerprint(corpus.config)) == 64


def test_without_validation_it_is_test_and_without_both_a_part_of_train(folder: Path) -> None:
    (folder / "data" / "validation-00000-of-00001.parquet").unlink()
    assert list(hub.read(DataConfig(name=str(folder))).validation) == full(rows(200, 5))
    (folder / "data" / "test-00000-of-00001.parquet").unlink()
    found = hub.read(DataConfig(name=str(folder)))
    assert sorted([*texts(found)[0], *texts(found)[1]]) == sorted(full(rows(0, 60)))
    assert len(texts(found)[0]) > len(texts(found)[1]) >= 1


def test_subsets_are_those_of_the_readme(tmp_path: Path) -> None:
    lines = ["---", "configs:"]
    for name, first in (("old", 0), ("new", 500)):
        (tmp_path / "towns" / name).mkdir(parents=True)
        for split, start in (("train", first), ("validation", first + 50)):
            content = "\n".join(json.dumps({"story": text}) for text in rows(start, 20))
            (tmp_path / "towns" / name / f"{split}.jsonl").write_text(content, encoding="utf-8")
        lines += [f"- config_name: {name}", f"  data_dir: {name}"]
    (tmp_path / "towns" / "README.md").write_text("\n".join([*lines, "---"]), encoding="utf-8")
    config = DataConfig(name=str(tmp_path / "towns"), subset="new", text_column="story")
    found = hub.read(config)
    assert texts(found) == (full(rows(500, 20)), full(rows(550, 20)))
    for subset in ("", "middle"):
        with pytest.raises(TrainerError, match=r"data\.subset: .*'old'") as caught:
            hub.read(DataConfig(name=config.name, subset=subset, text_column="story"))
        assert "\n" not in str(caught.value)


def test_a_saved_data_set_is_loaded_from_disk(tmp_path: Path) -> None:
    splits = {"train": table(0, 30), "validation": table(50, 6)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "both")
    both = hub.read(DataConfig(name=str(tmp_path / "both")))
    assert texts(both) == (full(rows(0, 30)), full(rows(50, 6)))
    table(0, 200).save_to_disk(tmp_path / "one")
    corpus = build_corpus(DataConfig(name=str(tmp_path / "one"), window=16, stride=8))
    assert len(corpus.train.lengths) + len(corpus.validation.lengths) == 200
    for file in (tmp_path / "one").glob("*.arrow"):
        file.write_bytes(b"broken")
    with pytest.raises(TrainerError, match="cannot be loaded, save it again") as caught:
        build_corpus(corpus.config)
    assert "\n" not in str(caught.value)


def test_wrong_columns_and_splits_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"no column 'story', only: text, place"):
        hub.read(DataConfig(name=str(folder), text_column="story"))
    with pytest.raises(TrainerError, match=r"'place' holds no text but int"):
        hub.read(DataConfig(name=str(folder), text_column="place"))
    datasets.DatasetDict({"test": table(0, 3)}).save_to_disk(tmp_path / "test-only")
    with pytest.raises(TrainerError, match=r"no train split, only: test"):
        hub.read(DataConfig(name=str(tmp_path / "test-only")))


def test_a_document_in_a_row_is_cut_into_paragraphs(tmp_path: Path) -> None:
    document = "The first paragraph\nis hard wrapped here.\n\nThe second one stands on a line."
    datasets.Dataset.from_dict({"text": [document] * 3}).save_to_disk(tmp_path / "documents")
    found = hub.read(DataConfig(name=str(tmp_path / "documents")))
    assert [*texts(found)[0], *texts(found)[1]] == [
        "The first paragraph is hard wrapped here.",
        "The second one stands on a line.",
    ]


@pytest.mark.usefixtures("empty_hub")
def test_a_name_that_the_hub_does_not_know_is_no_case_for_the_fallback(folder: Path) -> None:
    config = DataConfig(name="nobody/no-such-text", fallback=str(folder))
    with pytest.raises(TrainerError, match="nobody/no-such-text") as caught:
        build_corpus(config)
    assert not isinstance(caught.value, reach.UnreachableError)
    assert "check the spelling" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_in_trouble_is_not_reached(empty_hub: type[Hub], folder: Path) -> None:
    empty_hub.status = 503
    corpus = build_corpus(DataConfig(name="nobody/any", fallback=str(folder)))
    assert corpus.notes[0].startswith("the hub could not be reached (it answers 503)")


@pytest.mark.usefixtures("no_hub")
def test_without_the_hub_its_cache_is_read(
    folder: Path,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(logging.getLogger("datasets"), "propagate", True)
    datasets.load_dataset(str(folder))  # fills a cache, which is then filed under a hub name
    (prepared,) = (path.parent for path in own_cache.rglob("dataset_info.json"))
    shutil.copytree(prepared, own_cache / "someone___towns" / "default" / "0.0.0" / "0123abcd")
    found = hub.read(DataConfig(name="someone/towns"))
    assert texts(found) == (full(rows(0, 60)), full(rows(100, 8)))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert texts(hub.read(DataConfig(name="someone/towns"))) == texts(found)
    with pytest.raises(TrainerError, match="HF_HUB_OFFLINE is set"):
        hub.read(DataConfig(name="someone/villages"))
    assert datasets.config.HF_HUB_OFFLINE
    assert caplog.messages == []  # "Using the latest cached version of the dataset since ..."


def test_without_the_hub_it_ends_or_takes_the_fallback(folder: Path, tmp_path: Path) -> None:
    """In a process of its own: the user's way, with the real settings read at import."""
    code = (
        "import sys; from trainers.config import DataConfig\n"
        "from trainers.data import build_corpus\n"
        "for fallback in ('', sys.argv[1]):\n"
        "    try:\n"
        "        corpus = build_corpus(DataConfig(subset='wikitext-2-raw-v1', fallback=fallback))\n"
        "        print(corpus.source, *corpus.notes, sep='|')\n"
        "    except ValueError as error:\n"
        "        print(type(error).__mro__[1].__name__, error, sep='|')\n"
    )
    root = str(Path(trainers.__file__).parents[1])
    environment = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": root,
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    error, fallback = done.stdout.splitlines()
    assert error.startswith("TrainerError|the hub could not be reached (")
    assert 'data.fallback = "docstrings"' in error
    source, note, _ = fallback.split("|")
    assert source == str(folder)
    assert note.startswith("the hub could not be reached (")
    assert note.endswith(f"training on {folder} instead of Salesforce/wikitext")
    assert done.stderr == ""


def test_a_bad_line_is_named_and_nothing_else_is_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    lines = [json.dumps({"text": text}) for text in rows(0, 50)]
    lines[7] = '{"text": "broken'
    (bad / "train.jsonl").write_text("\n".join(lines))
    with pytest.raises(TrainerError, match=r"train\.jsonl, line 8 cannot be loaded: ") as caught:
        build_corpus(DataConfig(name=str(bad)))
    assert "\n" not in str(caught.value)
    (bad / "train.jsonl").unlink()
    (bad / "train.csv").write_text("text,n\na,1\nb,2,3\n")
    with pytest.raises(TrainerError, match=r"train\.csv cannot be loaded: .*line 3, saw 3"):
        build_corpus(DataConfig(name=str(bad)))
    assert capfd.readouterr() == ("", "")


def test_a_folder_is_streamed_and_its_windows_are_those_of_the_whole(
    tmp_path: Path, own_cache: Path
) -> None:
    (tmp_path / "towns").mkdir()
    content = "\n".join(json.dumps({"text": text}) for text in rows(0, 3_000))
    (tmp_path / "towns" / "train.jsonl").write_text(content, encoding="utf-8")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "all.txt").write_text("\n".join(full(rows(0, 3_000))))
    some = {"train_sequences": 100, "validation_sequences": 9}
    streamed, held = (
        build_corpus(DataConfig(name=str(tmp_path / name), window=16, stride=8, **some))
        for name in ("towns", "plain")
    )
    assert streamed.fingerprint == held.fingerprint
    assert len(streamed.train.lengths) == 100
    assert not list(own_cache.rglob("*.arrow"))


def test_text_beside_tables_and_linked_folders_are_said_to_be_left_out(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "README.md").write_text("The card.")
    assert hub.read(DataConfig(name=str(folder))).notes == ()
    (folder / "notes.md").write_text("A note.")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "train.jsonl").write_text('{"text": "never read"}')
    (folder / "link").symlink_to(tmp_path / "more")
    (note,) = hub.read(DataConfig(name=str(folder))).notes
    assert note == (
        "2 files are left out (0 kB), beside the tables of a data set: train.jsonl, notes.md"
    )


def test_without_a_validation_split_it_is_said_that_the_test_split_is_taken(tmp_path: Path) -> None:
    splits = {"train": table(0, 60), "test": table(200, 5)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "towns")
    found = hub.read(DataConfig(name=str(tmp_path / "towns")))
    assert texts(found)[1] == full(rows(200, 5))
    assert "there is no validation split: rates are chosen by the test split" in found.notes
    splits["validation"] = table(100, 8)
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "whole")
    whole = hub.read(DataConfig(name=str(tmp_path / "whole")))
    assert (texts(whole)[1], whole.notes) == (full(rows(100, 8)), ())
