"""Bad input through the command line: one line that says what is wrong, exit 2, nothing lost."""

import contextlib
import dataclasses
import itertools
import socket
import sqlite3
from pathlib import Path

import pytest
import torch
from support import Done, Workspace, refusal, write_english

from sweep.cli.options import load_config
from sweep.results.export import Exported, Origin, write
from trainers.config import LRSchedule

# (arguments, words that the one line must hold: what is wrong, and what to do)
CASES = [
    ("run --batch 32,", ["--batch", "integer", "'32,'"]),
    ("run --batch 32,0", ["--batch", "greater than 0", "got 0"]),
    ("run --batch 32,64 --study mine", ["'mine'", "names one study", "leave it out"]),
    ("run --batch 32,100000", ["100000", "training sequences", "smaller --batch"]),
    ("run --set study.transfer=3", ["study.transfer", "3"]),
    ("predict", ["--batch"]),
    ("predict --batch 0", ["--batch", "0"]),
    ("predict --batch 64 --params 0", ["--params", "0"]),
    ("predict --batch 64", ["no database sweep.db", "`sweep run`"]),
    ("run --precision fp8", ["--precision", "'fp16'", "got 'fp8'"]),
    ("run --batch 0", ["trainer.batch_size", "--batch", "greater than 0", "got 0"]),
    ("run --batch -4", ["--batch", "greater than 0", "got -4"]),
    ("run --batch many", ["--batch", "many", "integer"]),
    ("run --batch 2.5", ["--batch", "2.5", "integer"]),
    ("run --batch 100000", ["100000", "training sequences", "smaller --batch"]),
    ("run --epochs -1", ["--epochs", "at least 0", "-1"]),
    ("run --epochs 0", ["trainer.epochs must be at least 1"]),
    ("run --tokens 1.5", ["--tokens", "1.5"]),
    ("run --set trainer.steps=5 --set trainer.tokens=5", ["--steps and --tokens", "length"]),
    ("run --trials 0", ["--trials", "greater than 0", "0"]),
    ("run --trials -2", ["--trials", "greater than 0", "-2"]),
    ("run --timeout -3", ["--timeout", "at least 0", "-3"]),
    ("run --timeout nan", ["--timeout", "finite", "nan"]),
    ("run --hang-timeout -1", ["--hang-timeout", "at least 0", "-1"]),
    ("run --trial-timeout inf", ["--trial-timeout", "finite", "inf"]),
    ("run --set trainer.micro_batch=-1", ["trainer.micro_batch", "at least 0", "-1"]),
    ("run --seed -1", ["--seed", "at least 0", "-1"]),
    ("run --range 1e-1 1e-4", ["range.high", "1.25 times range.low", "0.0001"]),
    ("run --range 1e-3 1.1e-3", ["range.high", "1.25 times range.low", "0.0011"]),
    ("run --range 1e-9 1e-4", ["range.low", "between 1e-07 and 10", "1e-09"]),
    ("run --range 0 1e-4", ["--range", "greater than 0", "got 0"]),
    ("run --range nan 1e-4", ["--range", "finite", "nan"]),
    ("run --range 1e-4", ["--range", "2 arguments"]),
    ("run --set trainer.weight_decy=0.1", ["trainer.weight_decy", "'trainer.weight_decay'?"]),
    ("run --set study.prunner=none", ["study.prunner", "'study.pruner'?"]),
    ("run --set trainer.lr_schedule.nme=cosine", ["lr_schedule.nme", "lr_schedule.name'?"]),
    (
        "run --set trainer.lr_schedule.warmup_share=0 --set trainer.lr_schedule.warmup_steps=99999",
        ["warm-up", "99999 steps", "the run"],
    ),
    ("train warm.yaml", ["warm-up", "20000 steps", "the run"]),
    ("run --set study.keep=some", ["study.keep", "'best' or 'all'", "'some'"]),
    ("run --set study.storage=3", ["--storage", "text", "got 3"]),
    ("run --storage postgresql://me:a@b@host/x", ["me:***@host", "written as %40"]),
    ("run --model own:tied --set models.own:tied.tie=no", ["tie", "true or false", "'no'"]),
    ("run --set trainer.learning_rate=1e-3", ["trainer.learning_rate", "--range LOW HIGH"]),
    ("run --set zebra=1", ["zebra", "known are", "trainer"]),
    ("run --set weight_decay", ["KEY=VALUE", "trainer.weight_decay=0.01", "'weight_decay'"]),
    ("run --set =3", ["KEY=VALUE", "'=3'"]),
    ("run --set trainer.weight_decay=heavy", ["weight_decay", "a number", "'heavy'"]),
    ("run --set trainer.patience=2.5", ["patience", "a whole number", "2.5"]),
    ("run --set trainer.betas=[0.9]", ["trainer.betas", "missing"]),
    ("run --set trainer=3", ["'trainer'", "table", "3"]),
    ("run --set trainer.epochs.most=3", ["'trainer.epochs'", "not a table"]),
    ("run --set profiles.cpu.trainer.epochs=3", ["profile", "leave out"]),
    ("run --set profile=gpu", ["gpu", "cpu, cuda"]),
    ("run --set trainer.optimizer=rmsprob", ["optimizer", '"rmsprob"', "adam, adamw, muon, sgd"]),
    ("run --set study.sampler=tpee", ["sampler", '"tpee"', '"tpe"?']),
    ("run --until 1", ["until", "percentage", '"1"']),
    ("run --set study.pruner=medium", ["pruner", "'medium'", "patient-median"]),
    ("run --set data.stride=64", ["data.stride", "below data.window", "64"]),
    ("run --set models.context_vector.hiden=8", ['"hiden"', '"hidden"?']),
    ("run --set models.context_vector.hidden=wide", ["hidden", "whole number", "'wide'"]),
    ("run --set models.context_vector.hidden=0", ["hidden", "greater than 0", "got 0"]),
    ("run --set models.context_vector.hidden=[8]", ["context_vector.hidden", "number", "[8]"]),
    ("run --set models.contxt_vector.hidden=8", ["contxt_vector", "models.context_vector'?"]),
    ("run --model contxt_vector", ['"contxt_vector"', '"context_vector"?']),
    ("run --model nowhere:build", ["nowhere:build", "no module nowhere"]),
    ("run --model transformers:gptt2", ["transformers", "gptt2"]),
    ("run --model own:nothing", ["own:nothing", "no attribute"]),
    ("run --model own:NUMBER", ["own:NUMBER", "callable", "int"]),
    ("run --model own:three", ["own:three", "torch.nn.Module", "int"]),
    ("run --model own:broken", ["own:broken", "cannot be built", "KeyError"]),
    ("run --model torn:build", ["torn:build", "SyntaxError", "torn.py, line 1"]),
    ("run --model :", ["package.module:factory", '":"']),
    ("run --trainer broken", ["trainer", "package.module:factory", '"broken"']),
    ("run --trainer nowhere:train", ["nowhere:train", "no module nowhere"]),
    ("run --trainer own:NUMBER", ["own:NUMBER", "callable"]),
    ("run --profile gpu", ["'gpu'", "cpu, cuda"]),
    ("run --config nothing", ["nothing", "is a folder", "takes a file"]),
    ("run --data corpora/", ["data.name", "corpora", "check the path"]),
    ("run --data a/b/c", ["data.name", "a/b/c", "check the path"]),
    ("run --set data.window=99999999", ["data.window", "at most 65536", "99999999"]),
    ("run --set models.context_vector.hidden=9999999999999999999999", ["cannot be built"]),
    ("run --dry-run --set models.context_vector.hidden=999999999999", ["out of memory", "smaller"]),
    ("run --set trainer.epochs=true", ["trainer.epochs", "whole number", "True"]),
    ('run --set trainer.batch_size="64"', ["trainer.batch_size", "whole number", "'64'"]),
    ("run --epochs 99999999999999999999999", ["--epochs", "at most"]),
    ("run --trials 99999999999999999999999", ["--trials", "at most"]),
    ("run --set reference.learning_rate=1e300", ["reference.learning_rate", "1e-07 to 10"]),
    ("run --set study.publish=maybe", ["study.publish", "true or false", "'maybe'"]),
    ("run --set study.cohort=0", ["study.cohort", '"auto"', "0"]),
    ("run --set study.cohort=many", ["study.cohort", '"auto"', "'many'"]),
    ("run --workers 0", ["--workers", "greater than 0", "0"]),
    ("run --workers 2 --devices 0,1", ["--devices", "runs on cpu", "--workers"]),
    ("run --devices all", ["--devices", "runs on cpu", "--workers"]),
    ("run --executor rai", ['no executor "rai"', '"ray"?', "inline, local, ray"]),
    ("run --gpus-per-trial 1.5", ["--gpus-per-trial", "0.5", "whole number", "1.5"]),
    ("run --set study.cpus_per_trial=0", ["cpus_per_trial", "whole number", "got 0"]),
    ("run --devices 0,0", ["--devices", "different numbers", "'0,0'"]),
    ("run --devices one", ["--devices", '"all"', "'one'"]),
    ("run --set study.devices=[0.5]", ["--devices", '"all"', "[0.5]"]),
    ("run --storage sqlite:///sweep.db?mode=ro", ["after '?'", "leave them out"]),
    ("bench --batch 32,x", ["--batch", "whole numbers", "32,x"]),
    ("bench --precision fp8", ["--precision", "fp32, tf32, fp16 and bf16", "fp8"]),
    ("bench --cohort 0", ["--cohort", "whole numbers", "0"]),
    ("run --device tpu", ["'tpu'", "take cpu, cuda"]),
    ("run --device meta", ["'meta'", "take cpu, cuda"]),
    ("run --config missing.toml", ["missing.toml", "sweep init"]),
    ("run --data ./missing.txt", ["data.name", "missing.txt", "check the path"]),
    ("run --data ./empty.txt", ["data.name", "empty.txt", "too little text", "name more text"]),
    ("run --data ./short.txt", ["data.name", "short.txt", "too little text", "name more text"]),
    ("run --data ./binary.txt", ["data.name", "binary.txt", "not UTF-8", "convert it"]),
    ("run --data ./notes.pdf", ["data.name", "notes.pdf", ".txt", "rename it"]),
    ("run --data ./nothing", ["data.name", "nothing", "no .txt or .md"]),
    ("run --storage ./nothing", ["nothing", "is a folder", "name a file"]),
    ("run --storage nowhere/sweep.db", ["no folder nowhere", "make it first"]),
    ("run --storage notes.txt/sweep.db", ["no folder notes.txt"]),
    ("run --storage notes.txt", ["notes.txt", "not a database", "--storage"]),
    ("run --storage other.db", ["other.db", "another program's", "--storage"]),
    ("run --storage /proc/sweep.db", ["/proc", "cannot be written to", "--storage"]),
    ("run --storage :memory:", [":memory:", "no file", "sqlite:///sweep.db"]),
    ("run --storage ://x", ["'://x'", "no database URL", "sqlite:///sweep.db"]),
    ("run --storage http://[::1", ["http://[::1", "no database URL", "sqlite:///sweep.db"]),
    ("run --storage postgresql+nope://me:secret@host/x", ["nope", "driver", "install it"]),
    ("run --storage postgresql://me:secret@127.0.0.1:1/x", ["me:***@", "cannot be used"]),
    ("status --storage postgresql://127.0.0.1:1/x", ["cannot be used", "--storage"]),
    ("run --study a/b", ["'a/b'", "no slashes"]),
    ("run --study ..", ["'..'", "no dot in front"]),
    ("run --dry-run --batch 100000", ["100000", "training sequences", "smaller --batch"]),
    ("run --dry-run --storage notes.txt", ["notes.txt", "not a database"]),
    ("calibrate --batch 0", ["--batch", "greater than 0", "got 0"]),
    ("compare --precision fp32", ["--precision", "at least two", "got fp32"]),
    ("compare --precision fp32,fp32", ["--precision", "different", "got fp32,fp32"]),
    ("compare --precision fp32,fp8", ["--precision", "fp32, tf32, fp16 and bf16", "fp8"]),
    ("compare --rates 1e-3,fast", ["--rates", "numbers", "'1e-3,fast'"]),
    ("compare --rates 1e-3,0", ["a rate must be from 1e-07 to 10", "got 0"]),
    ("compare --rates nan", ["a rate must be from 1e-07 to 10", "got nan"]),
    ("compare --rates 1e-3,1e-3", ["0.001", "twice"]),
    ("compare --seeds 0", ["--seeds", "x>=1"]),
    ("compare --study mine", ["sweep.db", "`sweep run` makes one"]),
    ("confirm", ["sweep.db", "`sweep run` makes one"]),
    ("confirm --top 0", ["--top", "x>=1"]),
    ("confirm --seeds none", ["--seeds", "none", "integer"]),
    ("reproduce", ["argument", "CASE"]),
    ("reproduce everything", ["'everything'", "seed-table"]),
    ("reproduce seed-table --set model=gpt", ["context_vector, not gpt"]),
    ("completion tcsh", ["tcsh", "bash"]),
    ("completion", ["argument", "bash"]),
    ("priors --params 0", ["--params", "x>=1"]),
    ("priors --profile gpu", ["'gpu'", "cpu, cuda"]),
    ("status", ["sweep.db", "`sweep run` makes one"]),
    ("list", ["sweep.db", "`sweep run` makes one"]),
    ("show 0", ["sweep.db", "`sweep run` makes one"]),
    ("report", ["sweep.db", "`sweep run` makes one"]),
    ("report -o report.pdf", ["report.pdf", ".html, .md or .json"]),
    ("report --json --markdown", ["--json and --markdown", "choose one"]),
    ("report --storage other.db", ["other.db", "another program's", "--storage"]),
    ("export", ["sweep.db", "`sweep run` makes one"]),
    ("add --rate 1e-3 --perplexity 20", ["sweep.db", "`sweep run` makes one"]),
    ("dashboard", ["sweep.db", "`sweep run` makes one"]),
    ("dashboard --port 0", ["--port", "1<=x<=65535"]),
    ("status --storage other.db", ["other.db", "another program's", "--storage"]),
    ("status --storage zero.db", ["zero.db", "no study", "`sweep run` makes one"]),
    ("init", ["sweep.toml", "exists already", "name another", "--force"]),
    ("init nowhere/sweep.toml", ["nowhere/sweep.toml", "cannot be written"]),
    ("train missing.yaml", ["missing.yaml", "`sweep export` writes one"]),
    ("train notes.txt", ["notes.txt", "not a file of `sweep export`"]),
    ("train binary.txt", ["binary.txt", "not text"]),
    ("train garbled.yaml", ["garbled.yaml", "not valid YAML", "line 1"]),
    ("train partial.yaml", ["partial.yaml", "trainer is missing"]),
    ("train hostile.yaml", ["hostile.yaml", "not valid YAML", "tag"]),
    ("train twice.yaml", ["twice.yaml", "'format' stands there twice", "line 2"]),
    ("train bomb.yaml", ["bomb.yaml", "aliases are not read", "line 2"]),
    ("train large.yaml", ["large.yaml", "too large"]),
    (f"run --study {'é' * 190}", ["cannot be a folder's name", "200 bytes"]),
    ("train missing.yaml --epochs 0", ["--epochs", "x>=1"]),
    ("train missing.yaml --directory=", ["--directory is empty", "name a folder"]),
    ("frobnicate", ["'frobnicate'", "there are", "status"]),
    ("stats", ["'stats'", "did you mean 'status'?"]),
    ("run --frobnicate", ["--frobnicate"]),
    ("run now", ["now", "unexpected"]),
]

