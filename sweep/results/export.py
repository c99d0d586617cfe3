"""The best configuration as YAML, and back."""

import math
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from optuna.study import Study
from optuna.trial import FrozenTrial
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from studies.decay import decay_of
from studies.objective import Objective
from studies.trials import rate_of
from sweep.config.messages import describe
from sweep.errors import SweepError
from sweep.formatting import format_with_error, one_line
from sweep.outputs import STDOUT, write_output
from sweep.results.confirmation import Confirmation, stored_confirmation
from sweep.results.objective import objective_of
from sweep.results.place import place_of
from sweep.results.record import read_study, read_trial
from sweep.results.types import EPOCH, STEP
from sweep.results.yaml_text import dump, load
from sweep.url import StorageUrl
from trainers.config import FIRST, TrainConfig, flat

FORMAT = 1
TOLD = (
    "learning_rate",
    "weight_decay",
    "batch_size",
    "precision",
    "epochs",
    "steps",
    "tokens",
    "seed",
    "metric",
    "direction",
    "program",
)  # what of a configuration a program can be told
TOLD_LATER = ("weight_decay",)  # by earlier versions it was not
LARGEST = 2**20  # characters of a best.yaml: it has two thousand or so


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Confirmed(_Strict):
    """What other seeds said of the rate.

    Attributes:
        seeds: the new ones.
        mean: of their values.
        standard_error: of that mean; None of a single seed.
    """

    seeds: list[int]
    mean: float = Field(validation_alias=AliasChoices("mean", "mean_perplexity"))
    standard_error: float | None


class Origin(_Strict):
    """Where a configuration came from.

    Attributes:
        value: the trial's best, of the metric that `train` names, reached at `step`; in an earlier
            version's file called `perplexity`, or reached at `epoch`.
        directory: the trial's folder at the time, with its checkpoints.
        confirmed: whether it is the best over other seeds too (`sweep confirm`).
        confirmation: what those said of this rate; None where it was not among the finalists.
        cohort: trials that were trained side by side; from 2 on, a run alone differs by rounding.
        options: the names of the model's options, so that a lost one is missed; None of an earlier
            version's file.
    """

    study: str
    storage: str
    trial: int
    value: float = Field(validation_alias=AliasChoices("value", "perplexity"))
    step: int | None = None
    epoch: int | None = None
    by_hand: bool = False
    confirmed: bool = False
    confirmation: Confirmed | None = None
    cohort: int = 1
    data_source: str
    data_fingerprint: str
    directory: str
    options: list[str] | None = None
    versions: dict[str, str]
    git_commit: str | None = None

    @property
    def unit(self) -> str:
        """What its report was counted by."""
        return EPOCH if self.step is None else STEP

    @property
    def place(self) -> int:
        """The report that was the lowest, so counted."""
        return (self.epoch if self.step is None else self.step) or 0


class Exported(_Strict):
    """A best.yaml."""

    format: int = Field(ge=FORMAT, le=FORMAT)
    trainer: str
    train: TrainConfig
    origin: Origin

    @property
    def objective(self) -> Objective:
        """What its value is."""
        return objective_of(self.train)


def export(study: Study, trial: FrozenTrial, storage: StorageUrl | str) -> Exported:
    """A trial's whole configuration and its origin.

    Args:
        study: one that `sweep run` made.
        trial: a finished trial of it.
        storage: its database, as the user names it.
    """
    record = read_study(study)
    objective = record.objective
    values = {e: value for e, value in trial.intermediate_values.items() if objective.valid(value)}
    at = min(values, key=lambda step: values[step]) if values else record.length
    place = {EPOCH: record.epochs} if at is None else {record.unit: at}
    best = min(values.values()) if trial.value is None else trial.value
    found = stored_confirmation(study)
    return Exported(
        format=FORMAT,
        trainer=record.trainer,
        train=replace(as_trained(record.train, trial), keep_trunk=False),
        origin=Origin(
            study=study.study_name,
            storage=str(StorageUrl(storage)),
            trial=trial.number,
            value=objective.signed(best),
            **place,
            by_hand=read_trial(trial).by_hand,
            confirmed=bool(found and found.best and found.best.trial == trial.number),
            confirmation=_confirmed(found, trial.number),
            cohort=record.cohort or 1,
            data_source=record.data_source,
            data_fingerprint=str(record.identity["data_fingerprint"]),
            directory=str(place_of(study) / f"{trial.number:04d}"),
            options=[] if record.train.program.command else list(record.train.model.options),
            versions=record.versions,
            git_commit=git_commit(),
        ),
    )


