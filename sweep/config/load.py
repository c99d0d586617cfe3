"""sweep.toml: the shipped defaults, the user's file over them, --set and the flags over both."""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from studies.decay import DECAY
from sweep.config.keys import Table, check_keys
from sweep.config.messages import describe, named
from sweep.config.schema import ReferenceSettings, RuleSettings, SweepConfig
from sweep.errors import SweepError
from trainers.config import DataConfig, ModelConfig, ProgramConfig, TrainConfig
from trainers.program import TRAINER
from trainers.program.command import check
from trainers.program.patterns import Patterns
from trainers.refusals import shown

FILE_NAME = "sweep.toml"
LENGTHS = ("epochs", "steps", "tokens")
# What a shell's user writes and TOML does not take.
_TRUTH = {"true": True, "false": False}
_FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?")


def default_text() -> str:
    """The shipped sweep.toml, comments and all."""
    packaged = Path(__file__).with_name("default.toml")
    checkout = Path(__file__).parents[2] / FILE_NAME
    return (packaged if packaged.exists() else checkout).read_text(encoding="utf-8")


def find_file(path: Path | None) -> Path | None:
    """The user's file: the one named, or ./sweep.toml where it exists.

    Raises:
        SweepError: the named file does not exist.
    """
    if path is None:
        here = Path(FILE_NAME)
        return here if here.exists() else None
    if path.is_dir():
        raise SweepError(f"{path} is a folder: --config takes a file")
    if not path.is_file():
        raise SweepError(f"there is no configuration file {path}: `sweep init` writes one")
    return path


def read_toml(path: Path) -> Table:
    """Parses a file.

    Raises:
        SweepError: it cannot be read or is not TOML; the message gives line and column.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows writes a BOM
    except OSError as error:
        raise SweepError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SweepError(f"{path} is not valid TOML: byte {error.start} is not UTF-8") from error
    except ValueError as error:  # tomllib's own, or of a number too long for Python
        raise SweepError(f"{path} is not valid TOML: {error}") from error
    except RecursionError as error:
        raise SweepError(f"{path} is not valid TOML: it is nested too deeply") from error


def read_user_file(path: Path | None) -> Table:
    """The user's file as it is: nothing merged, its keys checked; {} where there is none.

    Raises:
        SweepError: it cannot be read, or has an unknown key.
    """
    file = find_file(path)
    if file is None:
        return {}
    user = read_toml(file)
    check_keys(user, _known(tomllib.loads(default_text())), str(file))
    return user


def load(
    path: Path | None,
    *,
    profile: str | None,
    cuda: bool,
    assignments: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> SweepConfig:
    """Reads, merges and validates the configuration.

    Args:
        path: the user's file; None takes ./sweep.toml where it exists.
        profile: --profile, None to take the file's choice or the device found.
        cuda: whether this machine has a CUDA device.
        assignments: --set's "trainer.weight_decay=0.01".
        flags: dotted keys to values, e.g. {"trainer.batch_size": 2048}; None values are skipped.

    Raises:
        SweepError: one line that names the key, the constraint and the value.
    """
    layers = [tomllib.loads(default_text())]
    known = _known(layers[0])
    layers.append(read_user_file(path))
    asked = _asked(assignments, flags or {}, known)
    own = _program(layers, asked)
    name = _profile_name(
        layers, profile or asked.get("profile"), asked.get("device"), cuda, own=own
    )
    if not own:
        check_one_length(asked.get("trainer", {}))
    merged = {**_laid(_merged(layers, name), asked), "profile": name}
    if merged["device"] == "auto":
        merged["device"] = "cuda" if cuda else "cpu"
    return _resolve(merged)


def study_default(key: str, cuda: Callable[[], bool]) -> str:
    """What [study] of ./sweep.toml, or else the shipped one, says; for commands that only read.

    Only its [study] and [profiles] are looked at: a study can be read whatever else is wrong.

    Args:
        key: such as "storage".
        cuda: whether this machine has a CUDA device; asked where a profile has the key.

    Raises:
        SweepError: the file cannot be read, or what is looked at is wrong.
    """
    file, layers = find_file(None), [tomllib.loads(default_text())]
    if file is not None:
        user = read_toml(file)
        tables: Table = {name: user[name] for name in ("study", "profiles") if name in user}
        check_keys(tables, _known(layers[0]), str(file))
        layers.append(user)
    profiles = layers[-1].get("profiles", {}).values()
    by_profile = any(key in profile.get("study", {}) for profile in profiles)
    name = _profile_name(layers, None, None, cuda()) if by_profile else ""
    value = _merged(layers, name)["study"][key]
    if not isinstance(value, str):
        raise SweepError(f"{file}: study.{key} must be text, got {shown(value)}")
    return value


def _merged(layers: Sequence[Table], profile: str) -> Table:
    merged: Table = {}
    for layer in layers:
        base = {key: value for key, value in layer.items() if key != "profiles"}
        merged = _laid(_laid(merged, base), layer.get("profiles", {}).get(profile, {}))
    return merged


def _laid(below: Table, above: Table) -> Table:
    """`above` over `below`; a run's length above replaces that below, whatever it is counted in."""
    merged, trainer = overlay(below, above), above.get("trainer", {})
    if any(name in trainer for name in LENGTHS):
        own = {name: trainer.get(name, 0) for name in ("steps", "tokens")}
        merged["trainer"] = {**merged["trainer"], **own}
    return merged


