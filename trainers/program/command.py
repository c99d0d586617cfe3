"""A program's command: its placeholders, what it runs, and the environment it is run in."""

import difflib
import hashlib
import os
import shlex
import string
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from trainers.config import TrainConfig
from trainers.errors import TrainerError
from trainers.refusals import shown

PLACEHOLDERS = (
    "learning_rate",
    "weight_decay",
    "batch_size",
    "precision",
    "seed",
    "epochs",
    "steps",
    "tokens",
    "directory",
    "trial",
    "devices",
    "micro_batch",
)
RATE, DECAY = "SWEEP_LEARNING_RATE", "SWEEP_WEIGHT_DECAY"
REPORTS, ANSWERS = "SWEEP_REPORTS", "SWEEP_ANSWERS"
REPORTS_FILE, ANSWERS_FILE = "reports.jsonl", "answers.jsonl"
EXAMPLE = dict.fromkeys(PLACEHOLDERS, 1) | {
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "precision": "fp32",
    "directory": "",
    "devices": "0",
}


def check(
    command: Sequence[str],
    resume: Sequence[str] = (),
    *,
    sizes: Iterable[str] = (),
    decay: float = 0.0,
    searched: bool = False,
) -> None:
    """Refuses a command that cannot be run, or cannot be told its rate.

    Args:
        command: its arguments, with placeholders.
        resume: what is appended where a trial goes on.
        sizes: further placeholders.
        decay: the weight decay of every trial; 0 where it was not given.
        searched: whether each trial has one of its own.

    Raises:
        TrainerError: one line that says what is wrong.
    """
    used = {name for argument in (*command, *resume) for name in _placeholders(argument)}
    if taken := sorted({*sizes} & {*PLACEHOLDERS}):
        raise TrainerError(f"program.sizes.{taken[0]}: {{{taken[0]}}} is another thing: rename it")
    there = *PLACEHOLDERS, *sizes
    for name in sorted(used - {*there}):
        near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
        hint = f"did you mean {{{near[0]}}}?" if near else f"there are {', '.join(there)}"
        raise TrainerError(
            f"the command has an unknown placeholder {{{name}}}: {hint} ({{{{ is a brace)"
        )
    asks = _reads(command, RATE) or _reads(command, "sweep.client", "learning_rate(")
    if "learning_rate" not in used and not asks:
        raise TrainerError(
            f"the command has no {{learning_rate}}, and no file of it reads {RATE}: the program "
            "would train every trial alike"
        )
    if searched and not tells_decay(command):
        raise TrainerError(
            f"the command has no {{weight_decay}}, and no file of it reads {DECAY}: the program "
            "would not know what --with weight_decay searches"
        )
    if "weight_decay" in used and not (searched or decay):
        raise TrainerError(
            "the command has {weight_decay}: search it by --with weight_decay, or say it by "
            "--set trainer.weight_decay=0.1"
        )
    expand([*command, *resume], EXAMPLE | dict.fromkeys(sizes, 1))


def check_steps(config: TrainConfig) -> None:
    """Refuses a command that is told its steps where nobody has said how many.

    Raises:
        TrainerError: one line that says how.
    """
    if not config.steps and has_placeholder(config.program.command, "steps"):
        raise TrainerError(
            "the command has {steps}: say how many a run takes, by --steps, or by --tokens and "
            "program.sequence_tokens"
        )


def tells_decay(command: Sequence[str]) -> bool:
    """Whether a command tells its program the weight decay."""
    return tells(command, "weight_decay") or _reads(command, "sweep.client", "weight_decay(")


def tells(command: Sequence[str], name: str) -> bool:
    """Whether a command tells its program a value: by a placeholder, or by its environment."""
    return has_placeholder(command, name) or _reads(command, f"SWEEP_{name.upper()}")


def has_placeholder(command: Sequence[str], name: str) -> bool:
    """Whether a command has a placeholder."""
    return any(name in _placeholders(argument) for argument in command)


def expand(command: Sequence[str], values: Mapping[str, object]) -> list[str]:
    """A command with its placeholders filled in.

    Args:
        command: its arguments; a placeholder may have a format, as in {learning_rate:.2e}.
        values: of every placeholder.

    Raises:
        TrainerError: a format does not fit its value.
    """
    try:
        return [argument.format_map(values) for argument in command]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise TrainerError(f"the command {shlex.join(command)}: {error}") from error


