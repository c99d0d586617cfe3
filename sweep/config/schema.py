"""The settings and their constraints, a class for each table, and all of them together."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PlainValidator,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from sweep.url import StorageUrl
from trainers.config import PositiveFloat, PositiveInt, TrainConfig
from trainers.refusals import shown


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _cohort(value: object) -> int | str:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f'study.cohort must be a number of trials, or "auto", got {shown(value)}')


def _storage(value: object) -> StorageUrl:
    if isinstance(value, str | StorageUrl):
        return StorageUrl(value)
    raise ValueError(f"study.storage (--storage) must be text, got {shown(value)}")


def _share(value: object) -> float:
    """Ray's rule: a part of one, or whole ones."""
    if type(value) in (int, float) and (0 < float(str(value)) <= 1 or value in range(1, 1025)):
        return float(str(value))
    raise ValueError(
        "study.gpus_per_trial (--gpus-per-trial) and study.cpus_per_trial must be a part of 1, "
        f"such as 0.5, or a whole number, got {shown(value)}"
    )


def _floor(value: object) -> float:
    if type(value) in (int, float) and 0 <= float(str(value)) < 1:
        return float(str(value))
    raise ValueError(
        "study.floor is the share of a run that a trial gets before it is compared, from 0 to "
        f"below 1 (earlier versions counted epochs), got {shown(value)}"
    )


def _devices(value: object) -> str | tuple[int, ...]:
    """ "all", or the numbers of CUDA devices, as a list or as the flag has them: "0,2"."""
    numbers = value.split(",") if isinstance(value, str) else value
    if isinstance(value, str) and value.strip() in ("", "all"):
        return "all" if value.strip() else ()
    try:
        if isinstance(numbers, list) and not any(isinstance(n, bool | float) for n in numbers):
            found = tuple(int(number) for number in numbers)
            if min(found, default=0) >= 0 and len(set(found)) == len(found):
                return found
    except (TypeError, ValueError):
        pass
    raise ValueError(
        f'study.devices (--devices) must be different numbers such as 0,1,2, or "all", '
        f"got {shown(value)}"
    )


class StudySettings(_Strict):
    """[study]: the search around the trainer; the shipped sweep.toml describes each key."""

    name: str
    storage: Annotated[StorageUrl, PlainValidator(_storage)]
    directory: str
    trials: PositiveInt
    until: str
    timeout: Annotated[FiniteFloat, Field(ge=0)]
    trial_timeout: Annotated[FiniteFloat, Field(ge=0)]
    hang_timeout: Annotated[FiniteFloat, Field(ge=0)]
    range: Annotated[tuple[PositiveFloat, ...], Field(max_length=2)]
    rates: tuple[PositiveFloat, ...]
    with_: Annotated[Literal["", "weight_decay"], Field(alias="with")]
    decay_range: Annotated[tuple[PositiveFloat, ...], Field(max_length=2)]
    sampler: str
    pruner: str
    floor: Annotated[float, PlainValidator(_floor)]
    startup: PositiveInt
    retries: Annotated[int, Field(ge=0)]
    publish: StrictBool
    cohort: Annotated[int | str, PlainValidator(_cohort)]
    transfer: StrictBool
    workers: PositiveInt
    devices: Annotated[str | tuple[int, ...], PlainValidator(_devices)]
    executor: str
    ray_address: str
    gpus_per_trial: Annotated[float, PlainValidator(_share)]
    cpus_per_trial: Annotated[float, PlainValidator(_share)]
    trainer: str
    same_program: StrictBool
    keep: Literal["best", "all"]
    tensorboard: str
    view: str

    @model_validator(mode="before")
    @classmethod
    def _without_a_search(cls, values: Any) -> Any:
        """Rates that are given are trained to their end, and nothing else is."""
        if not isinstance(values, dict) or not (rates := values.get("rates")):
            return values
        whole = {"pruner": "none", "until": "", "transfer": False}
        return {**values, **whole, **({"trials": len(rates)} if isinstance(rates, list) else {})}


class SlurmSettings(_Strict):
    """[slurm]: what a trial's job takes; the shipped sweep.toml describes each key."""

    cluster: Literal["slurm", "local"]
    jobs: PositiveInt
    partition: str
    account: str
    nodes: PositiveInt
    gpus: Annotated[int, Field(ge=0, strict=True)]
    cpus: PositiveInt
    time: PositiveInt
    memory: Annotated[FiniteFloat, Field(ge=0)]
    extra: dict[str, StrictBool | StrictInt | StrictFloat | StrictStr]


class ReferenceSettings(_Strict):
    """[reference]: a rate known to be good, and the setting in which it was."""

    learning_rate: PositiveFloat
    batch_size: PositiveInt
    parameters: PositiveInt
    precision: str
    perplexity: Annotated[FiniteFloat, Field(ge=0)]
    model: str
    data: str
    epochs: Annotated[int, Field(ge=0, strict=True)]
    swept: bool
    tokenizer: str = "words"
    weight_decay: Annotated[FiniteFloat, Field(ge=0)] = 0.0


class RuleSettings(_Strict):
    """[[rules]]: a rule of the user's own: a power of batch and model size, or any function."""

    name: Annotated[str, Field(min_length=1)]
    batch_exponent: FiniteFloat | None = None
    parameter_exponent: FiniteFloat | None = None
    function: str = ""
    source: str = "sweep.toml"

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        for field in ("batch_exponent", "parameter_exponent"):
            if (getattr(self, field) is None) != bool(self.function):
                wrong = "is set beside a function" if self.function else "is missing"
                raise ValueError(f"rules: '{self.name}': {field} {wrong}")
        return self


class SweepConfig(_Strict):
    """One resolved configuration: a profile chosen, every layer merged, everything validated."""

    profile: str
    device: str
    model: str
    study: StudySettings
    slurm: SlurmSettings
    trainer: TrainConfig
    reference: ReferenceSettings
    rules: tuple[RuleSettings, ...] = ()