def check_one_length(asked: Mapping[str, Any]) -> None:
    """Refuses two lengths of a run on one command line; in a file steps go before epochs.

    Raises:
        SweepError: more than one of `LENGTHS` is given.
    """
    given = [name for name in LENGTHS if asked.get(name)]
    if len(given) > 1:
        flags = " and ".join(f"--{name}" for name in given)
        raise SweepError(f"{flags} each give the length of a run: leave all but one out")


def _asked(assignments: Iterable[str], flags: Mapping[str, Any], known: Table) -> Table:
    """What this one command line says: --set's assignments, the flags over them."""
    asked: Table = {}
    for assignment in assignments:
        given = parse_assignment(assignment)
        if "profiles" in given:
            key = assignment.partition("=")[0].strip()
            raise SweepError(f"--set: '{key}' is a profile's key: leave out its first two parts")
        check_keys(given, known, "--set")
        asked = overlay(asked, given)
    for key, value in flags.items():
        if value is not None:
            asked = overlay(asked, nested(key.split("."), value))
    return asked


def _program(layers: Sequence[Table], asked: Table) -> bool:
    """Whether a program of the user's own is what trains."""
    return any(layer.get("program", {}).get("command") for layer in (*layers, asked))


def _profile_name(
    layers: list[Table], asked: str | None, device: str | None, cuda: bool, *, own: bool = False
) -> str:
    """The profile asked for; "auto" is a program's, or follows the device asked for or found."""
    profiles = sorted({name for layer in layers for name in layer.get("profiles", {})})
    name = asked or next(layer["profile"] for layer in reversed(layers) if "profile" in layer)
    if name == "auto":
        device = device or next(layer["device"] for layer in reversed(layers) if "device" in layer)
        wants_cuda = cuda if device in (None, "auto") else str(device).startswith("cuda")
        name = "program" if own else "cuda" if wants_cuda else "cpu"
    if name not in profiles:
        raise SweepError(f"unknown profile '{name}': there are {', '.join(profiles)}")
    return name


