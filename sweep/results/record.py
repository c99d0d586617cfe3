"""What a study and its trials store of themselves beside Optuna's own: every key, in one place.

The fields are attributes of the study and of its trials in the database, each under its own name.
Version 0 is what was stored before there was a version: a field that it lacked has a default. Up to
version 1 reports were counted by epochs. A field of a later version is left alone, so that what it
wrote is not lost. The orchestrator writes a study while it holds its lease, `sweep predict` its
forecasts beside that.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol

from optuna.study import Study
from optuna.trial import FrozenTrial
from pydantic import BaseModel, ConfigDict, ValidationError

from studies.decay import DecaySearch
from studies.objective import Objective
from studies.prior import Prior
from studies.rules import Setting
from sweep.config.messages import describe
from sweep.errors import SweepError
from sweep.execution.protocol import SHARED_TRAINER
from sweep.results.objective import stored_objective
from sweep.results.types import EPOCH
from trainers.config import DataConfig, LRSchedule, ModelConfig, TrainConfig
from trainers.length import steps_of

VERSION = 2
WITH = "with"  # of an identity: the parameter that is searched beside the rate
SIZES_FIELD = "program.sizes."  # of an identity: a placeholder that makes the model's size
SEARCH, FIXED = "search", "fixed"  # of a study: it asks for rates, or was given all of them
FORECAST_KEY = "forecast:"  # of `sweep predict`'s, before "BATCH:PARAMETERS:LENGTH"

_PARTS = {"model": ModelConfig, "data": DataConfig, "lr_schedule": LRSchedule}


class Stored(Protocol):
    """A study, or what Optuna lists of one."""

    study_name: str

    @property
    def user_attrs(self) -> dict[str, Any]:
        """Its attributes."""
        ...


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class RuleRecord(_Record):
    """A scaling rule and the rate that it had when the study was made."""

    name: str
    learning_rate: float
    formula: str = ""
    source: str = ""


class StudyRecord(_Record):
    """A study.

    Attributes:
        version: of this record.
        kind: `SEARCH`, or `FIXED` for one that was given its rates.
        identity: what makes its trials comparable, by flat keys.
        config: every trial's, but for its learning rate; read by `train`.
        directory: of its text and checkpoints; see `place`, as `token`.
        range: the lowest and the highest rate that is searched now.
        decay: how the weight decay is searched; None where it is one.
        exponents: of each rule, by batch and by parameters.
        transfer: the forecast that it was started from.
        tokens_per_byte: of the validation text; None where its bytes are unknown.
        cohort: trials side by side; None before that was measured.
        trials: the total asked for.
        unit: what its reports are counted by.
        floor: the share of a run before which no trial is pruned; epochs, by an earlier version.
        ran, spent_s: when it was opened last (seconds since 1970), and what all its runs took.
        finished: the criteria that it ran to its end on; empty while it has not, None of a study
            that was made before this was stored.
        script: the hash of its program's script.
        command, commit: the command that made it, and the working folder's commit then; "" where
            they are unknown.
        remaining, forecast_met: sentences; "" for none.
        confirmation: what `sweep confirm` found.
    """

    version: int = 0
    kind: str = SEARCH
    identity: dict[str, str | int | float | bool | None]
    config: dict[str, Any]
    directory: str = ""
    token: str = ""
    parameters: int
    range: tuple[float, float]
    rules: tuple[RuleRecord, ...] = ()
    profile: str = ""
    device: str = ""
    reference: dict[str, Any] | None = None
    reference_text: str = ""
    reference_perplexity: float | None = None
    unigram_perplexity: float | None = None
    unknown_share: float | None = None
    tokens_per_byte: float | None = None
    training_tokens: int | None = None
    training_sequences: int | None = None
    steps_per_epoch: int | None = None
    exponents: dict[str, tuple[float, float]] = {}
    versions: dict[str, str] = {}
    script: str = ""
    command: str = ""
    commit: str = ""
    transfer: dict[str, Any] | None = None
    cohort: int | None = None
    trials: int = 0
    sampler: str = "learning-rate"
    pruner: str = ""
    unit: str = EPOCH
    floor: float = 0.0
    priors: dict[str, Prior] = {}
    decay: DecaySearch | None = None
    ran: float = 0.0
    spent_s: float = 0.0
    finished: dict[str, Any] | None = None
    remaining: str = ""
    forecast_met: str = ""
    confirmation: dict[str, Any] | None = None

    @property
    def fixed(self) -> bool:
        """Whether it was given its rates."""
        return self.kind == FIXED

    @property
    def trainer(self) -> str:
        """The trainer's import path."""
        return str(self.identity["trainer"])

    @property
    def batch_size(self) -> int:
        """In sequences."""
        return int(self.identity["batch_size"] or 0)

    @property
    def epochs(self) -> int:
        """Of a whole run; 0 where it is counted in steps or tokens."""
        return int(self.identity["epochs"] or 0)

    @property
    def length(self) -> int | None:
        """What a whole run's last report is counted as; None where only the trainer knows it."""
        if self.unit == EPOCH:
            return self.epochs
        if self.trainer == SHARED_TRAINER:
            return self.steps
        return int(self.identity.get("steps") or 0) or None

    @property
    def steps(self) -> int | None:
        """Optimizer steps of a whole run; None where they are unknown."""
        budget = (int(self.identity.get(name) or 0) for name in ("epochs", "steps", "tokens"))
        counted = {"per_epoch": self.steps_per_epoch or 0, "targets": self.training_tokens or 1}
        return steps_of(*budget, **counted) or None

    @property
    def precision(self) -> str:
        """Its name."""
        return str(self.identity["precision"])

    @property
    def seed(self) -> int:
        """Of weights, data order and dropout."""
        return int(self.identity.get("seed") or 0)

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.identity["model.name"])

    @property
    def data_source(self) -> str:
        """The text's name."""
        return str(self.identity["data_source"])

    @property
    def objective(self) -> Objective:
        """What its trials are measured by."""
        return stored_objective(self.config, self.tokens_per_byte)

    @property
    def train(self) -> TrainConfig:
        """Every trial's configuration but for its learning rate.

        Raises:
            SweepError: this version cannot train it.
        """
        try:
            return TrainConfig(**_known(TrainConfig, self.config))
        except ValidationError as error:
            raise SweepError(f"the study's configuration: {describe(error)}") from error

    @property
    def rule_rates(self) -> dict[str, float]:
        """Each rule's own rate."""
        return {rule.name: rule.learning_rate for rule in self.rules}