def values_of(config: TrainConfig, device: str, directory: Path) -> dict[str, object]:
    """What a trial's placeholders stand for.

    Args:
        config: of the trial.
        device: "cpu", "cuda:1", "cuda:2,3".
        directory: the trial's.
    """
    return {
        **config.program.sizes,
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "batch_size": config.batch_size,
        "precision": config.precision,
        "seed": config.seed,
        "epochs": config.epochs,
        "steps": config.steps,
        "tokens": config.tokens,
        "directory": str(directory.absolute()),
        "trial": int(directory.name) if directory.name.isdecimal() else 0,
        "devices": ",".join(visible_devices(device)),
        "micro_batch": config.micro_batch or config.batch_size,
    }


def environment(values: Mapping[str, object], device: str, directory: Path) -> dict[str, str]:
    """What a trial's program finds in its environment beside this process's own.

    Args:
        values: as of `values_of`.
        device, directory: likewise.
    """
    known = {k: value for k, value in values.items() if value or k != "weight_decay"}
    told = {f"SWEEP_{name.upper()}": str(value) for name, value in known.items()}
    visible = ",".join(visible_devices(device))
    return {
        **os.environ,
        **({"CUDA_VISIBLE_DEVICES": visible} if visible else {}),
        "PYTHONUNBUFFERED": "1",  # what it prints is read as it is printed
        **told,
        REPORTS: str(directory.absolute() / REPORTS_FILE),
        ANSWERS: str(directory.absolute() / ANSWERS_FILE),
    }


def visible_devices(device: str) -> list[str]:
    """A trial's CUDA devices as the program must name them: of those that this process sees.

    Args:
        device: "cuda:0,2"; "cuda" is the first, "cpu" none.
    """
    kind, _, numbers = device.partition(":")
    if kind != "cuda":
        return []
    seen = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    wanted = [int(number) for number in (numbers or "0").split(",")]
    return [seen[number] if number < len(seen) else str(number) for number in wanted]


def script_of(command: Sequence[str]) -> Path | None:
    """The file that a command runs: `train.py` of `torchrun --nproc-per-node 8 train.py --lr 1`.

    None where that is no file in reach, such as an installed program.
    """
    for place, argument in enumerate(command):
        if argument == "-m" and place + 1 < len(command):
            module = Path(*command[place + 1].split("."))
            for path in (module.with_suffix(".py"), module / "__main__.py"):
                if path.is_file():
                    return path
        path = Path(argument)
        is_script = (place == 0 and "/" in argument) or path.suffix in (".py", ".sh", ".jl", ".R")
        if is_script and path.is_file() and not _is_installed(path):
            return path
    return None


def hash_of(command: Sequence[str]) -> str:
    """The first digits of the SHA-256 of a command's script; "" where there is none."""
    script = script_of(command)
    return "" if script is None else hashlib.sha256(script.read_bytes()).hexdigest()[:12]


def name_of(command: Sequence[str]) -> str:
    """What a program is called: its script's name, its module, or the program's own."""
    script = script_of(command)
    if script is not None:
        return script.name
    if "-m" in command[:-1]:
        return command[list(command).index("-m") + 1]
    return Path(command[0]).name


def _is_installed(path: Path) -> bool:
    return path.absolute().is_relative_to(sys.prefix) or (
        os.access(path, os.X_OK) and (path.absolute().parent.name == "bin")
    )


def _placeholders(argument: str) -> Iterator[str]:
    try:
        for _, name, _, _ in string.Formatter().parse(argument):
            if name is not None:
                yield name
    except ValueError as error:
        raise TrainerError(
            f"the command's argument {shown(argument)}: {error}; {{{{ and }}}} are braces"
        ) from None


def _reads(command: Sequence[str], *names: str) -> bool:
    """Whether a file among the arguments has all of some names in its text."""
    script = script_of(command)
    paths = [path for path in map(Path, command) if path.is_file()] + ([script] if script else [])
    texts = (path.read_bytes() for path in paths if path.stat().st_size < 2**24)
    return any(all(name.encode() in text for name in names) for text in texts)