def as_trained(train: TrainConfig, trial: FrozenTrial) -> TrainConfig:
    """A study's configuration with what was searched, as a trial had it."""
    rate, decay = rate_of(trial) or math.nan, decay_of(trial)
    decay = train.weight_decay if decay is None else decay
    return replace(train, learning_rate=rate, weight_decay=decay)


def _confirmed(found: Confirmation | None, number: int) -> Confirmed | None:
    finalist = None if found is None else found.of(number)
    if found is None or finalist is None or finalist.mean is None:
        return None
    return Confirmed(
        seeds=list(found.seeds),
        mean=finalist.mean.mean,
        standard_error=finalist.mean.standard_error,
    )


def confirmed_words(exported: Exported) -> str:
    """Whether other seeds have repeated it, in one line."""
    origin = exported.origin
    found = origin.confirmation
    if found is None:
        return "not confirmed: `sweep confirm` trains the best rates over new seeds"
    value = format_with_error(exported.objective, found.mean, found.standard_error)
    seeds = "seed" if len(found.seeds) == 1 else "seeds"
    mean = f"{value} over {len(found.seeds)} new {seeds}"
    return f"confirmed: {mean}" if origin.confirmed else f"not the best over new seeds: {mean}"


def write(exported: Exported, path: Path, *, force: bool = False) -> None:
    """Writes a best.yaml.

    Args:
        exported: the configuration.
        path, force: as of `write_output`.

    Raises:
        SweepError: as of `write_output`.
    """
    train = asdict(exported.train)
    if exported.train.program.command:  # the rest is this tool's own trainer's
        train = {name: train[name] for name in TOLD if train[name] or name not in TOLD_LATER}
    else:
        del train["program"]
    fields = {**exported.model_dump(exclude={"train"}), "train": _lists(train)}
    order = ("format", "trainer", "train", "origin")
    text = dump({key: fields[key] for key in order})
    named = "best.yaml" if path == STDOUT else path.name
    header = (
        f"# The best rate of study {one_line(exported.origin.study)}. Train it again:\n"
        f"#   {_again(exported.train, named)}\n"
    )
    write_output(path, header + text, force=force)


def _again(train: TrainConfig, named: str) -> str:
    command = "sweep", "train", named
    program = train.program
    return shlex.join((*command, "--", *program.command) if program.command else command)


def read(path: Path) -> Exported:
    """Reads a best.yaml; it may come from a stranger, so it is data and nothing else.

    Raises:
        SweepError: unreadable, no YAML, or not a best.yaml; the message names the key.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise SweepError(f"{path} is too large to be a file of `sweep export`")
        fields = load(text)
    except FileNotFoundError:
        raise SweepError(f"there is no file {path}: `sweep export` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SweepError(f"{path} cannot be read: {reason}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SweepError(f"{path} is not valid YAML: {_what(error)}") from error
    if not isinstance(fields, dict):
        raise SweepError(f"{path} is not a file of `sweep export`: it has no keys")
    try:
        found = Exported(**{str(key): value for key, value in fields.items()})
    except ValidationError as error:
        raise SweepError(f"{path}: {describe(error)}") from error
    if missing := _missing(fields["train"], found.origin):
        raise SweepError(
            f"{path}: train.{missing[0]} is missing, without which it would be another run: "
            "`sweep export` writes it again"
        )
    return found


def _missing(train: Mapping[str, Any], origin: Origin) -> list[str]:
    """The settings that a file must have and has not: no default stands in for a lost line."""
    if isinstance(program := train.get("program"), Mapping) and program.get("command"):
        return [name for name in TOLD if name not in train and name not in TOLD_LATER]
    options = [f"model.options.{name}" for name in origin.options or ()]
    there = {*flat(train), *(["model.options"] if "options" in train.get("model", {}) else [])}
    return sorted({*FIRST, "model.options", *options} - there)


def git_commit() -> str | None:
    """The working folder's commit, None outside a repository."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None


def _lists(value: Any) -> Any:
    """YAML's safe subset has no tuples."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _what(error: Exception) -> str:
    """A YAML error in few words; its own text shows the line with an arrow below."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"
    return " ".join(str(error).split())[:200]