TWO_LINES = "study.floor=3\ntrials=9"
# (sweep.toml, words)
FILES = [
    ("[study]\ntrials = = 3\n", ["not valid TOML", "line 2"]),
    ("[study\n", ["not valid TOML", "line 1"]),
    ("[study]\ntrialsx = 3\n", ["'study.trialsx'", "did you mean 'study.trials'?"]),
    ("[study]\nfloorx = 3\n", ["'study.floorx'", "did you mean 'study.floor'?"]),
    ("[trainer]\nbatchsize = 3\n", ["'trainer.batchsize'", "'trainer.batch_size'?"]),
    ("stuyd = 3\n", ["'stuyd'", "did you mean 'study'?"]),
    ("study = 3\n", ["'study'", "table"]),
    ("model = 3\n", ["--model", "text", "got 3"]),
    ("[profiles.cpu.trainer]\nepoch = 3\n", ["'profiles.cpu.trainer.epochs'?"]),
    ("[profiles.cpu.reference]\nlearningrate = 3\n", ["'profiles.cpu.reference.learning_rate'?"]),
    (
        "[profiles.cpu.reference]\nlearning_rate = -1\n",
        ["reference.learning_rate", "greater", "-1"],
    ),
    ("[profiles]\ncpu = 3\n", ["'profiles.cpu'", "table"]),
    ("profile = 'mine'\n[profiles.mine]\ndevice = 'cpu'\n", ["[profiles.mine.reference]"]),
    ("[models]\ngpt = 3\n", ["'models.gpt'", "table"]),
    ("[[rules]]\nname = 'mine'\nbatch_exponnt = 1\n", ["'rules.batch_exponent'?"]),
    ("[[rules]]\nname = 'mine'\nbatch_exponent = 1\n", ["parameter_exponent", "missing"]),
    ("[rules]\nname = 'mine'\n", ["'rules'", "[[rules]]"]),
    (
        "[[rules]]\nname = 'sqrt'\nbatch_exponent = 1\nparameter_exponent = 0\n",
        ["'sqrt'", "twice", "rename"],
    ),
    (
        "[[rules]]\nname = 'mine'\nbatch_exponent = 9\nparameter_exponent = 0\n",
        ["'mine'", "batch_exponent", "between -4 and 4", "9"],
    ),
    ("[study]\nrange = [1e-3]\n", ["study.range", "lowest and a highest", "0.001"]),
    ("[study]\nrange = [1e-3, 1e-2, 1e-1]\n", ["study.range", "at most 2 values"]),
    ("[study]\nrange = 1e-3\n", ["study.range", "a list", "0.001"]),
    ("[trainer]\nweight_decay = nan\n", ["trainer.weight_decay", "finite", "nan"]),
]