class TrialRecord(_Record):
    """A trial.

    Attributes:
        owner: the lease of the orchestrator that runs it.
        nearest_rule, multiple: the rule whose rate is nearest, and the trial's as its multiple.
        multiples: of every rule's rate.
        outcome, reason: how it ended; the reason in words.
        paused, looked: why it was left as it is, "" while it trains, and after which step.
        steps: of the whole run, where only its trainer knows them.
        trunk: its first steps that were taken over from a shorter run's.
        audit: why it would have been left, had it not run on to check the pruner.
        by_hand: entered by `sweep add`.
        setbacks: what went wrong outside it, once for each attempt.
        micro_batch: rows computed at once, where that had to be limited.
        anew: it could not be repeated, so that its rate begins anew.
        metrics: whatever else its trainer measures, at its last report.
        whole_run: steps, skipped steps, speed and memory over the whole run.
    """

    owner: str = ""
    nearest_rule: str = ""
    multiple: float | None = None
    multiples: dict[str, float] = {}
    outcome: str = ""
    reason: str = ""
    paused: str = ""
    looked: int = 0
    steps: int = 0
    trunk: int = 0
    audit: str = ""
    by_hand: bool = False
    setbacks: tuple[str, ...] = ()
    micro_batch: int = 0
    whole_run: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    anew: bool = False
    train_loss: float | None = None
    accuracy: float | None = None
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None
    skipped_steps: int | None = None


