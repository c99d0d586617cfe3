"""Data sets that are streamed, and token files, from `sweep run` to `sweep train`."""

import json
from pathlib import Path

import numpy as np
import pytest
from support import Workspace, refusal

GPT = """
[models.gpt]
width = 16
layers = 1
heads = 2
context = 16
"""
FLAGS = ("--model", "gpt", "--trials", 2, "--set", "trainer.epochs=2")


@pytest.fixture
def workspace(tmp_path: Path, english: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = Workspace(tmp_path / "work", english)
    made.write("sweep.toml", (made.path / "sweep.toml").read_text(encoding="utf-8") + GPT)
    return made


@pytest.mark.more
def test_a_data_set_is_streamed_and_its_best_trained_again(
    workspace: Workspace, english: Path
) -> None:
    (workspace.path / "letters").mkdir()
    texts = [part for file in english.iterdir() for part in file.read_text("utf-8").split("\n\n")]
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    (workspace.path / "letters" / "train.jsonl").write_text(lines, encoding="utf-8")
    sets = ("pack=true", "stream=true", "tokenizer=bpe", "train_sequences=900")
    flags = [word for each in sets for word in ("--set", f"data.{each}")]
    said = workspace.sweep("run", *FLAGS, "--data", "letters", "--metric", "bits_per_byte", *flags)
    study = workspace.study()
    identity = study.user_attrs["identity"]
    assert (identity["data.stream"], identity["data.pack"]) == (True, True)
    assert study.user_attrs["training_sequences"] == 900
    assert "bytes a token" in said.out
    assert study.best_value < np.log2(300) * study.user_attrs["tokens_per_byte"]
    workspace.invoke("export", "-o", "best.yaml")
    again = workspace.sweep("train", "best.yaml")
    assert "met again" in again.out


@pytest.mark.more
def test_token_files_are_swept_where_they_lie(workspace: Workspace) -> None:
    folder = workspace.path / "tokens"
    folder.mkdir()
    text = np.frombuffer(Path(json.__file__).read_bytes(), np.uint8)
    text[2000:].astype("<u2").tofile(folder / "train.bin")
    text[:2000].astype("<u2").tofile(folder / "val.bin")
    flags = ("--data", "tokens", "--set", "data.vocabulary_size=256")
    said = workspace.sweep("run", *FLAGS, *flags)
    assert f"{len(text) - 2001:,} tokens of training, 1,999 of validation" in said.out
    study = workspace.study()
    assert study.best_value < study.user_attrs["unigram_perplexity"]
    (corpus,) = workspace.path.glob("runs/*/corpus.safetensors")
    assert corpus.stat().st_size < 4000
    small = workspace.invoke("run", "--data", "tokens", "--set", "data.vocabulary_size=50", code=2)
    assert "data.vocabulary_size is 50, and" in refusal(small)


def test_a_recurrence_is_not_packed(workspace: Workspace) -> None:
    said = workspace.invoke("run", "--set", "data.pack=true", code=2)
    assert "model context_vector would carry its context" in refusal(said)