# Ten aliases of ten aliases, nine times over.
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in itertools.pairwise("abcdefghi")
)

OWN = """
    NUMBER = 3

    def three(vocabulary_size):
        return 3

    def tied(vocabulary_size, tie=False):
        return 3

    def broken(vocabulary_size):
        raise KeyError("weights")
"""


def warm(workspace: Workspace) -> Exported:
    """A configuration whose warm-up is longer than its run."""
    origin = Origin(
        study="mine",
        storage="sweep.db",
        trial=0,
        perplexity=30,
        epoch=1,
        data_source="",
        data_fingerprint="",
        directory="runs/mine/0000",
        versions={},
    )
    config = load_config(check=False, config=workspace.path / "sweep.toml").trainer
    schedule = LRSchedule(warmup_steps=20000)
    train = dataclasses.replace(config, lr_schedule=schedule)
    return Exported(format=1, trainer="trainers.train:train", train=train, origin=origin)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory, english: Path) -> Workspace:
    """A folder with everything that can be wrong in it, and no database."""
    workspace = Workspace(tmp_path_factory.mktemp("spoiled"), english)
    (workspace.path / "nothing").mkdir()
    workspace.write("empty.txt", "")
    workspace.write("short.txt", "One short paragraph is too little to hold anything out.\n")
    workspace.write("notes.txt", "These are notes, neither a database nor YAML of ours.\n" * 40)
    workspace.write("notes.pdf", "no text")
    (workspace.path / "binary.txt").write_bytes(bytes(range(128, 256)) * 64)
    write(warm(workspace), workspace.path / "warm.yaml")
    workspace.write("garbled.yaml", "train: [")
    workspace.write("partial.yaml", "format: 1\ntrain: {}\n")
    workspace.write("hostile.yaml", "!!python/object/apply:os.system ['touch hacked']\n")
    workspace.write("twice.yaml", "format: 1\nformat: 1\n")
    workspace.write("bomb.yaml", BOMB)
    workspace.write("large.yaml", "#" * 2**21)
    workspace.write("own.py", OWN)
    workspace.write("torn.py", "this is no Python\n")
    (workspace.path / "zero.db").touch()
    with contextlib.closing(sqlite3.connect(workspace.path / "other.db")) as other:
        other.execute("CREATE TABLE accounts (owner TEXT)")
    return workspace