def made_by_sweep(study: Stored) -> bool:
    """Whether a study is one of this tool's; its identity is written last."""
    return "identity" in study.user_attrs


def read_study(study: Stored) -> StudyRecord:
    """What a study says of itself.

    Raises:
        SweepError: it was not made by this tool, or what it stores cannot be read.
    """
    attributes = study.user_attrs
    if "identity" not in attributes:
        raise SweepError(f"study '{study.study_name}' was not made by sweep: choose another one")
    try:
        known = {key: value for key, value in attributes.items() if value is not None}
        return StudyRecord.model_validate(known)
    except ValidationError as error:
        raise SweepError(f"study '{study.study_name}' cannot be read: {describe(error)}") from error


def write_study(study: Study, **changes: Any) -> None:
    """Stores fields of a study's record, the identity last: one that has it has all the others."""
    unknown = changes.keys() - StudyRecord.model_fields.keys()
    assert not unknown, unknown
    for key in sorted(changes, key=lambda key: key == "identity"):
        study.set_user_attr(key, changes[key])


def without_spelling(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as it is compared: of the user's own text the content counts, not the name."""
    if "data.content" not in identity:
        return dict(identity)
    # The fingerprint is of all that training sees; the content, of the files that it came from.
    implied = {"data_source", *(["data.content"] if "data_fingerprint" in identity else [])}
    return {k: value for k, value in identity.items() if k not in {"data.name", *implied}}


def stored_forecast(
    study: Stored, setting: Setting, *, unsaid: bool = False
) -> dict[str, Any] | None:
    """What `sweep predict` forecast of a setting from a study; None where it did not.

    Args:
        study: a study that it may rest on.
        setting: of which it was asked.
        unsaid: whether it may be one of an earlier version, which knew no lengths.
    """
    stored: dict[str, Any] | None = study.user_attrs.get(_forecast_key(setting))
    if stored is None and unsaid:
        stored = study.user_attrs.get(_forecast_key(replace(setting, tokens=None, sequences=None)))
    return stored


def stored_forecasts(study: Stored) -> list[dict[str, Any]]:
    """All that `sweep predict` forecast from a study."""
    return [
        stored
        for key, stored in study.user_attrs.items()
        if key.startswith(FORECAST_KEY) and isinstance(stored, dict)
    ]


def write_forecast(study: Study, setting: Setting, forecast: Mapping[str, Any]) -> None:
    """Stores a forecast in a study that it rests on, where nothing else writes.

    It takes no lease: a sweep may go on in that study meanwhile.
    """
    study.set_user_attr(_forecast_key(setting), dict(forecast))


def _forecast_key(setting: Setting) -> str:
    length = "" if setting.length is None else f":{setting.length:.3g}"
    return f"{FORECAST_KEY}{setting.batch_size}:{setting.parameters}{length}"


def read_trial(trial: FrozenTrial) -> TrialRecord:
    """What a trial says of itself."""
    return trial_record(trial.user_attrs)


def trial_record(attributes: Mapping[str, Any]) -> TrialRecord:
    """A trial's record; what another program has put in a field's place is left out."""
    try:
        return TrialRecord.model_validate(attributes)
    except ValidationError as error:
        wrong = {str(detail["loc"][0]) for detail in error.errors()}
        kept = {key: value for key, value in attributes.items() if key not in wrong}
        return TrialRecord.model_validate(kept)


def _known(kind: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that this version has: one of another version's may have more."""
    assert is_dataclass(kind)
    names = {field.name for field in fields(kind)}
    return {
        key: _known(_PARTS[key], value) if key in _PARTS and isinstance(value, Mapping) else value
        for key, value in stored.items()
        if key in names
    }
