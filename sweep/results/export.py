"""The best configuration as YAML, and back."""

import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from optuna.study import Study
from optuna.trial import FrozenTrial
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studies.definition import PARAMETER
from sweep.config.messages import describe
from sweep.errors import SweepError
from sweep.formatting import format_with_error
from sweep.results.confirmation import Confirmation, stored_confirmation
from sweep.results.place import place_of
from sweep.results.record import read_study, read_trial
from trainers.config import TrainConfig
from trainers.refusals import shown

FORMAT = 1
LARGEST = 2**20  # characters of a best.yaml: it has two thousand or so


class _Loader(yaml.SafeLoader):
    """Plain YAML: no key twice, of which one would go unheard, and no aliases.

    A few lines of aliases of aliases come to gigabytes.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases are not read: write the value out", mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {shown(key.value)} stands there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Confirmed(_Strict):
    """What other seeds said of the rate.

    Attributes:
        seeds: the new ones.
        mean_perplexity: over them.
        standard_error: of that mean; None of a single seed.
    """

    seeds: list[int]
    mean_perplexity: float
    standard_error: float | None


class Origin(_Strict):
    """Where a configuration came from.

    Attributes:
        perplexity: the trial's lowest validation perplexity, reached in epoch `epoch`.
        directory: the trial's folder at the time, with its checkpoints.
        confirmed: whether it is the best over other seeds too (`sweep confirm`).
        confirmation: what those said of this rate; None where it was not among the finalists.
        cohort: trials that were trained side by side; from 2 on, a run alone differs by rounding.
    """

    study: str
    storage: str
    trial: int
    perplexity: float
    epoch: int
    by_hand: bool = False
    confirmed: bool = False
    confirmation: Confirmed | None = None
    cohort: int = 1
    data_source: str
    data_fingerprint: str
    directory: str
    versions: dict[str, str]
    git_commit: str | None = None


class Exported(_Strict):
    """A best.yaml."""

    format: int = Field(ge=FORMAT, le=FORMAT)
    trainer: str
    train: TrainConfig
    origin: Origin


def export(study: Study, trial: FrozenTrial, storage: str) -> Exported:
    """A trial's whole configuration and its origin.

    Args:
        study: one that `sweep run` made.
        trial: a finished trial of it.
        storage: its database, as the user names it.
    """
    record = read_study(study)
    values = trial.intermediate_values
    epoch = min(values, key=lambda step: values[step]) if values else record.epochs
    found = stored_confirmation(study)
    return Exported(
        format=FORMAT,
        trainer=record.trainer,
        train=replace(record.train, learning_rate=trial.params[PARAMETER]),
        origin=Origin(
            study=study.study_name,
            storage=storage,
            trial=trial.number,
            perplexity=trial.value if trial.value is not None else values[epoch],
            epoch=epoch,
            by_hand=read_trial(trial).by_hand,
            confirmed=bool(found and found.best and found.best.trial == trial.number),
            confirmation=_confirmed(found, trial.number),
            cohort=record.cohort or 1,
            data_source=record.data_source,
            data_fingerprint=str(record.identity["data_fingerprint"]),
            directory=str(place_of(study) / f"{trial.number:04d}"),
            versions=record.versions,
            git_commit=git_commit(),
        ),
    )


def _confirmed(found: Confirmation | None, number: int) -> Confirmed | None:
    finalist = None if found is None else found.of(number)
    if found is None or finalist is None or finalist.mean is None:
        return None
    return Confirmed(
        seeds=list(found.seeds),
        mean_perplexity=finalist.mean.mean,
        standard_error=finalist.mean.standard_error,
    )


def confirmed_words(origin: Origin) -> str:
    """Whether other seeds have repeated it, in one line."""
    found = origin.confirmation
    if found is None:
        return "not confirmed: `sweep confirm` trains the best rates over new seeds"
    value = format_with_error(found.mean_perplexity, found.standard_error)
    seeds = "seed" if len(found.seeds) == 1 else "seeds"
    mean = f"{value} over {len(found.seeds)} new {seeds}"
    return f"confirmed: {mean}" if origin.confirmed else f"not the best over new seeds: {mean}"


def write(exported: Exported, path: Path) -> None:
    """Writes a best.yaml.

    Raises:
        SweepError: the file cannot be written.
    """
    train = asdict(exported.train)
    fields = {**exported.model_dump(exclude={"train"}), "train": _lists(train)}
    order = ("format", "trainer", "train", "origin")
    text = yaml.safe_dump({key: fields[key] for key in order}, sort_keys=False)
    header = (
        f"# The best rate of study {exported.origin.study}. Train it again:\n"
        f"#   sweep train {path.name}\n"
    )
    try:
        path.write_text(header + text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise SweepError(f"{path} cannot be written: {error.strerror}") from error


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
        fields = yaml.load(text, _Loader)
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
        return Exported(**{str(key): value for key, value in fields.items()})
    except ValidationError as error:
        raise SweepError(f"{path}: {describe(error)}") from error


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