def everything(workspace: Workspace) -> dict[str, bytes]:
    """The folder's files; Python's own caches and what `support` writes are no part of it."""
    ours = ("stderr.txt", ".pyc")
    return {
        str(file.relative_to(workspace.path)): file.read_bytes()
        for file in workspace.path.rglob("*")
        if file.is_file() and not file.name.endswith(ours)
    }


def check(done: Done, words: list[str]) -> None:
    line = refusal(done)
    assert [word for word in words if word not in line] == [], line


@pytest.mark.parametrize(("arguments", "words"), CASES, ids=[case[0] for case in CASES])
def test_bad_input_is_one_line_and_exit_2(
    spoiled: Workspace, arguments: str, words: list[str]
) -> None:
    before = everything(spoiled)
    done = spoiled.invoke(*arguments.split(), code=2)
    check(done, words)
    assert "secret" not in done.out + done.err
    # No empty database, no folder of a study that was never made, nothing of others changed.
    assert everything(spoiled) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("run --batch 0", ["--batch", "greater than 0"]),
        ("run --batch 100000", ["training sequences"]),
        ("run --data ./binary.txt", ["not UTF-8"]),
        ("train hostile.yaml", ["not valid YAML"]),
        ("status", ["`sweep run` makes one"]),
    ],
)
def test_bad_input_in_a_process_of_its_own(
    spoiled: Workspace, arguments: str, words: list[str]
) -> None:
    check(spoiled.sweep(*arguments.split(), code=2), words)