def overlay(below: Table, above: Table) -> Table:
    """`above` laid over `below`, table by table; other values are replaced."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = overlay(merged[key], value)
        else:
            merged[key] = value
    return merged


def nested(path: Sequence[str], value: object) -> Table:
    """{"a": {"b": value}} for ("a", "b")."""
    first, *rest = path
    return {first: nested(rest, value) if rest else value}


def parse_assignment(text: str) -> Table:
    """What "a.b=value" sets, as a table: a line of TOML, whose value may also be a plain word.

    A plain word is a string, unless it is how Python or a shell's user writes a truth or a number:
    False, .5 and 1. are what they look like. A key may be quoted as in TOML.

    Raises:
        SweepError: there is no key or no "=".
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip(" \t[#") or len(text.splitlines()) > 1:
        raise SweepError(f"--set takes KEY=VALUE, such as trainer.weight_decay=0.01, got '{text}'")
    if (whole := _toml(text)) is not None:
        return whole
    parsed = _toml(f"value = {value}")
    meant = _plain(value.strip()) if parsed is None else parsed["value"]
    quoted = _toml(f"{key} = 0")
    return nested(_path(key.strip()) if quoted is None else _keys(quoted), meant)


def _toml(line: str) -> Table | None:
    """One assignment of TOML, None where it is anything else."""
    try:
        return None if line.lstrip().startswith(("[", "#")) else tomllib.loads(line)
    except (ValueError, RecursionError):
        return None


def _keys(table: Table) -> list[str]:
    """The path to the one value of a table of tables."""
    ((key, value),) = table.items()
    return [key, *(_keys(value) if isinstance(value, dict) else [])]


def _path(key: str) -> list[str]:
    """A key's parts; a model's import path, "models.package.module:factory.option", is one."""
    first, _, rest = key.partition(".")
    name, dot, option = rest.rpartition(".")
    return [first, name, option] if first == "models" and dot and ":" in name else key.split(".")


def _plain(word: str) -> bool | float | str:
    if word.lower() in _TRUTH:
        return _TRUTH[word.lower()]
    return float(word) if _FLOAT.fullmatch(word) else word


def _known(defaults: Table) -> Table:
    """Every key that a sweep.toml may have: the shipped ones, and those only some files have."""
    reference, rule = dict.fromkeys(ReferenceSettings.model_fields), RuleSettings.model_fields
    return {**defaults, "reference": reference, "rules": [dict.fromkeys(rule)]}


def _resolve(merged: Table) -> SweepConfig:
    trainer = merged.pop("trainer")
    models = merged.pop("models", {})
    data = merged.pop("data")
    program = _program_config(merged.pop("program"), trainer, merged["study"].get("with"))
    if program.command:
        merged["study"] = {**merged["study"], "trainer": TRAINER}
    profile = merged["profile"]
    if "reference" not in merged:
        raise SweepError(
            f"profile '{profile}' has no reference: give it a rate to start from in "
            f"[profiles.{profile}.reference]; `sweep calibrate` then measures a better one"
        )
    try:
        whole = TrainConfig(
            learning_rate=1.0,  # stands in: the study gives every trial its own
            model=_model(merged["model"], models),
            data=_data(data),
            program=program,
            **trainer,
        )
    except ValidationError as error:
        raise SweepError(describe(error, "trainer.")) from error
    try:
        return SweepConfig(**merged, trainer=whole)
    except ValidationError as error:
        raise SweepError(describe(error)) from error


def _model(name: object, models: Table) -> ModelConfig:
    if not isinstance(name, str):
        raise SweepError(f"{named('model')} must be text, got {shown(name)}")
    options = models.get(name, {})
    for key, value in options.items():
        if not isinstance(value, bool | int | float | str):
            raise SweepError(
                f"models.{name}.{key} must be a number, text, true or false, got {shown(value)}"
            )
    return ModelConfig(name=name, options=options)


def _program_config(values: Table, trainer: Table, searched: object) -> ProgramConfig:
    try:
        program = ProgramConfig(**values)
    except ValidationError as error:
        raise SweepError(describe(error, "program.")) from error
    if program.command:
        decay = trainer.get("weight_decay")
        check(
            program.command,
            program.resume,
            sizes=program.sizes,
            decay=decay if isinstance(decay, int | float) else 0.0,
            searched=searched == DECAY,
        )
        if program.pattern:
            Patterns(program.pattern)
    return program


def _data(values: Table) -> DataConfig:
    try:
        return DataConfig(**values)
    except ValidationError as error:
        raise SweepError(describe(error, "data.")) from error