@pytest.mark.parametrize(("text", "words"), FILES, ids=[case[0] for case in FILES])
def test_a_wrong_file_is_one_line(workspace: Workspace, text: str, words: list[str]) -> None:
    workspace.write("sweep.toml", text)
    done = workspace.invoke("run", code=2)
    check(done, words)
    assert not (workspace.path / "sweep.db").exists()


def test_an_assignment_is_one_line_itself(workspace: Workspace) -> None:
    check(workspace.invoke("run", "--set", TWO_LINES, code=2), ["--set takes KEY=VALUE"])


def test_a_wrong_sweep_toml_is_refused_by_train_too(finished: Workspace, tmp_path: Path) -> None:
    elsewhere = finished.copy_to(tmp_path / "copy")
    elsewhere.invoke("export", "-o", "best.yaml")
    elsewhere.write("sweep.toml", "study = 3\n")
    check(elsewhere.invoke("train", "best.yaml", code=2), ["'study' must be a table", "3"])


@pytest.mark.parametrize("target", ["best.yaml", "best.yaml/inside"])
def test_a_file_is_no_folder_for_checkpoints(
    finished: Workspace, tmp_path: Path, target: str
) -> None:
    elsewhere = finished.copy_to(tmp_path / "copy")
    elsewhere.invoke("export", "-o", "best.yaml")
    done = elsewhere.invoke("train", "best.yaml", "--directory", target, code=2)
    check(done, [f"--directory {target} is a file", "name a folder"])


def test_an_empty_host_would_be_every_address(finished: Workspace) -> None:
    check(finished.invoke("dashboard", "--host", "", code=2), ["--host is empty", "127.0.0.1"])


def test_a_file_that_is_no_text_is_one_line(workspace: Workspace) -> None:
    (workspace.path / "sweep.toml").write_bytes(b"\xff\xfe\x00")
    check(workspace.invoke("run", code=2), ["sweep.toml", "not UTF-8"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("arguments", ["--device cuda", "--device cuda:9", "--profile cuda"])
def test_cuda_without_a_device_is_one_line(workspace: Workspace, arguments: str) -> None:
    check(workspace.invoke("run", *arguments.split(), code=2), ["no CUDA device", "--device cpu"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--batch", "32"], "batch_size: 64 there, 32 here"),
        (["--precision", "bf16"], "precision: fp32 there, bf16 here"),
        (["--model", "gpt"], "model.name: context_vector there, gpt here"),
        (["--data", "docstrings"], "docstrings here"),
        (["--epochs", "2"], "epochs: 3 there, 2 here"),
        (["--batch", "32", "--dry-run"], "batch_size: 64 there, 32 here"),
    ],
)
def test_another_studys_name_is_refused_and_nothing_is_lost(
    finished: Workspace, change: list[str], named: str
) -> None:
    name, before = finished.study().study_name, finished.curves()
    done = finished.invoke("run", "--study", name, *change, code=2)
    check(done, [name, named, "another --study"])
    assert finished.curves() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("status --study contxt", ["'contxt'", "there is no study", "there are"]),
        ("show 99", ["no trial 99", "from 0 to"]),
        ("show first", ["TRIAL", "first"]),
        ("export --trial 99", ["no trial 99", "from 0 to"]),
        ("compare --study contxt", ["'contxt'", "there is no study"]),
        ("export --format onnx", ["--format", "onnx", "lightning"]),
        ("export --format hf -o nowhere/hf.yaml", ["nowhere/hf.yaml", "cannot be written"]),
        ("export -o nowhere/best.yaml", ["nowhere/best.yaml", "cannot be written"]),
        ("report -o nowhere/report.html", ["nowhere/report.html", "cannot be written"]),
        ("report --png sweep.toml", ["sweep.toml", "cannot be written to"]),
        ("add --rate 0 --perplexity 20", ["--rate", "from 1e-07 to 10", "got 0"]),
        ("add --rate nan --perplexity 20", ["--rate", "got nan"]),
        ("add --rate 1e-3 --perplexity 0.5", ["--perplexity", "at least 1", "0.5"]),
        ("add --rate 1e-3 --perplexity inf", ["--perplexity", "inf"]),
        ("add --rate 1e-3", ["--perplexity"]),
        ("dashboard --host 999.1.1.1", ["999.1.1.1", "--host"]),
    ],
)
def test_bad_questions_to_a_study(finished: Workspace, arguments: str, words: list[str]) -> None:
    before, states = finished.curves(), finished.states()
    check(finished.invoke(*arguments.split(), code=2), words)
    assert (finished.curves(), finished.states()) == (before, states)


def test_a_missing_study_names_the_nearest(finished: Workspace) -> None:
    name = finished.study().study_name
    check(finished.invoke("status", "--study", name[:-1], code=2), [f"did you mean '{name}'?"])


def test_a_port_that_is_taken_is_one_line(finished: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        check(finished.invoke("dashboard", "--port", port, code=2), [str(port), "another --port"])


@pytest.fixture
def made(tmp_path: Path) -> Workspace:
    """A study with text of its own, stopped before its first trial."""
    write_english(tmp_path / "text")
    workspace = Workspace(tmp_path / "work", tmp_path / "text")
    workspace.invoke("run", "--study", "mine", "--timeout", "1e-6", code=3)
    return workspace


def test_a_study_without_trials_has_nothing_to_show(made: Workspace) -> None:
    check(made.invoke("export", code=2), ["'mine'", "no complete trial", "let it run on"])
    check(made.invoke("confirm", code=2), ["'mine'", "no complete trial", "let it run on"])
    check(made.invoke("show", 0, code=2), ["'mine'", "no trial 0", "none yet"])


def test_a_study_made_with_another_text_is_refused(made: Workspace) -> None:
    text = next((made.path.parent / "text").glob("*.txt"))
    text.write_text(text.read_text(encoding="utf-8") + "\n\nA paragraph more.\n", encoding="utf-8")
    before = made.sql("SELECT * FROM study_user_attributes")
    done = made.invoke("run", "--study", "mine", "--timeout", "1e-6", code=2)
    check(done, ["'mine'", "data.content", "there", "here", "another --study"])
    assert made.sql("SELECT * FROM study_user_attributes") == before
